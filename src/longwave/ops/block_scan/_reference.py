"""The definition: one block after another, their states in double precision."""

import torch
import torch.nn.functional as F
from torch import Tensor


def run(
    u: Tensor,
    transition: Tensor,
    enter: Tensor,
    leave: Tensor,
    kernel: Tensor,
    initial_state: Tensor,
    fresh: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """y (dim, batch, blocks, span), the states before the blocks and after the last; tables but transition are as u."""
    driven, x, starts = (u @ enter[:, None]).double(), initial_state, []
    for k in range(u.shape[2]):
        x = x if fresh is None else torch.where(fresh[:, k, None], 0, x)
        starts.append(x)
        x = x @ transition.mT + driven[:, :, k]
    before = torch.stack(starts, 2).to(u.dtype) if starts else driven.to(u.dtype)
    return u @ _toeplitz(kernel)[:, None] + before @ leave[:, None].mT, before, x


def _toeplitz(k: Tensor) -> Tensor:
    """Row i has k_{j−i} at j ≥ i: from a block's inputs to its outputs."""
    span = k.shape[1]
    return F.pad(k, (span - 1, 0)).unfold(1, span, 1).flip(1)
