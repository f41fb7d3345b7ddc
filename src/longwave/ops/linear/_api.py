"""The public function and its argument checks; the other files of this folder compute."""

from typing import NamedTuple

from torch import Tensor

from longwave.ops import _checks as check
from longwave.ops._dispatch import Implementation, Op
from longwave.ops.linear import _cpu, _reference
from longwave.shapes import Float

_op = Op("linear", cpu=Implementation(_cpu.run, _cpu.refuses), reference=Implementation(_reference.run))


class Linear(NamedTuple):
    """The output at every position."""

    y: Float[Tensor, "... out"]


def linear(
    x: Float[Tensor, "... d"],
    weight: Float[Tensor, "out d"],
    bias: Float[Tensor, " out"] | None = None,
    *,
    impl: str = "auto",
) -> Linear:
    """A linear map of every position: y = W x + c.

    Args:
        x: input; its leading axes are positions.
        weight: W.
        bias: c; none if None.
        impl: "auto", "reference" or "cpu".

    Returns:
        `y` in the dtype of `x`.

    Raises:
        ShapeError: shapes, dtypes or devices do not fit.
        UnsupportedError: the implementation asked for cannot take these arguments.

    Numerics:
        Sums in the dtype of the arguments. Results do not depend on the number of threads, but for what is torch's: the
        gradient of the bias, and of fewer than 64 positions all gradients.

    Source:
        Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (2008), for the order of the loops.

    Not to be confused with:
        `gated_linear`, which gates one half of its outputs by the other.

    Example:
        >>> import torch
        >>> from longwave.ops import linear
        >>> linear(torch.ones(1, 2), torch.tensor([[3.0, 1.0]])).y
        tensor([[4.]])
    """
    check.linear_map("linear", x, weight, bias)
    y = _op(impl, x.flatten(0, -2) if x.ndim > 1 else x[None], weight, bias)
    return Linear(y.reshape(*x.shape[:-1], y.shape[-1]))
