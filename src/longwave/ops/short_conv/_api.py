"""The public function and its argument checks; the other files of this folder compute."""

from typing import NamedTuple

from torch import Tensor

from longwave.errors import ConfigError, ShapeError
from longwave.ops import _checks as check
from longwave.ops._dispatch import Implementation, Op
from longwave.ops._marks import position_marks
from longwave.ops.short_conv import _cpu, _reference
from longwave.shapes import Bool, Float, Int

_op = Op("short_conv", cpu=Implementation(_cpu.run, _cpu.refuses), reference=Implementation(_reference.run))


class ShortConv(NamedTuple):
    """The output at every position, and the last inputs, oldest first: what the next position will see."""

    y: Float[Tensor, "batch time dim"]
    final_state: Float[Tensor, "batch dim taps"]


def short_conv(
    x: Float[Tensor, "batch time dim"],
    weight: Float[Tensor, "dim width"],
    bias: Float[Tensor, " dim"] | None = None,
    initial_state: Float[Tensor, "batch dim taps"] | None = None,
    *,
    activation: str | None = None,
    reset: Bool[Tensor, "batch time"] | None = None,
    lengths: Int[Tensor, " batch"] | None = None,
    seq_idx: Int[Tensor, "batch time"] | None = None,
    impl: str = "auto",
) -> ShortConv:
    """Convolve every channel with a few taps of its own, causally.

    y[t] = f(Σ_j weight[j] x[t − width + 1 + j] + bias), with the inputs before x[0] from `initial_state`; the last tap
    is that of the present.

    Args:
        x: input.
        weight: taps, the present's last.
        bias: added before the activation; none if None.
        initial_state: the width − 1 inputs before the first position, oldest first; zeros if None.
        activation: f, "silu" or None.
        reset: True where a new sequence begins: the inputs before are zero to it.
        lengths: row i ends after lengths[i] positions; its outputs beyond are zero, its final state is that at its end.
        seq_idx: the number of the sequence that a position belongs to, −1 for padding, in place of `reset` and
            `lengths`; the first sequence of a row goes on from `initial_state`.
        impl: "auto", "reference" or "cpu".

    Returns:
        `y` in the dtype of `x`; `final_state`, the last width − 1 inputs that are no padding, in at least float32.

    Raises:
        ShapeError: shapes, dtypes or devices do not fit.
        ConfigError: an unknown activation.
        UnsupportedError: the implementation asked for cannot take these arguments.

    Numerics:
        Computed in float32 (float64 for float64 input); 16-bit arguments are widened first. Results do not depend on
        the number of threads.

    Source:
        Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces" (2023), §3.4.

    Not to be confused with:
        `long_conv`, whose kernel is as long as the sequence, by FFT.

    Example:
        >>> import torch
        >>> from longwave.ops import short_conv
        >>> y, state = short_conv(torch.tensor([[[1.0], [2.0], [3.0]]]), torch.tensor([[10.0, 1.0]]))
        >>> y.flatten(), state.flatten()
        (tensor([ 1., 12., 23.]), tensor([3.]))
    """
    check.three_axes("short_conv", "x", x)
    batch, time, dim = x.shape
    if weight.ndim != 2 or weight.shape[0] != dim or weight.shape[1] == 0:
        raise ShapeError(
            f"short_conv: weight has shape {tuple(weight.shape)}; expected (dim, width) with dim = {dim} as in x, and "
            "at least one tap."
        )
    taps = weight.shape[1] - 1
    if bias is not None:
        check.shape("short_conv", "bias", bias, (dim,), "(dim,)")
    if initial_state is not None:
        check.shape("short_conv", "initial_state", initial_state, (batch, dim, taps), "(batch, dim, width - 1)")
    tensors = {"x": x, "weight": weight, "bias": bias, "initial_state": initial_state}
    check.real("short_conv", **tensors)
    if activation not in (None, "silu"):
        raise ConfigError(f"activation={activation!r}: choose from None, 'silu'.")
    check.same_device("short_conv", **tensors, reset=reset, lengths=lengths, seq_idx=seq_idx)
    marks = position_marks("short_conv", batch, time, reset, lengths, seq_idx)

    compute = check.STATE_DTYPE[x.dtype]
    widened = (None if tensor is None else tensor.to(compute) for tensor in tensors.values())
    y, final_state = _op(impl, *widened, activation == "silu", marks)
    return ShortConv(y.to(x.dtype), final_state)
