"""The order of the batches: a pure function of seed and epoch, so that training can go on from any batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch

from longwave.data.sequences import NO_TARGET, Batch, Sequences
from longwave.errors import ConfigError
from longwave.shapes import Int, Tensor

__all__ = ["BatchOrder", "Batches", "derive_seed"]

# Batches that are sorted by length together: the more, the less padding, and the less random the batches.
_POOL = 50
# What a seed is derived for; the numbers keep the streams apart.
_ORDER, _AUGMENT = 0, 1


def derive_seed(seed: int, *place: int) -> int:
    """A seed of its own for each place in a training, without regard to what was drawn before.

    Args:
        seed: the training's seed, not negative.
        place: what the numbers are drawn for, such as a stream, an epoch and a batch; not negative.

    Returns:
        A number of 63 bits, from NumPy's SeedSequence.

    Raises:
        ConfigError: the seed is negative.
    """
    if seed < 0:
        raise ConfigError(f"seed must not be negative, got {seed}")
    return int(np.random.SeedSequence(seed, spawn_key=place).generate_state(1, np.uint64)[0] >> 1)


@final
@dataclass(frozen=True, eq=False)
class BatchOrder:
    """Which samples make up which batch.

    Where sequences differ in length, neighbours in length come together, which saves padding: the shuffled samples are
    sorted within pools of 50 batches, and the batches are shuffled in turn.

    Args:
        samples: their number.
        size: samples per batch; the last batch to be cut has the rest.
        seed: determines the order; None: by length, or else as they come, the same in each epoch.
        lengths: of each sample, (samples,); None: all are equally long.

    Example:
        >>> [rows.tolist() for rows in BatchOrder(5, 2, seed=None).batches(epoch=0)]
        [[0, 1], [2, 3], [4]]
    """

    samples: int
    size: int
    seed: int | None
    lengths: Int[Tensor, " samples"] | None = None

    def __len__(self) -> int:
        return math.ceil(self.samples / self.size)

    def batches(self, epoch: int) -> list[Int[Tensor, " rows"]]:
        """The rows of each batch of an epoch, every sample once."""
        if self.seed is None:
            rows = torch.arange(self.samples) if self.lengths is None else self.lengths.argsort(stable=True)
            return list(rows.split(self.size))
        generator = torch.Generator().manual_seed(derive_seed(self.seed, _ORDER, epoch))
        rows = torch.randperm(self.samples, generator=generator)
        if self.lengths is None:
            return list(rows.split(self.size))
        pools = [pool[self.lengths[pool].argsort(stable=True)] for pool in rows.split(_POOL * self.size)]
        batches = [batch for pool in pools for batch in pool.split(self.size)]
        return [batches[k] for k in torch.randperm(len(batches), generator=generator)]


@final
class Batches:
    """The batches of a set, epoch by epoch, or the share of them that one of several processes has.

    Args:
        samples: the set; it is augmented where the order is a shuffled one, with a generator for each batch.
        order: which samples make up which batch.
        rank, world: this process's number and the number of processes. Every batch is dealt out among them, one sample
            after another; who gets none has the first sample without a target, so that each has a batch.
    """

    def __init__(self, samples: Sequences, order: BatchOrder, rank: int = 0, world: int = 1) -> None:
        self.samples = samples
        self.order = order
        self.rank, self.world = rank, world
        self.epoch = 0
        self.position = 0
        self._begin = 0

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        """The batches of the present epoch, from the restored position on."""
        self.position, self._begin = self._begin, 0
        for rows in self.order.batches(self.epoch)[self.position :]:
            self.position += 1
            yield self._share(rows)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next iteration is."""
        self.epoch = epoch

    def state_dict(self) -> dict[str, Any]:
        """The epoch, and how many of its batches were given out."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken, in the next iteration."""
        self.epoch, self._begin = state["epoch"], state["position"]

    def _share(self, rows: Int[Tensor, " rows"]) -> Batch:
        share = rows[self.rank :: self.world]
        if len(share) == 0:
            batch = self.samples.fetch(rows[:1], None)
            return batch._replace(
                y=torch.full_like(batch.y, NO_TARGET if not batch.y.is_floating_point() else math.nan)
            )
        return self.samples.fetch(share, self._generator())

    def _generator(self) -> torch.Generator | None:
        if self.order.seed is None or self.samples.augment is None:
            return None
        place = (_AUGMENT, self.epoch, self.position, self.rank)
        return torch.Generator().manual_seed(derive_seed(self.order.seed, *place))
