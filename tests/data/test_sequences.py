"""Sequences: batches are the stored values, standardised; a split is disjoint, exact and keeps the order."""

import pytest
import torch

from longwave.data import Sequences, hold_out
from longwave.errors import DataError


def labelled(per_class: int, classes: int = 3) -> Sequences:
    """Sample i has the stored value i everywhere; classes alternate."""
    n = per_class * classes
    x = torch.arange(n, dtype=torch.uint8)[:, None, None].expand(n, 5, 1)
    return Sequences(x, torch.arange(n) % classes, mean=10.0, std=4.0)


def test_a_batch_is_standardised_float32():
    batch = labelled(4)[[7, 2]]
    expected = torch.tensor([(7 - 10) / 4, (2 - 10) / 4])[:, None, None].expand(2, 5, 1)
    torch.testing.assert_close(batch.x, expected, rtol=0, atol=0)
    assert batch.y.tolist() == [7 % 3, 2 % 3]
    assert batch.lengths is None


def test_lengths_travel_with_their_rows():
    samples = Sequences(torch.zeros(3, 5, 1), torch.arange(3), lengths=torch.tensor([5, 2, 4]))
    assert samples[[2, 0]].lengths.tolist() == [4, 5]
    assert samples.subset(torch.tensor([1]))[:].lengths.tolist() == [2]


def test_batches_cover_every_sample_once_in_order():
    samples = labelled(4)
    batches = list(samples.batches(5))
    assert [len(batch.y) for batch in batches] == [5, 5, 2]
    assert torch.equal(torch.cat([batch.x for batch in batches]), samples[:].x)


def test_only_batches_are_augmented():
    samples = labelled(4)
    varied = Sequences(samples.x, samples.y, augment=lambda x: x + 1)
    assert torch.equal(varied[:].x, samples.x.float() + 1)
    assert torch.equal(varied.x, samples.x)


def test_hold_out_takes_the_last_of_each_class_and_nothing_twice():
    samples = labelled(4)
    kept, held = hold_out(samples, per_class=1)
    assert held.x[:, 0, 0].tolist() == [9, 10, 11]
    assert kept.x[:, 0, 0].tolist() == list(range(9))
    assert (held.mean, held.std) == (samples.mean, samples.std)


def test_hold_out_leaves_something_to_train_on():
    with pytest.raises(DataError, match="class 0 has 4 samples: 4 of them cannot be held out"):
        hold_out(labelled(4), per_class=4)


def test_rows_must_agree():
    with pytest.raises(DataError, match="one row per sample"):
        Sequences(torch.zeros(3, 5, 1), torch.zeros(4))
    with pytest.raises(DataError, match=r"\(samples, time, channels\), got shape \(3, 5\)"):
        Sequences(torch.zeros(3, 5), torch.zeros(3))
