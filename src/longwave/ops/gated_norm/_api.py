"""The public function and its argument checks; the other files of this folder compute."""

from typing import NamedTuple

from torch import Tensor

from longwave.errors import ShapeError
from longwave.ops import _checks as check
from longwave.ops._dispatch import Implementation, Op
from longwave.ops.gated_norm import _cpu, _reference
from longwave.shapes import Float

_op = Op("gated_norm", cpu=Implementation(_cpu.run, _cpu.refuses), reference=Implementation(_reference.run))


class GatedNorm(NamedTuple):
    """The output at every position."""

    y: Float[Tensor, "*sizes dim"]


def gated_norm(
    x: Float[Tensor, "*sizes dim"],
    z: Float[Tensor, "*sizes dim"],
    weight: Float[Tensor, " dim"],
    *,
    group_size: int | None = None,
    norm_before_gate: bool = False,
    eps: float = 1e-5,
    impl: str = "auto",
) -> GatedNorm:
    """Gate with SiLU and divide by the root mean square over groups of channels.

    y = RMSNorm(x · silu(z)) ⊙ w, or RMSNorm(x) ⊙ w · silu(z) with `norm_before_gate`;
    RMSNorm(v) = v / √(mean(v²) + ε), the mean over a group of neighbouring channels.

    Args:
        x: input; its leading axes are positions.
        z: the gate, before SiLU.
        weight: w.
        group_size: channels of a group; None takes all of them together.
        norm_before_gate: gate what is normalised, instead of normalising what is gated.
        eps: ε.
        impl: "auto", "reference" or "cpu".

    Returns:
        `y` in the dtype of x.

    Raises:
        ShapeError: shapes, dtypes or devices do not fit, or `group_size` does not divide the channels.
        UnsupportedError: the implementation asked for cannot take these arguments.

    Numerics:
        Computed in float32 (float64 for float64 input); 16-bit arguments are widened first. Results do not depend on
        the number of threads.

    Source:
        Dao and Gu, "Transformers are SSMs" (2024), arXiv:2405.21060, §7.1; Zhang and Sennrich, "Root mean square layer
        normalization" (2019), arXiv:1910.07467, eq. 4.

    Example:
        >>> import torch
        >>> from longwave.ops import gated_norm
        >>> gated_norm(torch.tensor([[3.0, -3.0]]), torch.ones(1, 2), torch.ones(2)).y
        tensor([[ 1.0000, -1.0000]])
    """
    if x.ndim == 0 or x.dtype not in check.STATE_DTYPE or x.is_complex():
        raise ShapeError(
            f"gated_norm: x is {x.dtype} with shape {tuple(x.shape)}; expected a real floating (..., dim)."
        )
    dim = x.shape[-1]
    check.shape("gated_norm", "z", z, x.shape, "the shape of x")
    check.shape("gated_norm", "weight", weight, (dim,), "(dim,)")
    for name, tensor in (("z", z), ("weight", weight)):
        if not tensor.is_floating_point():
            raise ShapeError(f"gated_norm: {name} is {tensor.dtype}; expected a real floating point dtype.")
    size = dim if group_size is None else group_size
    if size < 1 or dim % size:
        raise ShapeError(f"gated_norm: group_size={size} does not divide the {dim} channels of x.")
    check.same_device("gated_norm", x=x, z=z, weight=weight)
    compute = check.STATE_DTYPE[x.dtype]
    u, gate = (v.to(compute).reshape(-1, dim) for v in (x, z))
    y = _op(impl, u, gate, weight.to(compute), size, norm_before_gate, eps)
    return GatedNorm(y.reshape(x.shape).to(x.dtype))
