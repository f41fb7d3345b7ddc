"""The public function and its argument checks; the other files of this folder compute."""

from typing import NamedTuple

import torch
from torch import Tensor

from longwave.errors import ShapeError
from longwave.ops import _checks as check
from longwave.ops._dispatch import Implementation, Op
from longwave.ops.krylov import _cpu, _reference
from longwave.shapes import Complex

_op = Op("krylov", cpu=Implementation(_cpu.run, _cpu.refuses), reference=Implementation(_reference.run))


class Krylov(NamedTuple):
    """v Āʲ for j = 0 … count − 1, or the last one first."""

    rows: Complex[Tensor, "dim rows count modes"]


def krylov(
    A: Complex[Tensor, "dim modes"],
    Q: Complex[Tensor, "dim rank modes"],
    S: Complex[Tensor, "dim rank modes"],
    v: Complex[Tensor, "dim rows modes"],
    count: int,
    *,
    reverse: bool = False,
    impl: str = "auto",
) -> Krylov:
    """Rows times the powers of a matrix that is diagonal plus low rank, one mode of each conjugate pair being kept.

    v[j+1] = v[j] + A v[j] − Σ_r (2 Re Σₙ v[j]ₙ Q[r]ₙ) S[r], which is v[j] Ā with Ā = I + diag(A) − Σ_r Q[r] S[r]ᵀ.
    With Q and S exchanged the rows are the columns Āʲ v.

    Args:
        A: diagonal of Ā − I.
        Q: what a row is multiplied with.
        S: what is then taken away from it.
        v: the first rows, several for each matrix.
        count: how many of each, the first one among them.
        reverse: return the rows in the order of falling powers.
        impl: "auto", "reference" or "cpu".

    Returns:
        `rows`, in the precision of `v`.

    Raises:
        ShapeError: shapes, dtypes or devices do not fit.
        UnsupportedError: the implementation asked for cannot take these arguments.

    Numerics:
        Computed in double precision, O(modes · rank) a row; no power of Ā is formed. A is the increment, so that slow
        modes keep their digits.

    Source:
        Gu, Goel, Ré, "Efficiently modeling long sequences with structured state spaces" (2022), §3.2 for the form of Ā.

    Example:
        >>> import torch
        >>> from longwave.ops import krylov
        >>> one = torch.ones(1, 1, 1, dtype=torch.complex128)
        >>> krylov(-0.5 * one[0], 0 * one, one, one, 3).rows.real
        tensor([[[[1.0000],
                  [0.5000],
                  [0.2500]]]], dtype=torch.float64)
    """
    dim, modes, rank = *A.shape, Q.shape[1] if Q.ndim == 3 else 0
    check.shape("krylov", "Q", Q, (dim, rank, modes), "(dim, rank, modes)")
    check.shape("krylov", "S", S, (dim, rank, modes), "(dim, rank, modes)")
    check.shape("krylov", "v", v, (dim, v.shape[1] if v.ndim == 3 else 0, modes), "(dim, rows, modes)")
    if count < 0 or not all(x.is_complex() for x in (A, Q, S, v)):
        raise ShapeError(f"krylov: count={count}, v is {v.dtype}; expected 0 or more, and complex tensors.")
    check.same_device("krylov", A=A, Q=Q, S=S, v=v)
    wide = (x.to(torch.complex128) for x in (A, Q, S, v))
    return Krylov(_op(impl, *wide, count, reverse).to(v.dtype))
