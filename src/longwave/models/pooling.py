"""Pooling over time that can stop and go on: what has been pooled so far is a value, updated chunk by chunk."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, final

import torch

from longwave.shapes import Bool, Float, Int, Tensor


class Pooled(NamedTuple):
    """What is left of the positions so far. A row of which nothing has been seen pools to zero."""

    value: Float[Tensor, "batch dim"]
    seen: Int[Tensor, " batch"]


class Pooling(ABC):
    """Reduces the positions of each row, as far as they are real, to one vector."""

    @abstractmethod
    def update(
        self, pooled: Pooled, h: Float[Tensor, "batch time dim"], real: Bool[Tensor, "batch time"] | None
    ) -> Pooled:
        """Take in a chunk; ``real`` is False at padding, None without padding."""

    @abstractmethod
    def read(self, pooled: Pooled) -> Float[Tensor, "batch dim"]:
        """Return the pooled vector so far."""


@final
class MeanPooling(Pooling):
    """The mean over the real positions; the running sum is kept in float64, so that a long stream does not drift."""

    def update(
        self, pooled: Pooled, h: Float[Tensor, "batch time dim"], real: Bool[Tensor, "batch time"] | None
    ) -> Pooled:
        h = h if real is None else h.masked_fill(~real[..., None], 0)
        wide = torch.promote_types(h.dtype, torch.float32)
        return Pooled(pooled.value + h.sum(1, dtype=wide), pooled.seen + _new(h, real))

    def read(self, pooled: Pooled) -> Float[Tensor, "batch dim"]:
        return pooled.value / pooled.seen.clamp(min=1)[:, None]


@final
class LastPooling(Pooling):
    """The last real position."""

    def update(
        self, pooled: Pooled, h: Float[Tensor, "batch time dim"], real: Bool[Tensor, "batch time"] | None
    ) -> Pooled:
        if h.shape[1] == 0:
            return pooled
        new = _new(h, real)
        last = h.take_along_dim((new - 1).clamp(min=0)[:, None, None], dim=1)[:, 0]
        return Pooled(torch.where(new[:, None] > 0, last.double(), pooled.value), pooled.seen + new)

    def read(self, pooled: Pooled) -> Float[Tensor, "batch dim"]:
        return pooled.value


# name -> pooling
POOLINGS: Mapping[str, Pooling] = MappingProxyType({"mean": MeanPooling(), "last": LastPooling()})


def _new(h: Tensor, real: Tensor | None) -> Int[Tensor, " batch"]:
    """How many real positions of each row a chunk brings."""
    if real is None:
        return torch.full((h.shape[0],), h.shape[1], device=h.device)
    return real.sum(1)
