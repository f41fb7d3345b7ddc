"""The public function and its argument checks; the other files of this folder compute."""

from typing import NamedTuple

import torch
from torch import Tensor

from longwave.errors import ShapeError
from longwave.ops import _checks as check
from longwave.ops._dispatch import Implementation, Op
from longwave.ops.linear_scan import _cpu, _reference
from longwave.shapes import Bool, Inexact, Int

_op = Op("linear_scan", cpu=Implementation(_cpu.run, _cpu.refuses), reference=Implementation(_reference.run))


class LinearScan(NamedTuple):
    """The states at every position, and the state after the last one."""

    states: Inexact[Tensor, "batch time dim"]
    final_state: Inexact[Tensor, "batch dim"]


def linear_scan(
    a: Inexact[Tensor, "..."],
    b: Inexact[Tensor, "batch time dim"],
    initial_state: Inexact[Tensor, "batch dim"] | None = None,
    *,
    reset: Bool[Tensor, "batch time"] | None = None,
    lengths: Int[Tensor, " batch"] | None = None,
    reverse: bool = False,
    impl: str = "auto",
) -> LinearScan:
    """All states of a linear recurrence, real or complex.

    h[t] = a[t] ⊙ h[t−1] + b[t], with h[−1] = `initial_state`; with `reverse`, h[t] = a[t] ⊙ h[t+1] + b[t] from the end.

    Args:
        a: decay, broadcastable to the shape of `b`; (dim,) is a time-invariant system.
        b: what enters the recurrence.
        initial_state: the state before the first position (with `reverse`: after the last); zero if None.
        reset: True where a new sequence begins: no state flows between position t − 1 and t.
        lengths: row i ends after lengths[i] positions; its states beyond are zero, its final state is that at its end.
        reverse: run from the last position to the first.
        impl: "auto", "reference" or "cpu".

    Returns:
        `states` in the dtype of the arguments and `final_state` in at least float32 (complex64).

    Raises:
        ShapeError: shapes, dtypes or devices do not fit.
        UnsupportedError: the implementation asked for cannot take these arguments.

    Numerics:
        16-bit arguments are computed in float32. Stable for |a| ≤ 1; the error of a state is that of the plain
        recurrence, about √t units in the last place for |a| → 1. Results do not depend on the number of threads.

    Source:
        Blelloch, "Prefix sums and their applications" (1990), §1.4; its use in sequence models: Martin & Cundy,
        "Parallelizing linear recurrent neural nets over sequence length" (2018), eq. 7.

    Example:
        >>> import torch
        >>> from longwave.ops import linear_scan
        >>> linear_scan(torch.tensor([0.5]), torch.ones(1, 3, 1)).states.flatten()
        tensor([1.0000, 1.5000, 1.7500])
    """
    check.three_axes("linear_scan", "b", b)
    batch, time, dim = b.shape
    try:
        shape = torch.broadcast_shapes(a.shape, b.shape)
    except RuntimeError:
        shape = None
    if shape != b.shape or a.ndim > 3:
        raise ShapeError(
            f"linear_scan: a has shape {tuple(a.shape)}; expected one that broadcasts to b's {tuple(b.shape)}."
        )
    check.sequence_ends("linear_scan", batch, time, reset, lengths)
    if initial_state is not None:
        check.shape("linear_scan", "initial_state", initial_state, (batch, dim), "(batch, dim)")
    check.same_device("linear_scan", a=a, b=b, initial_state=initial_state, reset=reset, lengths=lengths)

    dtype = torch.promote_types(a.dtype, b.dtype)
    if initial_state is not None and initial_state.is_complex() and not dtype.is_complex:
        raise ShapeError(f"linear_scan: initial_state is {initial_state.dtype}, but the recurrence is real ({dtype}).")
    if dtype not in check.STATE_DTYPE:
        raise ShapeError(f"linear_scan: a is {a.dtype}; convert it to a floating point or complex dtype first.")
    compute = check.STATE_DTYPE[dtype]
    compute = check.COMPLEX[compute] if dtype.is_complex else compute
    states, final_state = _op(
        impl,
        a.to(compute).reshape((1,) * (3 - a.ndim) + a.shape),
        b.to(compute),
        None if initial_state is None else initial_state.to(compute),
        reset,
        lengths,
        reverse,
    )
    return LinearScan(states.to(dtype), final_state)
