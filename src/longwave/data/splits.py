"""Parts of a set that share no sample: what is trained on, and what is measured."""

from __future__ import annotations

import torch

from longwave.data.sequences import Sequences
from longwave.errors import ConfigError, DataError

__all__ = ["hold_out", "split"]


def hold_out(samples: Sequences, per_class: int) -> tuple[Sequences, Sequences]:
    """Split off the last ``per_class`` samples of each class.

    Args:
        samples: the set to split; it is not changed.
        per_class: how many samples of each class go to the second part, in their order.

    Returns:
        The remaining samples and the ones held out, both in their original order.

    Raises:
        DataError: a class has no more than ``per_class`` samples.
        ConfigError: the samples have no classes, or ``per_class`` is not positive.
    """
    if samples.objective != "classify":
        raise ConfigError(
            f"per_class needs samples with one class each, these have y of shape {tuple(samples.y.shape)}"
        )
    if per_class < 1:
        raise ConfigError(f"per_class must be positive, got {per_class}")
    held = torch.zeros(len(samples), dtype=torch.bool)
    for label in samples.y.unique():
        members = (samples.y == label).nonzero().squeeze(1)
        if len(members) <= per_class:
            raise DataError(f"class {int(label)} has {len(members)} samples: {per_class} of them cannot be held out")
        held[members[len(members) - per_class :]] = True
    return samples.subset((~held).nonzero().squeeze(1)), samples.subset(held.nonzero().squeeze(1))


def split(samples: Sequences, fraction: float, seed: int) -> tuple[Sequences, Sequences]:
    """Split off a share of the samples, drawn at random; of each class the same share, where there are classes.

    Args:
        samples: the set to split; it is not changed.
        fraction: the share of the second part, between 0 and 1. Of n samples (of a class) round(fraction · n) go
            there, but one at least, and one at least remains.
        seed: of the drawing, by ``torch.Generator``: the same seed gives the same parts.

    Returns:
        The remaining samples and the ones split off, both in their original order.

    Raises:
        ConfigError: the fraction is not between 0 and 1.
        DataError: there is only one sample, or only one of a class.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"a fraction of the samples must be between 0 and 1, got {fraction}")
    generator = torch.Generator().manual_seed(seed)
    groups = samples.y if samples.objective == "classify" else torch.zeros(len(samples), dtype=torch.long)
    held = torch.zeros(len(samples), dtype=torch.bool)
    for group in groups.unique():
        members = (groups == group).nonzero().squeeze(1)
        if len(members) < 2:
            of = f"class {int(group)} has" if samples.objective == "classify" else "there is"
            raise DataError(f"{of} a single sample, which cannot be in both parts; add samples or leave the class out")
        taken = min(max(round(fraction * len(members)), 1), len(members) - 1)
        held[members[torch.randperm(len(members), generator=generator)[:taken]]] = True
    return samples.subset((~held).nonzero().squeeze(1)), samples.subset(held.nonzero().squeeze(1))
