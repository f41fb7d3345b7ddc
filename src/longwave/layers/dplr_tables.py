"""Tables of the powers of a diagonal plus low rank matrix Ā = I + diag(A) − Q S: T of its steps at once.

A step is O(N), and so is each of T of them, a table of the rows S Āʲ being given: with a = 1 + A,

    Āᵀ = diag(aᵀ) − Σ_{j<T} diag(a^{T−1−j}) Q (S Āʲ).

No dense matrix is ever multiplied with another of its powers. The tables hold real numbers: columns as `as_real` writes
states, rows as `as_functional` does, so that every product with a state is a plain one.
"""

from typing import NamedTuple

import torch

from longwave.math.dplr import DiscreteDPLR, as_functional, as_real, paired
from longwave.ops import krylov
from longwave.shapes import Complex, Float, Tensor


class PowerTables(NamedTuple):
    """What T = ``span`` steps of a system need; i falls and j rises from one row to the next, as Āᵀ⁻¹⁻ʲ meets u[j]."""

    a: Complex[Tensor, "dim modes"]
    aT: Complex[Tensor, "dim modes"]  # aᵀ
    AB: Float[Tensor, "dim span state"]  # Āⁱ B
    CA: Float[Tensor, "dim span state"]  # C Āʲ⁺¹
    aQ: Float[Tensor, "dim span_rank state"]  # diag(aⁱ) Q, for every column of Q in turn
    SA: Float[Tensor, "dim span_rank state"]  # S Āʲ, for every row of S in turn
    kernel: Float[Tensor, "dim span"]  # C Āʲ B


def power_tables(system: DiscreteDPLR, C: Complex[Tensor, "dim modes"], span: int) -> PowerTables:
    """The tables of ``span`` steps.

    Args:
        system: the discrete system.
        C: output weights.
        span: T, a power of two.

    Returns:
        PowerTables; O(span · N) numbers and operations.

    Numerics: float64.
    """
    A, Q, S, B = (x.to(torch.complex128) for x in system)
    Q, B, C = Q.mT, B[:, None], C.to(A.dtype)[:, None]
    none = A.new_empty(len(A), 0, A.shape[1])
    AB = as_real(krylov(A, S, Q, B, span, reverse=True).rows.flatten(1, 2))
    aQ = as_real(krylov(A, none, none, Q, span, reverse=True).rows.flatten(1, 2))
    # 2 Re Σ c x is the product of the rows 2 conj(c), and these are rows of the conjugate system.
    conjugate = A.conj(), Q.conj(), S.conj()
    CA = C + A[:, None] * C - paired(C, Q).to(A.dtype) @ S
    CA = as_real(krylov(*conjugate, 2 * CA.conj(), span).rows.flatten(1, 2))
    SA = as_real(krylov(*conjugate, 2 * S.conj(), span).rows.flatten(1, 2))
    kernel = (AB @ as_functional(C).mT)[..., 0].flip(1)
    a = aT = 1 + A
    for _ in range(span.bit_length() - 1):
        aT = aT * aT
    return PowerTables(a, aT, AB, CA, aQ, SA, kernel)


def dense_power(tables: PowerTables) -> Float[Tensor, "dim state state"]:
    """Āᵀ as a matrix of real numbers."""
    power = (tables.aQ.mT @ tables.SA).neg_()
    diagonal = torch.stack([torch.view_as_real(tables.aT), torch.view_as_real(1j * tables.aT)], -1)  # what 1, i become
    power.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).diagonal(dim1=1, dim2=3).add_(diagonal.permute(0, 2, 3, 1))
    return power
