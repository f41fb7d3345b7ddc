"""The public function and its argument checks; the other files of this folder compute."""

from typing import NamedTuple

from torch import Tensor

from longwave.errors import ShapeError
from longwave.ops import _checks as check
from longwave.ops._dispatch import Implementation, Op
from longwave.ops._marks import position_marks
from longwave.ops.selective_scan import _cpu, _reference
from longwave.shapes import Bool, Float, Inexact, Int

_op = Op("selective_scan", cpu=Implementation(_cpu.run, _cpu.refuses), reference=Implementation(_reference.run))


class SelectiveScan(NamedTuple):
    """The output at every position, and the state after the last one."""

    y: Float[Tensor, "batch time dim"]
    final_state: Inexact[Tensor, "batch dim modes"]


def selective_scan(
    u: Float[Tensor, "batch time dim"],
    delta: Float[Tensor, "batch time dim"],
    A: Inexact[Tensor, "dim modes"],
    B: Inexact[Tensor, "..."],
    C: Inexact[Tensor, "..."],
    D: Float[Tensor, " dim"] | None = None,
    z: Float[Tensor, "batch time dim"] | None = None,
    delta_bias: Float[Tensor, " dim"] | None = None,
    initial_state: Inexact[Tensor, "batch dim modes"] | None = None,
    *,
    delta_softplus: bool = False,
    reset: Bool[Tensor, "batch time"] | None = None,
    lengths: Int[Tensor, " batch"] | None = None,
    seq_idx: Int[Tensor, "batch time"] | None = None,
    impl: str = "auto",
) -> SelectiveScan:
    """Run one diagonal system per channel whose step and weights may change at every position.

    h[t] = exp(dt[t] A) ⊙ h[t−1] + dt[t] B[t] u[t],  y[t] = (C[t] · h[t] + D u[t]) silu(z[t]),
    dt[t] = delta[t] + delta_bias, or softplus of it. With complex A, B, C: 2 Re(C[t] · h[t]).

    Args:
        u: input.
        delta: step of each channel at each position, in the time unit of A, before the bias.
        A: eigenvalues (1/time), Re A ≤ 0 for a stable system; a complex one stands for itself and its conjugate.
        B: input weights, (dim, modes) or, given for each position, (batch, time, groups, modes): channel d has those of
            group d // (dim // groups).
        C: output weights, as `B`; where both are given for each position they have the same groups.
        D: skip weights; none if None.
        z: the gate is silu(z); none if None.
        delta_bias: added to `delta`.
        initial_state: h[−1]; zero if None.
        delta_softplus: whether dt is the softplus of delta + delta_bias; linear from 20 on, as in torch.
        reset: True where a new sequence begins: the state is zero before that position is consumed.
        lengths: row i ends after lengths[i] positions; its outputs beyond are zero, its final state is that at its end.
        seq_idx: the number of the sequence that a position belongs to, −1 for padding, in place of `reset` and
            `lengths`; the first sequence of a row goes on from `initial_state`.
        impl: "auto", "reference" or "cpu".

    Returns:
        `y` in the dtype of `u`; `final_state` in float32 or complex64 (double precision for float64 input).

    Raises:
        ShapeError: shapes, dtypes or devices do not fit.
        UnsupportedError: the implementation asked for cannot take these arguments.

    Numerics:
        The recurrence runs in float32 (float64 for float64 input), and 16-bit inputs are widened first. exp(dt A) is
        within about one unit in the last place, of dt A as rounded. Results do not depend on the number of threads.
        Memory is that of the inputs, and the states at every 64th position for the backward pass.

    Source:
        Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces" (2023), §3.2, algorithm 2, and
        §3.5.2: B is discretised by a simplified Euler step, Δ B in place of the zero-order hold that A has.

    Not to be confused with:
        `diagonal_ssm`, where A, B and C do not change in time; and `ssd`, Mamba-2's, with one decay for all states.

    Example:
        >>> import torch
        >>> from longwave.ops import selective_scan
        >>> one = torch.ones(1, 1)
        >>> half = torch.tensor([[0.5]]).log()
        >>> selective_scan(torch.ones(1, 3, 1), torch.ones(1, 3, 1), half, one, one).y.flatten()
        tensor([1.0000, 1.5000, 1.7500])
    """
    check.three_axes("selective_scan", "u", u)
    if u.is_complex():
        raise ShapeError(f"selective_scan: u is {u.dtype}; the input of a bank is real.")
    batch, time, dim = u.shape
    if A.ndim != 2 or A.shape[0] != dim:
        raise ShapeError(
            f"selective_scan: A has shape {tuple(A.shape)}; expected (dim, modes) with dim = {dim} as in u."
        )
    modes = A.shape[1]
    for name, x in (("delta", delta), ("z", z)):
        if x is not None:
            check.shape("selective_scan", name, x, (batch, time, dim), "(batch, time, dim)")
    for name, x in (("D", D), ("delta_bias", delta_bias)):
        if x is not None:
            check.shape("selective_scan", name, x, (dim,), "(dim,)")
    _check_weights(u, modes, B=B, C=C)
    if initial_state is not None:
        check.shape("selective_scan", "initial_state", initial_state, (batch, dim, modes), "(batch, dim, modes)")
    real = {"delta": delta, "D": D, "z": z, "delta_bias": delta_bias}
    _check_dtypes(real, A=A, B=B, C=C, initial_state=initial_state)
    ends = {"reset": reset, "lengths": lengths, "seq_idx": seq_idx}
    check.same_device("selective_scan", u=u, A=A, B=B, C=C, initial_state=initial_state, **real, **ends)
    marks = position_marks("selective_scan", batch, time, reset, lengths, seq_idx)

    compute = check.STATE_DTYPE[u.dtype]
    system = check.COMPLEX[compute] if any(x.is_complex() for x in (A, B, C)) else compute
    if initial_state is not None and initial_state.is_complex() and not system.is_complex:
        raise ShapeError(f"selective_scan: a complex initial_state ({initial_state.dtype}) for a real system.")
    y, final_state = _op(
        impl,
        u.to(compute),
        delta.to(compute),
        A.to(system),
        B.to(system),
        C.to(system),
        None if D is None else D.to(compute),
        None if z is None else z.to(compute),
        None if delta_bias is None else delta_bias.to(compute),
        None if initial_state is None else initial_state.to(system),
        delta_softplus,
        marks,
    )
    return SelectiveScan(y.to(u.dtype), final_state)


