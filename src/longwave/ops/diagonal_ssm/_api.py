"""The public function and its argument checks; the other files of this folder compute."""

from typing import NamedTuple

from torch import Tensor

from longwave.errors import ConfigError, ShapeError
from longwave.math.discretize import DISCRETIZATIONS
from longwave.ops import _checks as check
from longwave.ops._dispatch import Implementation, Op
from longwave.ops.diagonal_ssm import _cpu, _reference
from longwave.shapes import Bool, Float, Inexact, Int

_op = Op("diagonal_ssm", cpu=Implementation(_cpu.run, _cpu.refuses), reference=Implementation(_reference.run))


class DiagonalSSM(NamedTuple):
    """The output at every position, and the state after the last one."""

    y: Float[Tensor, "batch time dim"]
    final_state: Inexact[Tensor, "batch dim modes"]


def diagonal_ssm(
    u: Float[Tensor, "batch time dim"],
    dt: Float[Tensor, " dim"] | None,
    A: Inexact[Tensor, "dim modes"],
    B: Inexact[Tensor, "dim modes"],
    C: Inexact[Tensor, "dim modes"],
    D: Float[Tensor, " dim"] | None = None,
    initial_state: Inexact[Tensor, "batch dim modes"] | None = None,
    *,
    discretization: str = "zoh",
    reset: Bool[Tensor, "batch time"] | None = None,
    lengths: Int[Tensor, " batch"] | None = None,
    impl: str = "auto",
) -> DiagonalSSM:
    """Run one diagonal state space model per channel.

    x[t] = Ā ⊙ x[t−1] + B̄ u[t],  y[t] = 2 Re(C · x[t]) + D u[t]; with real A, B, C: y[t] = C · x[t] + D u[t].

    A complex mode stands for itself and its conjugate: hence the factor 2, and half as many modes as real states.

    Args:
        u: input.
        dt: step of each channel, in the time unit of A; None where A and B are already the discrete Ā and B̄.
        A: eigenvalues: continuous (1/time), Re A ≤ 0 for a stable system; discrete, |A| ≤ 1, where `dt` is None.
        B: input weights.
        C: output weights.
        D: skip weights; none if None.
        initial_state: x[−1]; zero if None.
        discretization: "zoh" or "bilinear"; not used where `dt` is None.
        reset: True where a new sequence begins: the state is zero before that position is consumed.
        lengths: row i ends after lengths[i] positions; its outputs beyond are zero, its final state is that at its end.
        impl: "auto", "reference" or "cpu".

    Returns:
        `y` in the dtype of `u`; `final_state` in complex64 or float32 (double precision for float64 input).

    Raises:
        ShapeError: shapes, dtypes or devices do not fit.
        ConfigError: an unknown discretization.
        UnsupportedError: the implementation asked for cannot take these arguments.

    Numerics:
        The discretisation is computed in float64 and rounded once; that rounded system is the one every view of a
        model uses. The recurrence runs in float32 (float64 for float64 input), and 16-bit inputs are widened first.
        Results do not depend on the number of threads.

    Source:
        Gu, Gupta, Goel, Ré, "On the parameterization and initialization of diagonal state space models" (2022), §3,
        eq. 2-4.

    Not to be confused with:
        `linear_scan`, which returns every state; here the states are never stored.

    Example:
        >>> import torch
        >>> from longwave.ops import diagonal_ssm
        >>> half, one = torch.tensor([[0.5]]), torch.ones(1, 1)
        >>> diagonal_ssm(torch.ones(1, 3, 1), None, half, one, one).y.flatten()
        tensor([1.0000, 1.5000, 1.7500])
    """
    check.three_axes("diagonal_ssm", "u", u)
    if u.is_complex():
        raise ShapeError(f"diagonal_ssm: u is {u.dtype}; the input of a bank is real.")
    batch, time, dim = u.shape
    if A.ndim != 2 or A.shape[0] != dim:
        raise ShapeError(f"diagonal_ssm: A has shape {tuple(A.shape)}; expected (dim, modes) with dim = {dim} as in u.")
    modes = A.shape[1]
    check.shape("diagonal_ssm", "B", B, (dim, modes), "(dim, modes)")
    check.shape("diagonal_ssm", "C", C, (dim, modes), "(dim, modes)")
    if dt is not None:
        check.shape("diagonal_ssm", "dt", dt, (dim,), "(dim,)")
    if D is not None:
        check.shape("diagonal_ssm", "D", D, (dim,), "(dim,)")
    if initial_state is not None:
        check.shape("diagonal_ssm", "initial_state", initial_state, (batch, dim, modes), "(batch, dim, modes)")
    check.sequence_ends("diagonal_ssm", batch, time, reset, lengths)
    check.same_device(
        "diagonal_ssm", u=u, dt=dt, A=A, B=B, C=C, D=D, initial_state=initial_state, reset=reset, lengths=lengths
    )

    if dt is not None:
        if discretization not in DISCRETIZATIONS:
            raise ConfigError(f"discretization={discretization!r}: choose from {', '.join(DISCRETIZATIONS)}.")
        A, B = DISCRETIZATIONS[discretization](dt, A, B)
    real = check.STATE_DTYPE[u.dtype]
    system = check.COMPLEX[real] if A.is_complex() or B.is_complex() or C.is_complex() else real
    if initial_state is not None and initial_state.is_complex() and not system.is_complex:
        raise ShapeError(f"diagonal_ssm: a complex initial_state ({initial_state.dtype}) for a real system.")
    y, final_state = _op(
        impl,
        u.to(real),
        A.to(system),
        B.to(system),
        C.to(system),
        None if D is None else D.to(real),
        None if initial_state is None else initial_state.to(system),
        reset,
        lengths,
    )
    return DiagonalSSM(y.to(u.dtype), final_state)
