"""Sets that are drawn, to train on, to choose settings by, and to test at several lengths: each with its own seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from longwave.data import Sequences
from longwave.errors import ConfigError
from longwave.recipes.experiment import Parts, Resampled

__all__ = ["draw_parts"]


def draw_parts(
    draw: Callable[..., Sequences],
    sizes: Mapping[str, Any],
    counts: tuple[int, int, int],
    seed: int,
    tests: Mapping[str, Mapping[str, Any]],
    training: Mapping[str, Any] = MappingProxyType({}),
) -> Parts:
    """The parts of a synthetic task.

    Args:
        draw: the task.
        sizes: its arguments, beside the number of samples and the seed.
        counts: samples to train on, to hold out, and to test on; the last two may be 0.
        seed: of the task; every part has another one that is made of it.
        tests: further tests by name, as arguments that differ from ``sizes``.
        training: arguments that differ from ``sizes`` in the set to train on.

    Raises:
        ConfigError: a count is negative, or a size out of its range.
    """
    if min(counts) < 0:
        raise ConfigError(f"train_samples, held_out and test_samples must not be negative, got {counts}")
    parts = 3 + len(tests)
    train, held_out, test = (
        draw(samples=count, seed=parts * seed + part, **{**sizes, **({} if part else training)})
        if count or not part
        else None
        for part, count in enumerate(counts)
    )
    assert train is not None
    further = {
        name: Resampled(draw(samples=counts[2], seed=parts * seed + part, **{**sizes, **changes}), 1.0)
        for part, (name, changes) in enumerate(tests.items(), 3)
        if counts[2]
    }
    return Parts(train, held_out, test, further)
