"""The public function and its argument checks; the other files of this folder compute."""

from typing import NamedTuple

import torch
from torch import Tensor

from longwave.errors import ShapeError
from longwave.ops import _checks as check
from longwave.ops._dispatch import Implementation, Op
from longwave.ops.long_conv import _cpu, _reference
from longwave.shapes import Float

_op = Op("long_conv", cpu=Implementation(_cpu.run, _cpu.refuses), reference=Implementation(_reference.run))


class LongConv(NamedTuple):
    """The output at every position."""

    y: Float[Tensor, "batch time dim"]


def long_conv(u: Float[Tensor, "batch time dim"], k: Float[Tensor, "dim length"], *, impl: str = "auto") -> LongConv:
    """Causal convolution of every channel with its own kernel.

    y[t] = Σₗ k[l] u[t − l], l = 0 … min(t, length − 1).

    Args:
        u: input.
        k: one kernel per channel, lag 0 first; it may be shorter or longer than the input.
        impl: "auto", "reference" or "cpu" (plain PyTorch, FFT).

    Returns:
        `y` in the dtype of `u`.

    Raises:
        ShapeError: shapes, dtypes or devices do not fit.
        UnsupportedError: the implementation asked for cannot take these arguments.

    Numerics:
        16-bit inputs are computed in float32. The FFT's error is relative to the largest output of a channel, not to
        each output: about 1e-7 · log₂(time) of it in float32.

    Source:
        Oppenheim & Schafer, "Discrete-time signal processing" (3rd ed., 2010), §8.7: linear convolution by padding.

    Example:
        >>> import torch
        >>> from longwave.ops import long_conv
        >>> long_conv(torch.ones(1, 3, 1), torch.tensor([[1.0, 0.5]])).y.flatten().round(decimals=4)
        tensor([1.0000, 1.5000, 1.5000])
    """
    check.three_axes("long_conv", "u", u)
    if u.is_complex() or k.is_complex():
        raise ShapeError(f"long_conv: u is {u.dtype}, k {k.dtype}; expected real ones.")
    if k.ndim != 2 or k.shape[0] != u.shape[2]:
        raise ShapeError(
            f"long_conv: k has shape {tuple(k.shape)}; expected (dim, length), dim = {u.shape[2]} as in u."
        )
    check.same_device("long_conv", u=u, k=k)
    dtype = torch.promote_types(check.STATE_DTYPE[u.dtype], check.STATE_DTYPE[k.dtype])
    return LongConv(_op(impl, u.to(dtype), k.to(dtype)).to(u.dtype))
