"""Sequences: batches are the stored values, standardised and padded to their longest; what does not fit is refused."""

import dataclasses
import re

import pytest
import torch

from longwave.data import Sequences
from longwave.errors import ConfigError, DataError

LENGTHS = [3, 1, 4, 2]


def rectangular() -> Sequences:
    """Sample i has the stored value i everywhere; classes alternate."""
    x = torch.arange(12, dtype=torch.uint8)[:, None, None].expand(12, 5, 1)
    return Sequences(x, torch.arange(12) % 3, mean=10.0, std=4.0)


def ragged(**changes) -> Sequences:
    """Four sequences of two channels; position t of sample i holds (10 i + t, −t)."""
    rows = [torch.stack([10 * i + torch.arange(n), -torch.arange(n)], 1) for i, n in enumerate(LENGTHS)]
    fields = {"x": torch.cat(rows).short(), "y": torch.tensor([0, 1, 0, 1]), "lengths": torch.tensor(LENGTHS)}
    return Sequences(**(fields | changes))


def test_a_batch_is_standardised_float32():
    batch = rectangular()[[7, 2]]
    expected = torch.tensor([(7 - 10) / 4, (2 - 10) / 4])[:, None, None].expand(2, 5, 1)
    torch.testing.assert_close(batch.x, expected, rtol=0, atol=0)
    assert batch.y.tolist() == [7 % 3, 2 % 3]
    assert batch.lengths is None


@pytest.mark.parametrize("rows", ([3, 1], torch.tensor([3, 1]), slice(1, 4, 2)))
def test_a_ragged_batch_is_padded_with_zeros_to_its_own_longest(rows):
    chosen = torch.arange(4)[rows].tolist()
    batch = ragged(mean=torch.tensor([1.0, 2.0]), std=torch.tensor([2.0, 4.0]))[rows]
    assert batch.lengths.tolist() == [LENGTHS[i] for i in chosen]
    assert batch.x.shape == (2, 2, 2)
    for x, i in zip(batch.x.tolist(), chosen, strict=True):
        expected = [[(10 * i + t - 1) / 2, (-t - 2) / 4] for t in range(LENGTHS[i])]
        assert x == expected + [[0, 0]] * (2 - LENGTHS[i])


def test_padding_is_dropped_and_may_hold_anything():
    x = torch.tensor([[1.0, 2, 3], [4, float("nan"), float("inf")]])[:, :, None]
    samples = Sequences(x, torch.zeros(2, dtype=torch.long), lengths=torch.tensor([3, 1]))
    assert samples.x.tolist() == [[1], [2], [3], [4]]
    assert samples[:].x.squeeze(2).tolist() == [[1, 2, 3], [4, 0, 0]]


def test_a_subset_of_ragged_samples_is_the_samples():
    samples = ragged(mean=1.0)
    part = samples.subset(torch.tensor([2, 0]))
    assert (part.lengths.tolist(), part.y.tolist(), part.mean) == ([4, 3], [0, 0], 1.0)
    assert torch.equal(part[:].x, samples[[2, 0]].x)
    assert len(part.x) == 7


def test_batches_cover_every_sample_once_in_order():
    samples = rectangular()
    batches = list(samples.batches(5))
    assert [len(batch.y) for batch in batches] == [5, 5, 2]
    assert torch.equal(torch.cat([batch.x for batch in batches]), samples[:].x)
    assert [batch.x.shape[1] for batch in ragged().batches(2)] == [3, 4]


def test_targets_at_every_position_are_cut_and_masked_with_their_sequence():
    labels = torch.arange(20).reshape(4, 5)
    batch = ragged(y=labels)[[1, 3]]
    assert batch.y.tolist() == [[5, -100], [15, 16]]
    tracks = labels[:, :, None].double()
    y = ragged(y=tracks)[[1, 3]].y
    assert y.dtype == torch.float32
    assert y[:, :, 0].nan_to_num(-1).tolist() == [[5, -1], [15, 16]]


@pytest.mark.parametrize(
    ("y", "objective"),
    (
        (torch.zeros(12, dtype=torch.int32), "classify"),
        (torch.zeros(12, 2), "regress"),
        (torch.zeros(12, 5, dtype=torch.int64), "label"),
        (torch.zeros(12, 5, 2, dtype=torch.float64), "track"),
        (torch.zeros(12, 0), None),
    ),
)
def test_the_form_of_the_targets_is_the_objective(y, objective):
    samples = dataclasses.replace(rectangular(), y=y)
    assert samples.objective == objective
    assert samples.y.dtype == (torch.float32 if y.is_floating_point() else torch.int64)


