"""Tables of powers of a diagonal plus low rank matrix Ā = I + diag(A) − Q S, from which any r ≤ T of its steps follow.

A step is O(N), and so is each of r of them, a table of the rows S Āʲ being given: with a = 1 + A,

    Āʳ = diag(aʳ) − Σ_{j<r} diag(a^{r−1−j}) Q (S Āʲ).

The tables hold real numbers: columns as `as_real` writes states, rows as `as_functional` does, so that every product
with a state is a plain one.
"""

from typing import NamedTuple

import torch

from longwave.math.dplr import DiscreteDPLR, as_real
from longwave.ops import krylov
from longwave.shapes import Complex, Float, Tensor


class PowerTables(NamedTuple):
    """What up to T = ``span`` steps of a system need; i falls and j rises from one row to the next."""

    a: Complex[Tensor, "dim modes"]
    AB: Float[Tensor, "dim span state"]  # Āⁱ B
    aQ: Float[Tensor, "dim span_rank state"]  # diag(aⁱ) Q, for every column of Q in turn
    SA: Float[Tensor, "dim span_rank state"]  # S Āʲ, for every row of S in turn


def power_tables(system: DiscreteDPLR, span: int) -> PowerTables:
    """The tables of ``span`` steps.

    Args:
        system: the discrete system.
        span: T.

    Returns:
        PowerTables; O(span · N) numbers and operations.

    Numerics: float64.
    """
    A, Q, S, B = (x.to(torch.complex128) for x in system)
    Q, none = Q.mT, A.new_empty(len(A), 0, A.shape[1])
    AB = as_real(krylov(A, S, Q, B[:, None], span, reverse=True).rows.flatten(1, 2))
    aQ = as_real(krylov(A, none, none, Q, span, reverse=True).rows.flatten(1, 2))
    # 2 Re Σ s x is the product of the rows 2 conj(s), and these are rows of the conjugate system.
    SA = as_real(krylov(A.conj(), Q.conj(), S.conj(), 2 * S.conj(), span).rows.flatten(1, 2))
    return PowerTables(1 + A, AB, aQ, SA)
