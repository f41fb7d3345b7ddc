"""A dense system in its eigenvectors: diagonal, with what the change of coordinates costs."""

import math
from typing import NamedTuple

import torch

from longwave.errors import ConfigError, UnsupportedError
from longwave.math.statespace import StateSpace
from longwave.shapes import Complex, Float, Tensor

_HALF = math.sqrt(torch.finfo(torch.float64).eps)  # half of the digits


class Diagonal(NamedTuple):
    """x[t] = a x[t−1] + b u[t],  y[t] = Re(c x[t]) + D u[t], and how far that is from the dense system it came from.

    ``condition`` is κ(V) = ‖V‖ ‖V⁻¹‖ of the eigenvectors, ``error`` max|k − k'| / max|k'|, with k the impulse response
    of this system and k' that of the dense one.
    """

    a: Complex[Tensor, "*channels modes"]
    b: Complex[Tensor, "*channels modes in"]
    c: Complex[Tensor, "*channels out modes"]
    D: Float[Tensor, "*channels out in"]
    condition: Float[Tensor, "*channels"]
    error: Float[Tensor, "*channels"]


def to_diagonal(system: StateSpace, length: int, *, tolerance: float = _HALF) -> Diagonal:
    """Diagonalise a system: with A = V diag(a) V⁻¹ and x = V z,  b = V⁻¹ B,  c = C V.

    Args:
        system: any system, or a bank of them.
        length: number of lags over which the error is measured, ≥ 1.
        tolerance: largest relative error that is accepted, of the impulse response and of A itself. The default is √ε,
            half of the digits of float64.

    Returns:
        Diagonal(a, b, c, D, condition, error), with all the modes, the conjugates too, each of which stands for itself:
        `StateSpace.from_diagonal` takes the first four with ``conjugate_pairs=False``.

    Raises:
        UnsupportedError: a system cannot be diagonalised within the tolerance; the message has both figures.
        ConfigError: length or tolerance is out of its range.

    Numerics: float64. An eigensolver's V diag(a) V⁻¹ differs from A by up to κ(V) ε ‖A‖, and an error in the state is
        magnified as much; so the condition must be below tolerance / ε. It is 1 for normal matrices, S4's without its
        low-rank term; for HiPPO-LegS it grows like 2^{4N/3}; and it is infinite for LagT, which has one eigenvector.

    Source: Bauer and Fike, 1960, Norms and exclusion theorems; for LegS, Gu et al. 2022 (S4), Lemma 3.2.

    Not to be confused with `legs_nplr`, which diagonalises the normal part alone.

    Example:
        >>> A = torch.tensor([[0.9, 0.5], [0.0, 0.4]], dtype=torch.float64)
        >>> one = torch.ones(2, 1, dtype=torch.float64)
        >>> to_diagonal(StateSpace(A, one, one.mT, 0 * A[:1, :1]), length=100).a
        tensor([0.9000+0.j, 0.4000+0.j], dtype=torch.complex128)
    """
    if length < 1 or not tolerance > 0:
        raise ConfigError(f"to_diagonal: length={length} and tolerance={tolerance} must be positive")
    a, V = torch.linalg.eig(system.A)
    condition = torch.linalg.cond(V)
    _check("condition of its eigenvectors", condition, tolerance / torch.finfo(torch.float64).eps)
    b, c = torch.linalg.solve(V, system.B.to(V.dtype)), system.C.to(V.dtype) @ V
    truth = system.impulse_response(length)
    gap = (_response(a, b, c, system.D, length) - truth).abs().flatten(-3).amax(-1)
    error = gap / truth.abs().flatten(-3).amax(-1).clamp(min=torch.finfo(torch.float64).tiny)
    _check(f"relative error over {length} positions", error, tolerance)
    return Diagonal(a, b, c, system.D, condition, error)


def _response(a: Tensor, b: Tensor, c: Tensor, D: Tensor, length: int) -> Float[Tensor, "*channels out in length"]:
    """k[l] = Re(c diag(aˡ) b) + D δ[l], position by position: memory does not hold modes × length."""
    k = []
    for _ in range(length):
        k.append((c @ b).real)
        b = a[..., None] * b
    return torch.stack([k[0] + D, *k[1:]], -1)


def _check(what: str, figures: Float[Tensor, "*channels"], limit: float) -> None:
    """Refuse the worst of some systems, by its figure."""
    worst = figures.max().item()
    if not worst <= limit:  # nan is no number to accept
        raise UnsupportedError(
            f"to_diagonal: the {what} is {worst:.2g}, above {limit:.2g}: the system is too far from normal; keep it "
            "dense, take fewer states, or give a larger tolerance"
        )
