"""Complex matrices between real channels and complex modes: each product with a sequence is one real matrix product."""

from typing import Any

import torch
import torch.nn.functional as F

from longwave.shapes import Complex, Float, Tensor


def drive(u: Float[Tensor, "*batch in"], B: Complex[Tensor, "modes in"]) -> Complex[Tensor, "*batch modes"]:
    """B u at every position."""
    # Complex numbers as pairs of real ones, the real part first.
    pairs = torch.view_as_real(B).transpose(1, 2).flatten(0, 1)
    return torch.view_as_complex(F.linear(u, pairs).unflatten(-1, (-1, 2)))


def read(
    x: Complex[Tensor, "*batch modes"],
    C: Complex[Tensor, "out modes"],
    D: Float[Tensor, " out"],
    u: Float[Tensor, "*batch out"],
) -> Float[Tensor, "*batch out"]:
    """Re(C x) + D u at every position."""
    pairs = torch.view_as_real(C.conj().resolve_conj()).flatten(1)
    y = F.linear(torch.view_as_real(x).flatten(-2), pairs)
    return torch.addcmul(y, D, u) if torch.compiler.is_compiling() else _Skip.apply(y, D, u)


class _Skip(torch.autograd.Function):
    """y + D u in the memory of y. Backward, torch's own addcmul takes the memory of two sequences, and this of one."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, D: Tensor, u: Tensor) -> Tensor:
        ctx.save_for_backward(D, u)
        ctx.mark_dirty(y)
        return y.addcmul_(D, u)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (grad,), (D, u) = grads, ctx.saved_tensors
        products = grad * u
        grad_D = products.flatten(0, -2).sum(0)
        free = None if torch.is_grad_enabled() else products  # with create_graph they are still needed
        return grad, grad_D, torch.mul(grad, D, out=free)


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
