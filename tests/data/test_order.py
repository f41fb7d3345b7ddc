"""The order of batches: every sample once, a function of seed and epoch alone, similar lengths together, dealt out."""

import pytest
import torch

from longwave.data import Sequences
from longwave.data.order import Batches, BatchOrder, derive_seed
from longwave.errors import ConfigError


def ragged(n: int = 1000) -> torch.Tensor:
    return torch.randint(1, 200, (n,), generator=torch.Generator().manual_seed(3))


def numbered(n: int, **options) -> Sequences:
    """Sample i has the value i everywhere and the class i."""
    return Sequences(torch.arange(float(n))[:, None, None].expand(n, 4, 1), torch.arange(n), **options)


def rows(order: BatchOrder, epoch: int) -> list[list[int]]:
    return [batch.tolist() for batch in order.batches(epoch)]


@pytest.mark.parametrize("lengths", [None, ragged(53)])
@pytest.mark.parametrize("seed", [None, 0])
def test_every_sample_comes_once_in_each_epoch(lengths, seed):
    order = BatchOrder(53, 8, seed, lengths)
    for epoch in range(3):
        batches = rows(order, epoch)
        assert len(batches) == len(order) == 7
        assert sorted(map(len, batches)) == [5] + [8] * 6
        assert sorted(row for batch in batches for row in batch) == list(range(53))


@pytest.mark.parametrize("lengths", [None, ragged(53)])
def test_the_order_depends_on_seed_and_epoch_alone(lengths):
    order = BatchOrder(53, 8, 5, lengths)
    later = rows(order, 7)
    torch.rand(10)
    assert rows(BatchOrder(53, 8, 5, lengths), 7) == later
    assert len({str(found) for found in (later, rows(order, 6), rows(BatchOrder(53, 8, 6, lengths), 7))}) == 3


def test_batches_of_similar_lengths_need_little_padding_and_stay_random():
    lengths = ragged()
    order = BatchOrder(1000, 10, 0, lengths)

    def padding(batches):
        longest = sum(int(lengths[batch].max()) * len(batch) for batch in batches)
        return 1 - int(lengths.sum()) / longest

    assert padding(order.batches(0)) < 0.05
    assert padding(BatchOrder(1000, 10, 0).batches(0)) > 0.4
    assert padding(BatchOrder(1000, 10, None, lengths).batches(0)) < 0.02
    # Batches come in no order of length, and a batch of one epoch is not one of the next.
    means = torch.stack([lengths[batch].double().mean() for batch in order.batches(0)])
    assert abs(torch.corrcoef(torch.stack([means, torch.arange(100.0).double()]))[0, 1]) < 0.3
    assert not {frozenset(batch) for batch in rows(order, 0)} & {frozenset(batch) for batch in rows(order, 1)}


def test_processes_share_every_batch():
    order = BatchOrder(23, 5, 1)
    shares = [list(Batches(numbered(23), order, rank, 2)) for rank in range(2)]
    for whole, *parts in zip(order.batches(0), *shares, strict=True):
        found = [y for part in parts for y in part.y.tolist()]
        assert sorted(found) == sorted(whole.tolist())


@pytest.mark.parametrize(("y", "blank"), [(torch.arange(3), -100), (torch.ones(3, 2), float("nan"))])
def test_a_process_without_a_share_has_a_sample_without_target(y, blank):
    samples = Sequences(torch.zeros(3, 4, 1), y)
    (batch,) = list(Batches(samples, BatchOrder(3, 3, 0), rank=4, world=5))
    assert batch.x.shape == (1, 4, 1)
    torch.testing.assert_close(batch.y, torch.full_like(y[:1], blank), equal_nan=True)


def test_iteration_goes_on_where_the_state_was_taken():
    def noisy(x, generator):
        return x + torch.rand(x.shape, generator=generator)

    samples, order = numbered(23, augment=noisy), BatchOrder(23, 5, 1)
    whole = Batches(samples, order)
    whole.set_epoch(2)
    iterator, kept = iter(whole), []
    kept.extend(next(iterator) for _ in range(2))
    state = whole.state_dict()
    kept.extend(iterator)
    resumed = Batches(samples, order)
    resumed.load_state_dict(state)
    for batch, expected in zip(resumed, kept[2:], strict=True):
        assert torch.equal(batch.x, expected.x)
    assert len(list(resumed)) == 5, "the next epoch is whole"


def test_augmentation_varies_by_epoch_batch_and_process():
    def noise(x, generator):
        return torch.rand(1, generator=generator).expand(x.shape)

    seen = []
    for rank in range(2):
        for epoch in range(2):
            batches = Batches(numbered(8, augment=noise), BatchOrder(8, 4, 1), rank, 2)
            batches.set_epoch(epoch)
            seen += [batch.x[0, 0, 0].item() for batch in batches]
    assert len(set(seen)) == 8


def test_without_a_seed_nothing_is_augmented():
    samples = numbered(5, augment=lambda x, generator: x + 100)
    assert [batch.x[0, 0, 0].item() for batch in Batches(samples, BatchOrder(5, 2, None))] == [0, 2, 4]


def test_derived_seeds_differ_by_place():
    assert len({derive_seed(seed, *place) for seed in range(3) for place in ((), (0,), (1,), (0, 1), (1, 0))}) == 15
    with pytest.raises(ConfigError, match="seed must not be negative, got -1"):
        derive_seed(-1)
