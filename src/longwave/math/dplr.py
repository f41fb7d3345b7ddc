"""Diagonal plus low rank systems: their bilinear discretisation, and how a few conjugate pairs stand for real numbers.

In continuous time x' = (diag(Λ) − P Pᴴ) x + B u, one mode of each conjugate pair being kept. An inner product over the
whole state is then s · x = 2 Re Σ s_n x_n, a real number, written `paired`. The bilinear rule makes of it

    x[t] = Ā x[t−1] + B̄ u[t],   Ā = I + diag(A) − Q S,   (Q S) x = Q (S · x),

again diagonal plus low rank.
"""

from typing import NamedTuple

import torch

from longwave.shapes import Complex, Float, Tensor


class DiscreteDPLR(NamedTuple):
    """Ā = I + diag(A) − Q S and B̄ = B; A is the increment a − 1, which keeps the digits of slow modes."""

    A: Complex[Tensor, "dim modes"]
    Q: Complex[Tensor, "dim modes rank"]
    S: Complex[Tensor, "dim rank modes"]
    B: Complex[Tensor, "dim modes"]


def bilinear_dplr(
    dt: Float[Tensor, " dim"],
    Lambda: Complex[Tensor, "dim modes"],
    P: Complex[Tensor, "dim modes rank"],
    B: Complex[Tensor, "dim modes"],
) -> DiscreteDPLR:
    """The bilinear rule for x' = (diag(Λ) − P Pᴴ) x + B u.

    With E = dt/(2 − dt Λ) and G = E − E P (I + Pᴴ E P)⁻¹ Pᴴ E, which is (2/dt − Λ + P Pᴴ)⁻¹ by Woodbury's identity:
    Ā = (4/dt) G − I,  B̄ = 2 G B;  hence A = 2 dt Λ/(2 − dt Λ),  Q = (4/dt) E P (I + Pᴴ E P)⁻¹,  S = Pᴴ E.

    Args:
        dt: step size of each channel, > 0.
        Lambda: eigenvalues of the normal part, one of each conjugate pair.
        P: low-rank factor; the same on both sides, so that Re Λ ≤ 0 gives a stable system.
        B: input weights.

    Returns:
        DiscreteDPLR(A, Q, S, B).

    Numerics: float64 whatever the dtype of the arguments; A = Ā's diagonal − 1 without cancellation.

    Source: Gu et al. 2022 (S4), equation 3 and appendix C.2, where Āx is spelled as two products.

    Example:
        >>> one = torch.ones(1, 1, dtype=torch.complex128)
        >>> bilinear_dplr(torch.ones(1), -one, 0 * one[..., None], one).B
        tensor([[0.6667+0.j]], dtype=torch.complex128)
    """
    dt = dt.double()[:, None]
    Lambda, P, B = (x.to(torch.complex128) for x in (Lambda, P, B))
    E = dt / (2 - dt * Lambda)
    EP, S = E[..., None] * P, P.mH * E[:, None]
    inner = torch.eye(P.shape[-1], dtype=dt.dtype, device=dt.device) + paired(S, P.mT)
    EP = torch.linalg.solve(inner.mT.to(EP.dtype), EP.mT).mT
    Q, B = 4 / dt[..., None] * EP, 2 * (E * B - (EP @ paired(S, B[:, None]).to(EP.dtype))[..., 0])
    return DiscreteDPLR(2 * Lambda * E, Q, S, B)


def paired(c: Complex[Tensor, "*batch m modes"], x: Complex[Tensor, "*batch n modes"]) -> Float[Tensor, "*batch m n"]:
    """Every row c times every state x, over all modes and their conjugates: 2 Re Σ c x."""
    return as_functional(c) @ as_real(x).mT


def combined(
    weights: Float[Tensor, "*batch m n"], x: Complex[Tensor, "*batch n modes"]
) -> Complex[Tensor, "*batch m modes"]:
    """Sums of n rows or states with real weights."""
    return as_complex(weights @ as_real(x))


def as_real(x: Complex[Tensor, "*batch modes"]) -> Float[Tensor, "*batch two_modes"]:
    """A state as real numbers, Re and Im in turn."""
    return torch.view_as_real(x.resolve_conj()).flatten(-2)


def as_complex(x: Float[Tensor, "*batch two_modes"]) -> Complex[Tensor, "*batch modes"]:
    """The inverse of `as_real`."""
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))


def as_functional(c: Complex[Tensor, "*batch modes"]) -> Float[Tensor, "*batch two_modes"]:
    """The real row whose product with `as_real` of x is 2 Re Σ c x."""
    return 2 * as_real(c.conj())
