"""Held-out figures rule: the best weights are kept, a plateau lowers the rates, training stops early."""

import pytest
import torch
from small_run import parts, train

from longwave.errors import ConfigError, RunError
from longwave.models import BackboneConfig, Classifier, ClassifierConfig
from longwave.train import OptimConfig, Run, TrainerConfig, evaluate, fit
from longwave.train.history import History
from longwave.train.objectives import OBJECTIVES
from longwave.train.watch import Watch


def best(values: list[float], higher: bool) -> int:
    """The epoch of the first best value, by plain comparison."""
    return values.index(max(values) if higher else min(values))


@pytest.mark.parametrize(("monitor", "higher"), [("loss", False), ("accuracy", True)])
def test_the_best_weights_are_those_of_the_best_epoch(tmp_path, monitor, higher):
    model, history = train(tmp_path, lr=0.2, slow_lr=0.1, best=True, monitor=monitor, epochs=5, schedule="constant")
    row = history[best([row[f"held_out_{monitor}"] for row in history], higher)]
    assert row is not history[-1], "the settings are such that the last epoch is not the best"
    _, held_out = parts(0, lambda: None)
    figures = evaluate(model, held_out, "classify")
    assert figures == pytest.approx({name: row[f"held_out_{name}"] for name in figures}, rel=1e-5)
    saved = Run(tmp_path).model / "model.safetensors"
    assert saved.exists()


def test_training_stops_after_so_many_epochs_without_a_better_one(tmp_path):
    _, history = train(tmp_path, lr=0.2, slow_lr=0.1, early_stopping=2, epochs=30, schedule="constant")
    losses = [row["held_out_loss"] for row in history]
    assert len(losses) == best(losses, higher=False) + 3 < 30
    assert "stopped early: no better loss for 2 epochs" in (tmp_path / "log.txt").read_text()


def test_a_plateau_lowers_the_rates(tmp_path):
    settings = {"lr": 0.2, "slow_lr": 0.1, "warmup": 0.0, "epochs": 6, "monitor": "accuracy"}
    _, history = train(tmp_path, schedule="plateau", plateau_factor=0.5, plateau_patience=1, **settings)
    rate, since, highest = 0.2, 0, 0.0
    for row in history:
        assert row["lr"] == pytest.approx(rate)
        since = 0 if row["held_out_accuracy"] > highest else since + 1
        highest = max(highest, row["held_out_accuracy"])
        if since > 1:
            rate, since = rate / 2, 0
    assert history[-1]["lr"] < 0.2, "the settings are such that there is a plateau"


def fitted(*, held_out=False, objective="classify", **settings):
    samples, held = parts(0, lambda: None)
    model = Classifier(ClassifierConfig(n_classes=2, backbone=BackboneConfig(d_model=2, n_layers=1)))
    optim = OptimConfig(**{name: value for name, value in settings.items() if name == "schedule"})
    trainer = TrainerConfig(**{name: value for name, value in settings.items() if name != "schedule"})
    fit(model, samples, held if held_out else None, objective=objective, optim=optim, trainer=trainer, seed=0)


@pytest.mark.parametrize("settings", [{"best": True}, {"early_stopping": 3}, {"schedule": "plateau"}])
def test_what_looks_at_held_out_data_needs_some(settings):
    with pytest.raises(ConfigError, match=f"{next(iter(settings))} looks at held-out data and there is none"):
        fitted(**settings)


def test_a_figure_of_another_objective_is_refused():
    with pytest.raises(ConfigError, match="monitor 'r2' is no figure of this objective: choose from loss, accuracy"):
        fitted(held_out=True, monitor="r2")


def test_numbers_are_not_smoothed():
    optim = OptimConfig(label_smoothing=0.1)
    with pytest.raises(ConfigError, match="label_smoothing is for classes"):
        Watch(History(None), OBJECTIVES["track"], optim, TrainerConfig(), held_out=False)


def test_which_figures_are_better_when_higher():
    measure = OBJECTIVES["track"]
    assert [name for name in ("loss", *measure.metrics) if measure.higher_is_better(name)] == ["r2"]


def test_a_loss_that_is_no_number_stops_the_training(tmp_path):
    with pytest.raises(RunError, match=r"is not finite at epoch 1, step \d.*lower optim\.lr .*clip"):
        train(tmp_path, lr=1e30, slow_lr=1e30, clip=0.0, warmup=0.0)
    run = Run(tmp_path)
    assert not run.finished
    assert not run.state.exists()
    assert not (tmp_path / "metrics.csv").exists()
    assert not list(tmp_path.rglob("*.partial"))


def test_weights_that_are_no_numbers_are_not_written(tmp_path, monkeypatch):
    def poison(model, *_):
        with torch.no_grad():
            model.decoder.bias.fill_(torch.nan)

    monkeypatch.setattr("longwave.train.task.Task.on_train_epoch_end", lambda task: poison(task.model), raising=False)
    with pytest.raises(RunError, match=r"a weight is not finite at epoch 1"):
        train(tmp_path)
    assert not Run(tmp_path).state.exists()
