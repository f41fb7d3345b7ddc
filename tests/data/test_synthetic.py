"""Copying, delay, induction heads, parity: each answer follows from what was read; all are what their seed says."""

import numpy as np
import pytest
import torch

from longwave.data import copying, delay, induction_heads, parity, selective_copying
from longwave.errors import ConfigError


def test_copying_asks_for_what_was_shown():
    samples = copying(samples=50, memory=4, symbols=5, lag=7, seed=1)
    batch = samples[:]
    assert (samples.objective, samples.channels, batch.x.shape) == ("label", 7, (50, 15, 7))
    assert torch.equal(batch.x.sum(2), torch.ones(50, 15))
    symbols = batch.x.argmax(2)
    assert symbols[:, 4:11].unique().tolist() == [5]
    assert symbols[:, 11:].unique().tolist() == [6]
    assert symbols[:, :4].unique().tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(batch.y[:, 11:], symbols[:, :4])
    assert batch.y[:, :11].unique().tolist() == [-100]
    assert samples.classes == ("0", "1", "2", "3", "4")


def test_selective_copying_asks_for_the_symbols_in_their_order():
    samples = selective_copying(samples=60, length=12, memory=3, symbols=5, seed=1)
    batch = samples[:]
    assert (samples.objective, samples.channels, batch.x.shape) == ("label", 7, (60, 15, 7))
    symbols = batch.x.argmax(2)
    assert symbols[:, 12:].unique().tolist() == [6]
    for row, answer in zip(symbols[:, :12], batch.y, strict=True):
        assert row[row < 5].tolist() == answer[12:].tolist()
        assert answer[:12].unique().tolist() == [-100]
    where = (symbols[:, :12] < 5).double().mean(0)  # every position as often: 60 draws of probability ¼
    assert ((where - 0.25).abs() < 4 * (0.25 * 0.75 / 60) ** 0.5).all()


@pytest.mark.parametrize("distances", ["uniform", "logarithmic"])
def test_induction_heads_asks_for_what_followed_the_marker(distances):
    samples = induction_heads(samples=500, length=9, symbols=4, distances=distances, seed=1)
    assert (samples.objective, samples.channels, samples.longest) == ("classify", 4, 9)
    x = samples.x.squeeze(2)
    assert ((x == 3).sum(1) == 2).all()
    assert (x[:, -1] == 3).all()
    first = (x == 3).int().argmax(1)
    assert first.unique().tolist() == list(range(7))
    assert torch.equal(x.gather(1, first[:, None] + 1)[:, 0].long(), samples.y)
    assert samples.y.unique().tolist() == [0, 1, 2]


def test_half_of_the_logarithmic_distances_are_below_the_geometric_mean():
    x = induction_heads(samples=4000, length=800, distances="logarithmic").x.squeeze(2)
    distance = 799 - (x == 15).int().argmax(1)
    assert 2 <= distance.min() < distance.max() <= 799
    assert (distance < 40).double().mean().item() == pytest.approx(0.5, abs=4 * (0.25 / 4000) ** 0.5)


def test_parity_counts_modulo_two():
    samples = parity(samples=20, length=30, first=10)
    assert (samples.objective, samples.channels, samples.classes) == ("label", 2, ("even", "odd"))
    for row, answers in zip(samples.x.squeeze(2).tolist(), samples.y.tolist(), strict=True):
        assert answers == [-100] * 10 + [sum(row[: t + 1]) % 2 for t in range(10, 30)]


def test_delay_asks_for_the_past():
    batch = delay(samples=3, length=100, lag=30)[:]
    assert batch.y.shape == batch.x.shape == (3, 100, 1)
    assert torch.equal(batch.y[:, 30:], batch.x[:, :70])
    assert batch.y[:, :30].isnan().all()


def test_delay_has_its_band_and_its_power():
    x = delay(samples=400, length=500, lag=1, band=0.1).x[:, :, 0].double().numpy()
    power = np.abs(np.fft.rfft(x)) ** 2
    inside = np.fft.rfftfreq(500) <= 0.1 + 1e-9
    assert power[:, ~inside].sum() < 1e-9 * power.sum()
    assert power[:, 0].max() < 1e-6 * power.max()
    # 400 signals of 50 free frequencies: a mean square of 0.25 with a deviation of 0.25 / sqrt(400 · 50).
    assert abs(np.mean(x**2) - 0.25) < 5 * 0.25 / np.sqrt(400 * 50)


@pytest.mark.parametrize("task", (copying, delay, induction_heads, parity, selective_copying))
def test_the_seed_says_which_samples(task):
    before = torch.get_rng_state()
    first, again, other = (task(samples=2, seed=seed).x for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("task", "options"),
    (
        (copying, {"samples": 0}),
        (copying, {"samples": 1, "memory": 0}),
        (copying, {"samples": 1, "symbols": 255}),
        (copying, {"samples": 1, "lag": -1}),
        (selective_copying, {"samples": 1, "symbols": 255}),
        (selective_copying, {"samples": 1, "length": 3, "memory": 4}),
        (induction_heads, {"samples": 0}),
        (induction_heads, {"samples": 1, "length": 2}),
        (induction_heads, {"samples": 1, "symbols": 1}),
        (induction_heads, {"samples": 1, "distances": "long"}),
        (parity, {"samples": 0}),
        (parity, {"samples": 1, "length": 0}),
        (parity, {"samples": 1, "length": 9, "first": 9}),
        (delay, {"samples": 0}),
        (delay, {"samples": 1, "length": 10, "lag": 10}),
        (delay, {"samples": 1, "band": 0.6}),
        (delay, {"samples": 1, "length": 10, "lag": 1, "band": 0.01}),
    ),
)
def test_sizes_that_make_no_task(task, options):
    with pytest.raises(ConfigError, match=f"{task.__name__} needs .*{list(options)[-1]}="):
        task(**options)
