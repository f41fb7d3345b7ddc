"""The definition: SiLU, PyTorch's root-mean-square norm over groups, and two products."""

from torch import Tensor
from torch.nn import functional as F


def run(x: Tensor, z: Tensor, weight: Tensor, size: int, norm_first: bool, eps: float) -> Tensor:
    """y (rows, dim); all tensors of one precision, groups of `size` channels."""
    gate = F.silu(z)
    groups = (x if norm_first else x * gate).unflatten(-1, (-1, size))
    y = F.rms_norm(groups, (size,), eps=eps).flatten(-2) * weight
    return y * gate if norm_first else y
