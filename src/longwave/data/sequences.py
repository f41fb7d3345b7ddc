"""A set of sequences as plain tensors: kept as stored, each at its own length, converted and padded batch by batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import torch

from longwave.data._checks import check_targets, check_values
from longwave.errors import ConfigError, DataError
from longwave.shapes import Bool, Float, Int, Tensor

__all__ = ["NO_TARGET", "Batch", "Sequences"]

# What a per-position class is where there is nothing to predict; torch's losses skip it by default.
NO_TARGET = -100


class Batch(NamedTuple):
    """What a model is trained on in one step.

    Args:
        x: standardised values, zero beyond each sequence's end.
        y: the targets, in the form that :class:`Sequences` describes.
        lengths: how many positions of each row count; None where all sequences of the set are equally long.
    """

    x: Float[Tensor, "batch time channels"]
    y: Tensor
    lengths: Int[Tensor, " batch"] | None = None


@dataclass(frozen=True, eq=False)
class Sequences(torch.utils.data.Dataset[Batch]):
    """Sequences and their targets: a map-style data set whose batches are ``(x − mean) / std`` in float32.

    The targets' type and shape say what is to be learned:

    ===========  ============================  =========================================================
    objective    y                             meaning
    ===========  ============================  =========================================================
    classify     int64 (samples,)              the number of the class
    regress      float32 (samples, outputs)    numbers; no outputs at all: the sequences have no target
    label        int64 (samples, time)         a class at every position, −100 where there is none
    track        float32 (samples, time, out)  numbers at every position, NaN where there are none
    ===========  ============================  =========================================================

    Args:
        x: the stored values, of any dtype: (samples, time, channels), or (positions, channels) with the sequences one
            after another. Padding in the first form, given with ``lengths``, is dropped.
        y: the targets. Integers become int64, floating point numbers float32.
        mean, std: the standardisation, in the unit of the stored values: one number, or one for each channel.
        lengths: how many positions each sequence has, (samples,); None: all of ``time``.
        classes: the names of the classes, in the order of their numbers.
        one_hot: the number of symbols; then x holds one symbol per position and the batches have a channel for each.
            0: x holds the values themselves.
        augment: maps the stored values of a batch, (batch, time, channels), to varied ones of the same shape; draws
            from the generator that it is given and from no other.

    Raises:
        DataError: there are no samples, a sequence is empty, shapes do not fit, a value is NaN or infinite, or a class
            is outside those named.

    Example:
        >>> pair = Sequences(torch.arange(5.0)[:, None], torch.tensor([0, 1]), lengths=torch.tensor([2, 3]))
        >>> pair[[1, 0]].x.squeeze(2).tolist()
        [[2.0, 3.0, 4.0], [0.0, 1.0, 0.0]]
    """

    x: Tensor
    y: Tensor
    mean: float | Tensor = 0.0
    std: float | Tensor = 1.0
    lengths: Tensor | None = None
    classes: tuple[str, ...] = ()
    one_hot: int = 0
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None

    def __post_init__(self) -> None:
        # A frozen class is completed through object: from here on y and lengths have one dtype and x no padding.
        put = object.__setattr__
        put(self, "y", self.y.float() if self.y.is_floating_point() else self.y.long())
        if self.lengths is not None:
            put(self, "lengths", self.lengths.long())
        check_values(self.x, self.lengths, len(self.y))
        check_targets(self.y, self.longest, len(self.classes), NO_TARGET)
        self._check_channels()
        if self.lengths is not None and self.x.ndim == 3:
            put(self, "x", self.x[_within(self.lengths, self.x.shape[1])])

    def _check_channels(self) -> None:
        for name, given in (("mean", self.mean), ("std", self.std)):
            if isinstance(given, Tensor) and given.numel() not in (1, self.channels):
                raise DataError(
                    f"{name} has {given.numel()} numbers for {self.channels} channels: one, or one for each"
                )
        if self.one_hot and (self.x.shape[-1] != 1 or not 0 <= int(self.x.min()) <= int(self.x.max()) < self.one_hot):
            raise DataError(f"one_hot={self.one_hot} needs x with one channel of symbols from 0 to {self.one_hot - 1}")

    @classmethod
    def of(cls, samples: list[Tensor], y: Tensor, classes: tuple[str, ...] = ()) -> Sequences:
        """The set of some samples, each (time, channels); without padding, rectangular if they are equally long."""
        lengths = torch.tensor([len(sample) for sample in samples])
        if len(lengths.unique()) == 1:
            return cls(torch.stack(samples), y, classes=classes)
        return cls(torch.cat(samples) if samples else torch.empty(0, 1), y, lengths=lengths, classes=classes)

    def __len__(self) -> int:
        return len(self.y)

    @property
    def channels(self) -> int:
        """How many values a position of a batch has."""
        return self.one_hot or self.x.shape[-1]

    @property
    def longest(self) -> int:
        """The number of positions of the longest sequence."""
        return self.x.shape[1] if self.lengths is None else int(self.lengths.max())

    @property
    def objective(self) -> Literal["classify", "regress", "label", "track"] | None:
        """What is to be learned, by the form of the targets; None where there are none."""
        if self.y.is_floating_point():
            return "track" if self.y.ndim == 3 else "regress" if self.y.shape[1] else None
        return "classify" if self.y.ndim == 1 else "label"

    @property
    def standardisation(self) -> tuple[list[float], list[float]]:
        """The mean and the standard deviation of each channel, as the batches subtract and divide."""
        mean, std = (torch.as_tensor(t, dtype=torch.float32).expand(self.channels) for t in (self.mean, self.std))
        return mean.tolist(), std.tolist()

    @property
    def target_scale(self) -> tuple[list[float], list[float]]:
        """The mean and the standard deviation (1 for constants) of each number to estimate; empty lists for classes."""
        if self.objective not in ("regress", "track"):
            return [], []
        y = self.y.flatten(0, -2).double()
        mean = y.nanmean(0)
        std = (y - mean).square().nanmean(0).sqrt()
        return mean.tolist(), torch.where(std > 0, std, 1.0).tolist()

    def fetch(self, rows: Tensor | list[int] | slice, generator: torch.Generator | None) -> Batch:
        """The batch of some samples, padded to the longest of them.

        Args:
            rows: the samples' numbers, or a slice of them.
            generator: what ``augment`` draws from; None: the samples as they are.
        """
        lengths = None if self.lengths is None else self.lengths[rows]
        x = self.x[rows] if lengths is None else self._padded(rows, lengths)
        if generator is not None and self.augment is not None:
            x = self.augment(x, generator)
        values = torch.nn.functional.one_hot(x.squeeze(2).long(), self.one_hot) if self.one_hot else x
        standardised = (values.float() - self.mean) / self.std
        y = self.y[rows]
        if lengths is None:
            return Batch(standardised, y, None)
        inside = _within(lengths, x.shape[1])
        if self.objective in ("label", "track"):
            y = y[:, : x.shape[1]]
            none = float("nan") if self.objective == "track" else NO_TARGET
            y = torch.where(inside.reshape(inside.shape + (1,) * (y.ndim - 2)), y, none)
        return Batch(torch.where(inside[:, :, None], standardised, 0.0), y, lengths)

    def __getitem__(self, rows: Tensor | list[int] | slice) -> Batch:
        """The batch of some samples, as they are."""
        return self.fetch(rows, None)

    # torch's DataLoader asks for a whole batch at once where this name exists.
    __getitems__ = __getitem__

    def subset(self, rows: Tensor) -> Sequences:
        """The samples with these numbers, standardised and augmented in the same way."""
        if self.lengths is None:
            return dataclasses.replace(self, x=self.x[rows], y=self.y[rows])
        lengths = self.lengths[rows]
        packed = self._padded(rows, lengths)[_within(lengths, int(lengths.max()))] if len(lengths) else self.x[:0]
        return dataclasses.replace(self, x=packed, y=self.y[rows], lengths=lengths)

    def batches(self, size: int) -> Iterable[Batch]:
        """All samples in their order, in batches of ``size``."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def standardised(self, by: Sequences | None = None) -> Sequences:
        """The same samples, standardised channel by channel.

        Args:
            by: the set whose mean and standard deviation are taken, the training set; None: this one.

        Returns:
            The set, whose batches have mean 0 and standard deviation 1 on ``by``. A channel that is constant there is
            only shifted.

        Raises:
            ConfigError: the values are symbols.
            DataError: the two sets differ in their channels.
        """
        if self.one_hot:
            raise ConfigError("symbols fed one-hot have no mean to standardise by")
        by = by or self
        if by.channels != self.channels:
            raise DataError(
                f"the sequences have {self.channels} channels, those they are standardised by {by.channels}"
            )
        std, mean = torch.std_mean(by.x.flatten(0, -2).double(), dim=0, correction=0)
        return dataclasses.replace(self, mean=mean.float(), std=torch.where(std > 0, std, 1.0).float())

    @cached_property
    def _starts(self) -> Int[Tensor, " samples"]:
        assert self.lengths is not None
        return self.lengths.cumsum(0) - self.lengths

    def _padded(self, rows: Tensor | list[int] | slice, lengths: Tensor) -> Tensor:
        """Stored values of some samples, (batch, time, channels); beyond a sequence's end lie values of others."""
        positions = self._starts[rows][:, None] + torch.arange(int(lengths.max()))
        return self.x[positions.clamp_(max=len(self.x) - 1)]


def _within(lengths: Int[Tensor, " samples"], time: int) -> Bool[Tensor, "samples {time}"]:
    """Which positions of padded rows belong to a sequence."""
    return torch.arange(time) < lengths[:, None]
