"""Dropout whose mask is one per sequence and channel, the same at every position."""

from typing import final

import torch.nn.functional as F
from torch import nn

from longwave.errors import ConfigError, UnsupportedError
from longwave.shapes import Tensor


@final
class TiedDropout(nn.Module):
    """Zero whole channels of a sequence: y[b, t, d] = m[b, d] x[b, t, d] / (1 − p), with m ~ Bernoulli(1 − p).

    A mask that changed with time would add white noise to the signal, which a linear system integrates; one that is
    tied over time removes a feature, as dropout is meant to.

    Args:
        p: the probability that a channel is zeroed, in [0, 1).

    Raises:
        ConfigError: p is out of range.
        UnsupportedError: one position was given in training mode, where the mask of the positions before is unknown.
            Each call of ``prefill`` in training mode likewise draws its own mask.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ConfigError(f"dropout={p} must lie in [0, 1)")
        self.p = p

    @property
    def active(self) -> bool:
        """Whether it does anything now: in training, with a p above zero."""
        return self.training and self.p > 0

    def forward(self, x: Tensor) -> Tensor:
        if not self.active:
            return x
        if x.ndim == 2:
            raise UnsupportedError("step has no dropout mask that is tied over time: call eval() before stepping")
        return x * F.dropout(x.new_ones(x.shape[0], 1, x.shape[2]), self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"