def test_the_scale_of_targets_leaves_out_what_is_missing():
    nan = float("nan")
    y = torch.tensor([[[1.0, 5.0], [nan, nan]], [[3.0, 5.0], [5.0, 5.0]]])
    mean, std = Sequences(torch.zeros(2, 2, 1), y).target_scale
    assert mean == [3.0, 5.0]
    assert std == pytest.approx([(8 / 3) ** 0.5, 1.0])
    assert rectangular().target_scale == ([], [])


def test_symbols_become_one_hot_channels():
    samples = Sequences(torch.tensor([[[2], [0]]], dtype=torch.uint8), torch.tensor([0]), one_hot=3)
    assert samples.channels == 3
    assert samples[:].x.tolist() == [[[0, 0, 1], [1, 0, 0]]]


def test_only_training_batches_are_augmented_and_by_the_generator_given():
    def noise(x, generator):
        return x + torch.randint(0, 100, x.shape, generator=generator)

    for samples in (rectangular(), ragged()):
        varied = dataclasses.replace(samples, augment=noise)
        assert torch.equal(varied[:].x, samples[:].x)
        before = torch.get_rng_state()
        first, again, other = (varied.fetch([0, 2], torch.Generator().manual_seed(s)) for s in (0, 0, 1))
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(first.x, again.x)
        assert not torch.equal(first.x, other.x)
    assert first.x[0, 3].tolist() == [0, 0], "padding stays zero"


def test_standardised_by_the_training_set_channel_by_channel():
    train = ragged(x=torch.cat([ragged().x, torch.full((10, 1), 7, dtype=torch.int16)], 1)).standardised()
    inside = train[:].x[torch.arange(4) < train.lengths[:, None]].double()
    expected = torch.tensor([0.0] * 3, dtype=torch.float64)
    torch.testing.assert_close(inside.mean(0), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(inside.std(0, correction=0), torch.tensor([1.0, 1, 0]).double(), rtol=1e-6, atol=0)
    other = train.subset(torch.tensor([1])).standardised(train)
    assert other.standardisation == train.standardisation
    assert train.standardisation[1][2] == 1.0
    assert rectangular().standardisation == ([10.0], [4.0])


X, Y = torch.zeros(3, 5, 1), torch.zeros(3, dtype=torch.long)


@pytest.mark.parametrize(
    ("fields", "message"),
    (
        ({"y": torch.zeros(4)}, "one row per sample"),
        ({"lengths": torch.ones(2)}, "one row per sample"),
        ({"x": X[..., 0]}, r"\(samples, time, channels\).*got shape \(3, 5\)"),
        ({"x": X[:0], "y": Y[:0]}, "no samples"),
        ({"x": X[:, :0]}, "are empty"),
        ({"x": X[..., :0]}, "no channels"),
        ({"lengths": torch.tensor([5, 0, 5])}, "sample 1 has length 0"),
        ({"lengths": torch.tensor([5, 5, 6])}, "sample 2 has length 6, but x has 5"),
        ({"x": X[:, 0], "lengths": torch.tensor([1, 1, 2])}, "add up to 4 positions, but x has 3"),
        ({"x": X.index_fill(1, torch.tensor([4]), float("nan"))}, "sample 0 has NaN or infinity at position 4"),
        ({"y": torch.zeros(3)}, r"must be \(samples, outputs\)"),
        ({"y": torch.zeros(3, 5, 1, dtype=torch.long)}, r"must be \(samples,\)"),
        ({"y": torch.tensor([0, 1, 2]), "classes": ("a", "b")}, "sample 2 has class 2, but there are 2 classes"),
        ({"y": torch.tensor([0, -100, 2])}, "sample 1 has class -100"),
        ({"y": torch.zeros(3, 4, dtype=torch.long)}, "targets for 4 positions, the longest sequence has 5"),
        ({"y": torch.tensor([[0.0], [1.0], [float("nan")]])}, "target of sample 2"),
        ({"mean": torch.zeros(2)}, "mean has 2 numbers for 1 channels"),
        ({"x": X + 3, "one_hot": 3}, "symbols from 0 to 2"),
    ),
)
def test_what_does_not_fit_is_refused(fields, message):
    with pytest.raises(DataError, match=message):
        Sequences(**({"x": X, "y": Y} | fields))


def test_the_first_sample_with_nan_is_named_in_ragged_sets_too():
    x = ragged().x.float()
    x[3 + 1 + 2] = float("inf")
    with pytest.raises(DataError, match="sample 2 has NaN or infinity at position 2"):
        ragged(x=x)


def test_symbols_have_no_mean():
    symbols = Sequences(torch.ones(1, 2, 1, dtype=torch.long), torch.tensor([0]), one_hot=2)
    with pytest.raises(ConfigError, match=re.escape("no mean")):
        symbols.standardised()