def _check_weights(u: Tensor, modes: int, **weights: Tensor) -> None:
    """B and C are constant or given for each position, then of the same groups, which divide the channels."""
    batch, time, dim = u.shape
    groups = {name: x.shape[2] for name, x in weights.items() if x.ndim == 4}
    for name, x in weights.items():
        if x.ndim == 2:
            check.shape("selective_scan", name, x, (dim, modes), "(dim, modes)")
        elif x.ndim == 4:
            check.shape("selective_scan", name, x, (batch, time, groups[name], modes), "(batch, time, groups, modes)")
        else:
            raise ShapeError(
                f"selective_scan: {name} has shape {tuple(x.shape)}; expected (dim, modes) or "
                "(batch, time, groups, modes)."
            )
    if len(set(groups.values())) > 1:
        raise ShapeError(f"selective_scan: B has {groups['B']} groups and C {groups['C']}; expected as many.")
    for name, count in groups.items():
        if count == 0 or dim % count:
            raise ShapeError(f"selective_scan: the {count} groups of {name} do not divide the {dim} channels of u.")


def _check_dtypes(real: dict[str, Tensor | None], **system: Tensor | None) -> None:
    """All are of a floating point dtype; only the system and its state may be complex."""
    check.real("selective_scan", **real)
    for name, x in system.items():
        if x is not None and x.dtype not in check.STATE_DTYPE:
            raise ShapeError(
                f"selective_scan: {name} is {x.dtype}; convert it to a floating point or complex dtype first."
            )
