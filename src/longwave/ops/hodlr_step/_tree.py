"""What goes from leaf to leaf."""

import torch
from torch import Tensor


def exchanged(z: Tensor) -> Tensor:
    """At each level the sum over the leaves of the block beside: (leaves, rows, columns), the first level first.

    The map is its own adjoint, for "beside" goes both ways.
    """
    leaves = len(z)
    levels = leaves.bit_length() - 1
    parts = []
    for level, part in enumerate(z.unflatten(-1, (levels, -1)).unbind(-2)):
        pairs = part.unflatten(0, (1 << level, 2, -1))  # of blocks
        parts.append(pairs.sum(2, keepdim=True).flip(1).expand_as(pairs).flatten(0, 2))
    return torch.cat(parts, -1)
