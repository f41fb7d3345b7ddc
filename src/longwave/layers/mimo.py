"""Complex matrices between real channels and complex modes: each product with a sequence is one real matrix product."""

import torch
import torch.nn.functional as F

from longwave.shapes import Complex, Float, Tensor


def drive(u: Float[Tensor, "*batch in"], B: Complex[Tensor, "modes in"]) -> Complex[Tensor, "*batch modes"]:
    """B u at every position."""
    # Complex numbers as pairs of real ones, the real part first.
    pairs = torch.view_as_real(B).transpose(1, 2).flatten(0, 1)
    return torch.view_as_complex(F.linear(u, pairs).unflatten(-1, (-1, 2)))


def read(x: Complex[Tensor, "*batch modes"], C: Complex[Tensor, "out modes"]) -> Float[Tensor, "*batch out"]:
    """Re(C x) at every position."""
    pairs = torch.view_as_real(C.conj().resolve_conj()).flatten(1)
    return F.linear(torch.view_as_real(x).flatten(-2), pairs)


def impulse_response(
    A: Complex[Tensor, " modes"],
    B: Complex[Tensor, "modes in"],
    C: Complex[Tensor, "out modes"],
    D: Float[Tensor, " out"],
    length: int,
) -> Float[Tensor, "out in length"]:
    """k[l] = Re(C diag(Aˡ) B) + diag(D) δ[l]; the powers are taken in double precision and rounded once."""
    powers = A.to(torch.complex128)[:, None] ** torch.arange(length, device=A.device)
    k = torch.einsum("on,ni,nl->oil", C, B, powers.to(A.dtype)).real
    return torch.cat([k[..., :1] + torch.diag(D)[..., None], k[..., 1:]], dim=-1)
