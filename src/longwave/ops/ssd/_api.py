"""The public function and its argument checks; the other files of this folder compute."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from longwave.errors import ShapeError
from longwave.ops import _checks as check
from longwave.ops._dispatch import Implementation, Op
from longwave.ops._marks import PADDING, position_marks
from longwave.ops.ssd import _cpu, _reference
from longwave.shapes import Bool, Float, Int

_op = Op("ssd", cpu=Implementation(_cpu.run, _cpu.refuses), reference=Implementation(_reference.run))

CHUNK = 256


class SSD(NamedTuple):
    """The outputs at every position, and the state after the last one."""

    y: Float[Tensor, "batch time heads head_dim"]
    final_state: Float[Tensor, "batch heads head_dim state"]


def ssd(
    x: Float[Tensor, "batch time heads head_dim"],
    dt: Float[Tensor, "batch time heads"] | None,
    A: Float[Tensor, "..."],
    B: Float[Tensor, "batch time groups state"],
    C: Float[Tensor, "batch time groups state"],
    D: Float[Tensor, "..."] | None = None,
    dt_bias: Float[Tensor, " heads"] | None = None,
    initial_state: Float[Tensor, "batch heads head_dim state"] | None = None,
    *,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, math.inf),
    reset: Bool[Tensor, "batch time"] | None = None,
    lengths: Int[Tensor, " batch"] | None = None,
    seq_idx: Int[Tensor, "batch time"] | None = None,
    chunk: int | None = None,
    impl: str = "auto",
) -> SSD:
    """State space duality: a selective recurrence with one decay a head, computed as matrix products over chunks.

    h[t] = exp(Δ[t] A) h[t−1] + Δ[t] x[t] B[t]ᵀ,  y[t] = h[t] C[t] + D x[t], for every head, with Δ = `dt` + `dt_bias`,
    then softplus if `dt_softplus`, then clamped to `dt_limit`. Head h reads group h // (heads // groups) of B and C.
    Where y is written as one matrix times x, that matrix is the lower triangle of C Bᵀ, masked by products of decays.

    Args:
        x: what enters.
        dt: steps; None for a system that is discrete already, h[t] = exp(A[t]) h[t−1] + x[t] B[t]ᵀ, which takes neither
            bias nor softplus.
        A: decay rate of each head, (heads,), negative; with dt=None its logarithmic decays, (batch, time, heads).
        B: how x enters the state.
        C: how the state is read.
        D: what of x goes past the state, (heads,) or (heads, head_dim).
        dt_bias: is added to dt.
        initial_state: the state before the first position; zero if None.
        dt_softplus: steps are softplus of what is given, and positive therefore.
        dt_limit: smallest and largest step.
        reset: True where a new sequence begins: the state before that position is forgotten.
        lengths: row i ends after lengths[i] positions; y is zero beyond, the final state is that at its end.
        seq_idx: the number of the sequence that each position belongs to, −1 for padding; instead of the last two.
        chunk: most positions of one masked product, 256 if None; the native kernel takes 64 at most. It changes
            nothing but rounding.
        impl: "auto", "reference" or "cpu".

    Returns:
        `y` in the dtype of x, `final_state` in at least float32.

    Raises:
        ShapeError: shapes, dtypes or devices do not fit.
        UnsupportedError: the implementation asked for cannot take these arguments.

    Numerics:
        16-bit arguments are computed in float32. Decays are put together in float64, each from its own terms, never as
        a difference or a quotient; with A ≤ 0 nothing grows. A reset is a zero, whatever A and dt are there. The
        backward pass keeps the state at the beginning of each chunk, and makes the others again. Results do not depend
        on the number of threads.

    Source:
        Dao & Gu, "Transformers are SSMs" (2024), arXiv:2405.21060, §6 and listing 1.

    Not to be confused with: the selective scan of Mamba, which has a decay for every channel and state, and so no
        matrix product.

    Example:
        >>> import torch
        >>> from longwave.ops import ssd
        >>> one = torch.ones(1, 3, 1)
        >>> ssd(one[..., None], one, torch.tensor([-0.5]), one[..., None], one[..., None]).y.flatten()
        tensor([1.0000, 1.6065, 1.9744])
    """
    _check_shapes(x, dt, A, B, C, D, dt_bias, initial_state)
    batch, time, heads, _ = x.shape
    if chunk is not None and chunk < 1:
        raise ShapeError(f"ssd: chunk={chunk}; expected 1 or more positions, or None.")
    if dt is None and (dt_bias is not None or dt_softplus):
        raise ShapeError("ssd: dt is None, so there is nothing for dt_bias and dt_softplus; leave them out.")
    tensors = {"x": x, "dt": dt, "A": A, "B": B, "C": C, "D": D, "dt_bias": dt_bias, "initial_state": initial_state}
    check.real("ssd", **tensors)
    check.same_device("ssd", **tensors, reset=reset, lengths=lengths, seq_idx=seq_idx)
    marks = position_marks("ssd", batch, time, reset, lengths, seq_idx)
    if marks is not None and dt is not None:  # else what stands in padding would meet the gradient of A, times zero
        dt = dt.masked_fill((marks == PADDING)[..., None], 0)

    wide = any(v is not None and v.dtype == torch.float64 for v in tensors.values())
    compute = torch.float64 if wide else torch.float32
    u, keys, queries = (v.to(compute) for v in (x, B, C))
    D, initial_state = (None if v is None else v.to(compute) for v in (D, initial_state))
    a, w = (A.double(), None) if dt is None else _discretised(dt, A, dt_bias, dt_softplus, dt_limit)
    w = None if w is None else w.to(compute)
    D = None if D is None else D.reshape(heads, -1).expand(heads, x.shape[3])
    y, final_state = _op(impl, u, a, w, keys, queries, D, initial_state, marks, min(chunk or CHUNK, max(time, 1)))
    return SSD(y.to(x.dtype), final_state)


def _discretised(
    dt: Tensor, A: Tensor, dt_bias: Tensor | None, dt_softplus: bool, dt_limit: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Δ A and Δ in float64, in which the gradients of A and dt_bias are then added up."""
    dt = dt.double() if dt_bias is None else dt.double() + dt_bias
    dt = F.softplus(dt) if dt_softplus else dt
    low, high = dt_limit
    if high < math.inf or (low > 0 if dt_softplus else low > -math.inf):
        dt = dt.clamp(low, high)
    return dt * A, dt


