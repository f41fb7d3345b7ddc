"""Training: it learns, the same seed gives the same weights, the folder holds what it should, Ctrl-C is Ctrl-C."""

import csv
import signal
import sys

import pytest
import torch

import longwave
from longwave.data import Sequences
from longwave.errors import MissingExtraError
from longwave.models import BackboneConfig, Classifier, ClassifierConfig
from longwave.train import OptimConfig, Run, TrainerConfig, accuracy, fit, predict

CONFIG = ClassifierConfig(
    n_classes=2, backbone=BackboneConfig(d_model=4, n_layers=1, mixer_options={"d_state": 4}, dropout=0.1)
)
TWO_STEPS = TrainerConfig(epochs=1, batch_size=16, accelerator="cpu")


@pytest.fixture(scope="module")
def samples() -> Sequences:
    """Noise around a level that tells the class."""
    generator = torch.Generator().manual_seed(1)
    y = torch.arange(32) % 2
    return Sequences(torch.randn(32, 20, 1, generator=generator) + 2 * y[:, None, None], y)


def trained(samples, *, seed=0, trainer=TWO_STEPS, held_out=None, run=None, optim=None):
    """A model that begins with the same weights, trained, and the history."""
    torch.manual_seed(5)
    model = Classifier(CONFIG)
    optim = optim or OptimConfig(lr=0.02, slow_lr=0.01)
    return model, fit(model, samples, held_out, optim=optim, trainer=trainer, seed=seed, run=run)


def test_it_learns(samples):
    model, history = trained(samples, trainer=TrainerConfig(epochs=15, batch_size=8, accelerator="cpu"))
    assert history[-1]["train_loss"] < 0.5 * history[0]["train_loss"]
    assert accuracy(predict(model, samples), samples) >= 0.9
    assert not model.training


def test_the_same_seed_gives_the_same_weights(samples):
    varied = Sequences(samples.x, samples.y, augment=lambda x: x + 0.1 * torch.randn_like(x))
    first, _ = trained(varied)
    torch.rand(100)  # what was drawn before does not matter
    again, _ = trained(varied)
    other, _ = trained(varied, seed=1)
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    assert any(not torch.equal(weight, other.state_dict()[name]) for name, weight in first.state_dict().items())


def test_low_precision_trains(samples):
    trainer = TrainerConfig(epochs=1, batch_size=16, accelerator="cpu", precision="bf16-mixed")
    model, history = trained(samples, trainer=trainer)
    assert 0 < history[0]["train_loss"] < 10
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_history_counts_epochs_and_steps(samples):
    _, history = trained(samples, trainer=TrainerConfig(epochs=2, batch_size=10, accelerator="cpu"), held_out=samples)
    assert [(row["epoch"], row["step"]) for row in history] == [(1, 4), (2, 8)]
    expected = ["epoch", "step", "seconds", "held_out_accuracy", "held_out_loss", "train_accuracy", "train_loss"]
    assert list(history[0]) == expected


def test_held_out_figures_are_those_of_the_model(samples):
    model, history = trained(samples, held_out=samples)
    logits = predict(model, samples)
    assert history[-1]["held_out_accuracy"] == pytest.approx(accuracy(logits, samples), abs=1e-6)
    loss = torch.nn.functional.cross_entropy(logits.double(), samples.y).item()
    # Rounded to six digits in the row; the mean over batches is taken in float32.
    assert history[-1]["held_out_loss"] == pytest.approx(loss, abs=2e-6)


def test_the_run_folder(samples, tmp_path):
    run = Run(tmp_path / "run")
    run.open({"seed": 0})
    with run.logging():
        model, history = trained(samples, run=run)
    names = {path.name for path in run.folder.iterdir()}
    assert names == {"config.yaml", "metrics.csv", "log.txt", "model"}
    rows = list(csv.DictReader((run.folder / "metrics.csv").read_text().splitlines()))
    assert [float(row["train_loss"]) for row in rows] == [row["train_loss"] for row in history]
    assert "epoch  1/1  train: " in (run.folder / "log.txt").read_text()
    torch.testing.assert_close(predict(longwave.load(run.model), samples), predict(model, samples), rtol=0, atol=0)


def test_lengths_reach_the_model(samples):
    model = Classifier(CONFIG)
    lengths = torch.full((32,), 12)
    cut = Sequences(samples.x[:, :12], samples.y)
    padded = Sequences(samples.x, samples.y, lengths=lengths)
    torch.testing.assert_close(predict(model, padded), predict(model, cut))


def test_padding_has_no_influence(samples):
    lengths = torch.arange(32) % 10 + 5
    beyond = torch.arange(20) >= lengths[:, None]
    weights = []
    for filler in (0.0, 100.0):
        padded = samples.x.masked_fill(beyond[..., None], filler)
        weights.append(trained(Sequences(padded, samples.y, lengths=lengths))[0].state_dict())
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())


def test_each_epoch_sees_every_sample_once_in_an_order_of_its_own():
    seen = []

    def watch(x):
        seen.extend(x[:, 0, 0].tolist())
        return x

    numbered = Sequences(torch.arange(32.0)[:, None, None].expand(32, 20, 1) / 32, torch.arange(32) % 2, augment=watch)
    trained(numbered, trainer=TrainerConfig(epochs=2, batch_size=10, accelerator="cpu"))
    first, second = seen[:32], seen[32:]
    assert sorted(first) == sorted(second) == numbered.x[:, 0, 0].tolist()
    assert len({tuple(first), tuple(second), tuple(sorted(first))}) == 3


def test_interrupting_is_not_swallowed(samples, tmp_path):
    def interrupt(x):
        raise KeyboardInterrupt

    run = Run(tmp_path / "run")
    run.open({})
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        trained(Sequences(samples.x, samples.y, augment=interrupt), run=run)
    assert signal.getsignal(signal.SIGINT) is before
    assert not run.model.exists()


def test_the_missing_extra_is_named(samples, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    monkeypatch.delitem(sys.modules, "longwave.train._lightning", raising=False)
    with pytest.raises(MissingExtraError, match=r"lightning.*pip install 'longwave\[train\]'"):
        trained(samples)
