"""The definition, all leaves in one batched product each: near, gather and spread."""

import torch
from torch import Tensor

from longwave.math import exchanged


def run(
    x: Tensor, u: Tensor, near: Tensor, gather: Tensor, spread: Tensor, B: Tensor, C: Tensor, D: Tensor
) -> tuple[Tensor, Tensor]:
    """y (batch, dim), and the state after it."""
    leaves = x.flatten(0, 1).unflatten(-1, near.shape[:2]).transpose(0, 1)
    after = torch.baddbmm(leaves @ near, exchanged(leaves @ gather), spread)
    x = torch.addcmul(after.transpose(0, 1).reshape(x.shape), B, u[:, :, None])
    return torch.addcmul((C * x).sum(-1), D, u), x
