"""The definition: a sum over lags, as a depthwise convolution of the padded input, in double precision."""

import torch
from torch import Tensor
from torch.nn import functional as F


def run(u: Tensor, k: Tensor) -> Tensor:
    """y (batch, time, dim)."""
    _, time, dim = u.shape
    lags = min(k.shape[1], time)
    if lags == 0 or 0 in u.shape:
        return torch.zeros_like(u) + 0 * k.sum()
    padded = F.pad(u.mT.double(), (lags - 1, 0))
    return F.conv1d(padded, k[:, None, :lags].flip(2).double(), groups=dim).mT.to(u.dtype)
