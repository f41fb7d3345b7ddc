"""Splits are disjoint, whole and exact, and keep the order."""

import pytest
import torch

from longwave.data import Sequences, hold_out, split
from longwave.errors import ConfigError, DataError


def labelled(per_class: int, classes: int = 3) -> Sequences:
    """Sample i has the stored value i everywhere; classes alternate."""
    n = per_class * classes
    x = torch.arange(n, dtype=torch.uint8)[:, None, None].expand(n, 5, 1)
    return Sequences(x, torch.arange(n) % classes, mean=10.0, std=4.0)


def numbers(samples: Sequences) -> list[int]:
    return samples.x[:, 0, 0].tolist()


def test_hold_out_takes_the_last_of_each_class_and_nothing_twice():
    samples = labelled(4)
    kept, held = hold_out(samples, per_class=1)
    assert numbers(held) == [9, 10, 11]
    assert numbers(kept) == list(range(9))
    assert (held.mean, held.std) == (samples.mean, samples.std)


def test_hold_out_leaves_something_to_train_on():
    with pytest.raises(DataError, match="class 0 has 4 samples: 4 of them cannot be held out"):
        hold_out(labelled(4), per_class=4)


def test_hold_out_needs_classes():
    with pytest.raises(ConfigError, match="one class each"):
        hold_out(Sequences(torch.zeros(3, 5, 1), torch.zeros(3, 1)), per_class=1)


def test_a_split_takes_the_same_share_of_each_class():
    kept, held = split(labelled(10), 0.3, seed=0)
    assert held.y.bincount().tolist() == [3, 3, 3]
    assert sorted(numbers(kept) + numbers(held)) == list(range(30))
    assert numbers(kept) == sorted(numbers(kept))


def test_a_split_depends_on_its_seed_alone():
    samples = labelled(10)
    first = numbers(split(samples, 0.3, seed=0)[1])
    torch.manual_seed(99)
    assert numbers(split(samples, 0.3, seed=0)[1]) == first
    assert numbers(split(samples, 0.3, seed=1)[1]) != first


def test_numbers_are_split_without_classes():
    samples = Sequences(torch.arange(8.0)[:, None, None], torch.zeros(8, 1))
    kept, held = split(samples, 0.25, seed=3)
    assert (len(kept), len(held)) == (6, 2)


def test_each_part_has_every_class():
    assert [len(part) for part in split(labelled(2), 0.01, seed=0)] == [3, 3]
    with pytest.raises(DataError, match="class 0 has a single sample"):
        split(labelled(1), 0.5, seed=0)


def test_a_share_is_between_none_and_all():
    for fraction in (0.0, 1.0, 1.5):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            split(labelled(2), fraction, seed=0)
