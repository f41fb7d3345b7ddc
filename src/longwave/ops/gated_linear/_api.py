"""The public function and its argument checks; the other files of this folder compute."""

from typing import NamedTuple

from torch import Tensor

from longwave.ops import _checks as check
from longwave.ops._dispatch import Implementation, Op
from longwave.ops.gated_linear import _cpu, _reference
from longwave.shapes import Float

_op = Op("gated_linear", cpu=Implementation(_cpu.run, _cpu.refuses), reference=Implementation(_reference.run))


class GatedLinear(NamedTuple):
    """The output at every position."""

    y: Float[Tensor, "... out"]


def gated_linear(
    x: Float[Tensor, "... d"],
    weight: Float[Tensor, "out_and_gate d"],
    bias: Float[Tensor, " out_and_gate"] | None = None,
    *,
    gelu: bool = False,
    impl: str = "auto",
) -> GatedLinear:
    """A linear map whose outputs are each gated by another one.

    y = (V g + c) ⊙ σ(W g + d), with `weight` = (V; W) and `bias` = (c; d) one below the other; g = x, or
    GELU(x) = x Φ(x).

    Args:
        x: input; its leading axes are positions.
        weight: the rows of V, then those of W.
        bias: c, then d; none if None.
        gelu: whether x passes through GELU (the exact one) first.
        impl: "auto", "reference" or "cpu".

    Returns:
        `y` in the dtype of `x`.

    Raises:
        ShapeError: shapes, dtypes or devices do not fit.
        UnsupportedError: the implementation asked for cannot take these arguments.

    Numerics:
        Sums in the dtype of the arguments; σ and Φ are within a few units in the last place of 1. Results do not depend
        on the threads.

    Source:
        Dauphin, Fan, Auli, Grangier, "Language modeling with gated convolutional networks" (2017), §2, eq. 1.

    Example:
        >>> import torch
        >>> from longwave.ops import gated_linear
        >>> gated_linear(torch.ones(1, 1), torch.tensor([[3.0], [0.0]])).y
        tensor([[1.5000]])
    """
    check.linear_map("gated_linear", x, weight, bias, parts=2)
    if x.ndim == 2:
        return GatedLinear(_op(impl, x, weight, bias, gelu))
    y = _op(impl, x.reshape(-1, x.shape[-1]), weight, bias, gelu)
    return GatedLinear(y.reshape(*x.shape[:-1], y.shape[-1]))
