"""Training: it learns, the same seed gives the same weights, the folder holds what it should, Ctrl-C is Ctrl-C."""

import csv
import dataclasses
import signal
import sys

import pytest
import torch

import longwave
from longwave.data import Sequences
from longwave.errors import ConfigError, MissingExtraError
from longwave.models import (
    BackboneConfig,
    Classifier,
    ClassifierConfig,
    Regressor,
    RegressorConfig,
    SequenceModel,
    SequenceModelConfig,
)
from longwave.train import OptimConfig, Run, TrainerConfig, evaluate, fit, predict

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
    assert evaluate(model, samples, "classify")["accuracy"] >= 0.9
    assert not model.training


def test_the_same_seed_gives_the_same_weights(samples):
    def noisy(x, generator):
        return x + 0.1 * torch.randn(x.shape, generator=generator)

    varied = Sequences(samples.x, samples.y, augment=noisy)
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
    figures = ["held_out_loss", "held_out_accuracy", "train_loss", "train_accuracy"]
    assert list(history[0]) == ["epoch", "step", "seconds", "lr", *figures]


def test_held_out_figures_are_those_of_the_model(samples):
    model, history = trained(samples, held_out=samples)
    logits = predict(model, samples)
    assert history[-1]["held_out_accuracy"] == pytest.approx(
        (logits.argmax(1) == samples.y).double().mean().item(), abs=1e-6
    )
    loss = torch.nn.functional.cross_entropy(logits.double(), samples.y).item()
    # Six digits in the row.
    assert history[-1]["held_out_loss"] == pytest.approx(loss, rel=2e-6)


def test_the_run_folder(samples, tmp_path):
    run = Run(tmp_path / "run")
    run.open({"seed": 0})
    with run.logging():
        model, history = trained(samples, run=run)
    names = {path.name for path in run.folder.iterdir()}
    assert names == {"config.yaml", "metrics.csv", "log.txt", "model", "tensorboard", "checkpoints", ".lock"}
    assert [path.name for path in (run.folder / "checkpoints").iterdir()] == ["last.ckpt"]
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

    def watch(x, generator):
        seen.extend(x[:, 0, 0].tolist())
        return x

    numbered = Sequences(torch.arange(32.0)[:, None, None].expand(32, 20, 1) / 32, torch.arange(32) % 2, augment=watch)
    trained(numbered, trainer=TrainerConfig(epochs=2, batch_size=10, accelerator="cpu"))
    first, second = seen[:32], seen[32:]
    assert sorted(first) == sorted(second) == numbered.x[:, 0, 0].tolist()
    assert len({tuple(first), tuple(second), tuple(sorted(first))}) == 3


def test_interrupting_is_not_swallowed(samples, tmp_path):
    def interrupt(x, generator):
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


@pytest.mark.parametrize("settings", [{"accelerator": "gpu"}, {"accelerator": "cpu", "strategy": "fsdp"}])
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_devices_that_are_not_there_are_one_line(samples, settings):
    with pytest.raises(ConfigError, match=r"^trainer: this machine cannot train so \(.*; choose other devices$"):
        trained(samples, trainer=TrainerConfig(**settings))


CLASSES = torch.arange(32) % 2
NUMBERS = torch.zeros(32, 2)


@pytest.mark.parametrize(
    ("y", "objective", "message"),
    [
        (CLASSES, "clasify", "unknown objective 'clasify'.*did you mean 'classify'"),
        (CLASSES, "regress", "objective 'regress' does not fit the targets, which are for 'classify'"),
        (NUMBERS, "classify", "objective 'classify' does not fit the targets, which are for 'regress'"),
        (CLASSES[:, None].expand(32, 20), "label", "wants an output at every position, which a Classifier does not"),
        (CLASSES + 1, "classify", "the model has 2 outputs, but the targets need 3"),
    ],
)
def test_an_objective_that_does_not_fit_is_refused(samples, y, objective, message):
    unfit = Sequences(samples.x, y)
    optim = OptimConfig()
    with pytest.raises(ConfigError, match=message):
        fit(Classifier(CONFIG), unfit, objective=objective, optim=optim, trainer=TWO_STEPS, seed=0)


@pytest.mark.parametrize("objective", ["regress", "label", "track"])
def test_every_objective_is_learned(samples, objective):
    backbone = CONFIG.backbone
    y = {
        "regress": samples.x.mean(1),
        "label": (samples.x[..., 0] > 0).long(),
        "track": 0.5 * samples.x,
    }[objective]
    torch.manual_seed(5)
    if objective == "regress":
        model = Regressor(RegressorConfig(n_outputs=1, backbone=backbone))
    else:
        model = SequenceModel(SequenceModelConfig(d_output=2 if objective == "label" else 1, backbone=backbone))
    before = evaluate(model, Sequences(samples.x, y), objective)
    settings = {"optim": OptimConfig(lr=0.05, slow_lr=0.01), "trainer": dataclasses.replace(TWO_STEPS, epochs=10)}
    history = fit(model, Sequences(samples.x, y), objective=objective, seed=0, **settings)
    after = evaluate(model, Sequences(samples.x, y), objective)
    assert after["loss"] < 0.5 * before["loss"]
    assert {f"train_{name}" for name in after} <= history[-1].keys()


def test_accumulated_batches_make_one_step(samples):
    weights = []
    for batch_size, accumulation in ((16, 1), (4, 4)):
        trainer = TrainerConfig(epochs=2, batch_size=batch_size, gradient_accumulation=accumulation, accelerator="cpu")
        config = dataclasses.replace(CONFIG, backbone=dataclasses.replace(CONFIG.backbone, dropout=0.0))
        torch.manual_seed(5)
        model = Classifier(config)
        history = fit(model, samples, optim=OptimConfig(lr=0.02), trainer=trainer, seed=0)
        assert [row["step"] for row in history] == [2, 4]
        weights.append(model.state_dict())
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1][name], rtol=1e-3, atol=1e-4)
