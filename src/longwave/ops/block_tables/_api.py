"""The public function and its argument checks; the other files of this folder compute."""

from typing import NamedTuple

import torch
from torch import Tensor

from longwave.errors import ShapeError
from longwave.ops import _checks as check
from longwave.ops._dispatch import Implementation, Op
from longwave.ops.block_tables import _cpu, _reference
from longwave.shapes import Complex, Float

_op = Op("block_tables", cpu=Implementation(_cpu.run, _cpu.refuses), reference=Implementation(_reference.run))


class BlockTables(NamedTuple):
    """Tables of T = span steps of x[t] = Ā x[t−1] + B u[t], y[t] = C x[t]."""

    enter: Float[Tensor, "dim span state"]
    leave: Float[Tensor, "dim span state"]
    kernel: Float[Tensor, "dim span"]
    transition: Float[Tensor, "dim state state"]


def block_tables(
    A: Complex[Tensor, "dim modes"],
    Q: Complex[Tensor, "dim rank modes"],
    S: Complex[Tensor, "dim rank modes"],
    B: Complex[Tensor, "dim modes"],
    C: Complex[Tensor, "dim modes"],
    span: int,
    *,
    dtype: torch.dtype | None = None,
    impl: str = "auto",
) -> BlockTables:
    """What `block_scan` needs of a bank of systems that are diagonal plus low rank, in real coordinates.

    With Ā = I + diag(A) − Σ_r Q[r] S[r]ᵀ, one mode of each conjugate pair being kept, S[r]ᵀ x = 2 Re Σₙ S[r]ₙ xₙ, and
    a state as the real numbers Re x₀, Im x₀, Re x₁, …:

        enter_i = Ā^{T−1−i} B,    leave_j = C Ā^{j+1},    kernel_l = C Āˡ B,    transition = Ā^T,    T = span.

    Args:
        A: diagonal of Ā − I.
        Q, S: its low-rank term.
        B: what the input adds to the state.
        C: output weights, as 2 Re Σ C x.
        span: T, at least 1.
        dtype: of the tables but the transition; None is that of the real part of `C`.
        impl: "auto", "reference" or "cpu".

    Returns:
        The tables; `transition` in float64.

    Raises:
        ShapeError: shapes, dtypes or devices do not fit.
        UnsupportedError: the implementation asked for cannot take these arguments.

    Numerics:
        Computed in double precision and rounded once. Powers are taken by steps of O(modes · rank), never by products
        of powers: Ā^T = diag((1 + A)^T) − Σ_j diag((1 + A)^{T−1−j}) Q (S Ā^j) is one product of two tables. A is the
        increment, so that slow modes keep their digits.

    Source:
        Gu, Goel, Ré, "Efficiently modeling long sequences with structured state spaces" (2022), §3.2 for the form of Ā.

    Example:
        >>> import torch
        >>> from longwave.ops import block_tables
        >>> one, none = torch.ones(1, 1, dtype=torch.complex128), torch.zeros(1, 0, 1, dtype=torch.complex128)
        >>> block_tables(-0.5 * one, none, none, one, one, 3).kernel
        tensor([[2.0000, 1.0000, 0.5000]], dtype=torch.float64)
    """
    dim, modes, rank = *A.shape, Q.shape[1] if Q.ndim == 3 else 0
    check.shape("block_tables", "Q", Q, (dim, rank, modes), "(dim, rank, modes)")
    check.shape("block_tables", "S", S, (dim, rank, modes), "(dim, rank, modes)")
    check.shape("block_tables", "B", B, (dim, modes), "(dim, modes)")
    check.shape("block_tables", "C", C, (dim, modes), "(dim, modes)")
    if span < 1 or not all(x.is_complex() for x in (A, Q, S, B, C)):
        raise ShapeError(f"block_tables: span={span}, C is {C.dtype}; expected 1 or more, and complex tensors.")
    check.same_device("block_tables", A=A, Q=Q, S=S, B=B, C=C)
    wide = (x.to(torch.complex128) for x in (A, Q, S, B, C))
    enter, leave, kernel, transition = _op(impl, *wide, span, check.STATE_DTYPE[dtype or C.dtype])
    dtype = dtype or enter.dtype
    return BlockTables(enter.to(dtype), leave.to(dtype), kernel.to(dtype), transition)
