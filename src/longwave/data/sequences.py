"""A labelled set of sequences as plain tensors: kept as stored, in 8 bits if need be, and converted batch by batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from longwave.errors import DataError
from longwave.shapes import Float, Int, Tensor

__all__ = ["Batch", "Sequences", "hold_out"]


class Batch(NamedTuple):
    """What a model is trained on in one step; ``lengths`` is None where every sequence fills its row."""

    x: Float[Tensor, "batch time channels"]
    y: Int[Tensor, " batch"]
    lengths: Int[Tensor, " batch"] | None = None


@dataclass(frozen=True, eq=False)
class Sequences(torch.utils.data.Dataset[Batch]):
    """Sequences with one class each: a map-style data set whose batches are ``(x − mean) / std`` in float32.

    Args:
        x: the stored values, (samples, time, channels), of any dtype.
        y: the class of each sequence, (samples,).
        mean, std: the standardisation, in the unit of the stored values.
        lengths: how many positions of each row count, (samples,); None: all of them.
        augment: maps the stored values of a batch to varied ones of the same shape, with torch's global generator.

    Raises:
        DataError: x, y and lengths do not have one row per sample.
    """

    x: Tensor
    y: Tensor
    mean: float = 0.0
    std: float = 1.0
    lengths: Tensor | None = None
    augment: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        rows = {name: len(t) for name, t in (("x", self.x), ("y", self.y), ("lengths", self.lengths)) if t is not None}
        if len(set(rows.values())) > 1:
            raise DataError(f"one row per sample is needed in each of x, y and lengths, got {rows} rows")
        if self.x.ndim != 3:
            raise DataError(f"x must be (samples, time, channels), got shape {tuple(self.x.shape)}")

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: Tensor | list[int] | slice) -> Batch:
        """The batch of some samples, given by their numbers or a slice."""
        x = self.x[rows]
        if self.augment is not None:
            x = self.augment(x)
        lengths = None if self.lengths is None else self.lengths[rows]
        return Batch((x.float() - self.mean) / self.std, self.y[rows], lengths)

    # torch's DataLoader asks for a whole batch at once where this name exists.
    __getitems__ = __getitem__

    def subset(self, rows: Tensor) -> Sequences:
        """The samples with these numbers, standardised in the same way."""
        lengths = None if self.lengths is None else self.lengths[rows]
        return dataclasses.replace(self, x=self.x[rows], y=self.y[rows], lengths=lengths)

    def batches(self, size: int) -> Iterable[Batch]:
        """All samples in their order, in batches of ``size``."""
        return (self[start : start + size] for start in range(0, len(self), size))


def hold_out(samples: Sequences, per_class: int) -> tuple[Sequences, Sequences]:
    """Split off the last ``per_class`` samples of each class.

    Args:
        samples: the set to split; it is not changed.
        per_class: how many samples of each class go to the second part, in their order.

    Returns:
        The remaining samples and the ones held out, both in their original order.

    Raises:
        DataError: a class has no more than ``per_class`` samples.
    """
    held = torch.zeros(len(samples), dtype=torch.bool)
    for label in samples.y.unique():
        members = (samples.y == label).nonzero().squeeze(1)
        if len(members) <= per_class:
            raise DataError(f"class {int(label)} has {len(members)} samples: {per_class} of them cannot be held out")
        held[members[len(members) - per_class :]] = True
    return samples.subset((~held).nonzero().squeeze(1)), samples.subset(held.nonzero().squeeze(1))
