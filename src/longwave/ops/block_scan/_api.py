"""The public function and its argument checks; the other files of this folder compute."""

from typing import NamedTuple

from torch import Tensor

from longwave.errors import ShapeError
from longwave.ops import _checks as check
from longwave.ops._dispatch import Implementation, Op
from longwave.ops.block_scan import _cpu, _reference
from longwave.shapes import Bool, Float

_op = Op("block_scan", cpu=Implementation(_cpu.run, _cpu.refuses), reference=Implementation(_reference.run))


class BlockScan(NamedTuple):
    """The outputs, the state before each block, and the state after the last one."""

    y: Float[Tensor, "dim batch blocks span"]
    starts: Float[Tensor, "dim batch blocks state"]
    final_state: Float[Tensor, "dim batch state"]


def block_scan(
    u: Float[Tensor, "dim batch blocks span"],
    transition: Float[Tensor, "dim state state"],
    enter: Float[Tensor, "dim span state"],
    leave: Float[Tensor, "dim span state"],
    kernel: Float[Tensor, "dim span"],
    initial_state: Float[Tensor, "dim batch state"] | None = None,
    *,
    fresh: Bool[Tensor, "batch blocks"] | None = None,
    impl: str = "auto",
) -> BlockScan:
    """Run a bank of single-input systems over sequences, a block of T positions at a time.

    With u_i, y_j the i-th input and j-th output of a block and x the state before it,

        x' = Ā^T x + Σ_i enter_i u_i,    y_j = leave_j · x + Σ_{i≤j} kernel_{j−i} u_i,

    where for x[t] = Ā x[t−1] + B u[t], y[t] = C x[t] + D u[t] the tables are enter_i = Ā^{T−1−i} B,
    leave_j = C Ā^{j+1}, and kernel_l = C Āˡ B + D [l = 0].

    Args:
        u: inputs, in blocks of T = span; any strides.
        transition: Ā^T.
        enter: what each input of a block adds to the state after it.
        leave: what each output of a block reads of the state before it.
        kernel: the first T values of the impulse response.
        initial_state: the state before the first block; zero if None.
        fresh: blocks before which the state is zero: a new sequence begins there.
        impl: "auto", "reference" or "cpu".

    Returns:
        `y` and `starts` in the dtype of `u`, `final_state` in its precision, float32 at least.

    Raises:
        ShapeError: shapes, dtypes or devices do not fit.
        UnsupportedError: the implementation asked for cannot take these arguments.

    Numerics:
        The recurrence over blocks runs in double precision; the other tables are rounded once, to the precision of
        `u`, float32 at least. span + 2 state multiply-adds a position, and state²/span of the recurrence.

    Example:
        >>> import torch
        >>> from longwave.ops import block_scan
        >>> one = torch.ones(1, 1, 1)
        >>> block_scan(torch.ones(1, 1, 3, 1), 0.5 * one, one, 0.5 * one, one[0]).y.flatten()  # x[t] = x[t−1]/2 + u[t]
        tensor([1.0000, 1.5000, 1.7500])
    """
    if u.ndim != 4 or u.dtype not in check.STATE_DTYPE or enter.ndim != 3:
        raise ShapeError(
            f"block_scan: u is {u.dtype} of shape {tuple(u.shape)}, enter has shape {tuple(enter.shape)}; expected "
            "floating point numbers, (dim, batch, blocks, span) and (dim, span, state)."
        )
    (dim, batch, blocks, span), state = u.shape, enter.shape[2]
    check.shape("block_scan", "enter", enter, (dim, span, state), "(dim, span, state)")
    check.shape("block_scan", "transition", transition, (dim, state, state), "(dim, state, state)")
    check.shape("block_scan", "leave", leave, (dim, span, state), "(dim, span, state)")
    check.shape("block_scan", "kernel", kernel, (dim, span), "(dim, span)")
    if fresh is not None:
        check.shape("block_scan", "fresh", fresh, (batch, blocks), "(batch, blocks)")
    if initial_state is None:
        initial_state = transition.new_zeros(dim, batch, state)
    check.shape("block_scan", "initial_state", initial_state, (dim, batch, state), "(dim, batch, state)")
    check.same_device("block_scan", u=u, transition=transition, enter=enter, leave=leave, kernel=kernel, fresh=fresh)
    dtype = check.STATE_DTYPE[u.dtype]
    u_, enter, leave, kernel = (x.to(dtype) for x in (u, enter, leave, kernel))
    double = transition.double(), initial_state.double()
    y, starts, final = _op(impl, u_, double[0], enter, leave, kernel, double[1], fresh)
    return BlockScan(y.to(u.dtype), starts.to(u.dtype), final.to(dtype))