def _check_shapes(
    x: Tensor,
    dt: Tensor | None,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    dt_bias: Tensor | None,
    initial_state: Tensor | None,
) -> None:
    """Raise unless all shapes belong to one system."""
    for name, tensor in (("x", x), ("B", B)):
        if tensor.ndim != 4:
            axes = "heads, head_dim" if name == "x" else "groups, state"
            raise ShapeError(f"ssd: {name} has shape {tuple(tensor.shape)}; expected (batch, time, {axes}).")
    (batch, time, heads, dim), (groups, state) = x.shape, B.shape[2:]
    check.shape("ssd", "B", B, (batch, time, groups, state), "(batch, time, groups, state)")
    check.shape("ssd", "C", C, (batch, time, groups, state), "(batch, time, groups, state)")
    if groups == 0 or heads % groups:
        raise ShapeError(f"ssd: x has {heads} heads and B {groups} groups; heads must be a multiple of groups.")
    if dt is None:
        check.shape("ssd", "A", A, (batch, time, heads), "(batch, time, heads), as dt is None,")
    else:
        check.shape("ssd", "dt", dt, (batch, time, heads), "(batch, time, heads)")
        check.shape("ssd", "A", A, (heads,), "(heads,)")
    if D is not None and D.shape != (heads,):
        check.shape("ssd", "D", D, (heads, dim), "(heads,) or (heads, head_dim)")
    if dt_bias is not None:
        check.shape("ssd", "dt_bias", dt_bias, (heads,), "(heads,)")
    if initial_state is not None:
        check.shape(
            "ssd", "initial_state", initial_state, (batch, heads, dim, state), "(batch, heads, head_dim, state)"
        )
