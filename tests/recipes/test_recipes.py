"""Every recipe trains, measures what it says it measures, and can be started by name with small settings."""

import inspect
import itertools
import json

import numpy as np
import pytest
import torch
import yaml

import longwave
from longwave.cli import main
from longwave.recipes import RECIPES, load_presets, load_recipe
from longwave.recipes.copying import CopyingConfig
from longwave.recipes.fsdd import FSDDConfig
from longwave.recipes.parity import ParityConfig
from longwave.recipes.ucr import PRESETS, UCRConfig

SMALL = "--model.d_model 4 --model.n_layers 1 --model.mixer.d_state 4 --trainer.epochs 1 --trainer.accelerator cpu"


def train(words: str, run) -> dict:
    """The results of a training with a tiny model."""
    assert main(["train", *words.split(), *SMALL.split(), "--run", str(run)]) == 0
    return json.loads((run / "results.json").read_text())


def few(parts, samples: int = 12):
    """The same parts with a few samples of each class."""

    def cut(part):
        return None if part is None else part.subset(torch.linspace(0, len(part) - 1, samples).long())

    resampled = {name: part._replace(samples=cut(part.samples)) for name, part in parts.resampled.items()}
    return parts._replace(
        train=cut(parts.train), held_out=cut(parts.held_out), test=cut(parts.test), resampled=resampled
    )


def test_ucr_reads_the_archive(data_root, tmp_path):
    results = train("ucr --data.problem JapaneseVowels --trainer.batch_size 100 --data.held_out 0.1", tmp_path)
    assert (results["task"], results["test_samples"], results["held_out_samples"]) == ("JapaneseVowels", 370, 27)
    model = longwave.load(tmp_path / "model")
    assert (model.config.d_input, model.config.n_classes) == (12, 9)


def test_fsdd_is_measured_at_half_the_rate_too(data_root, tmp_path, monkeypatch):
    parts = FSDDConfig(held_out=0.1).load(data_root)
    monkeypatch.setattr(FSDDConfig, "load", lambda self, root: few(parts))
    results = train("fsdd --data.held_out 0.1", tmp_path)
    accuracies = [name for name in results if name.endswith("accuracy")]
    assert accuracies == [f"{part}_accuracy" for part in ("held_out", "test", "half_rate", "half_rate_told")]
    rates = {name: part.rate for name, part in parts.resampled.items()}
    assert rates == {"half_rate": 1.0, "half_rate_told": 2.0}
    half = parts.resampled["half_rate"].samples
    assert ((parts.test.lengths + 1) // 2 == half.lengths).all()


def test_copying_and_delay_have_an_answer_at_every_position(tmp_path):
    copied = train(
        "copying --data.train_samples 20 --data.test_samples 10 --data.held_out 5 --data.lag 3", tmp_path / "a"
    )
    assert copied["held_out_samples"] == 5
    assert 0 <= copied["test_accuracy"] <= 1
    delayed = train(
        "delay --data.train_samples 20 --data.test_samples 10 --data.length 50 --data.lag 5", tmp_path / "b"
    )
    assert delayed["test_loss"] > 0


def test_tasks_of_selection_are_measured_at_their_lengths(tmp_path):
    few = "--model.mixer LRU --data.train_samples 20 --data.test_samples 10 --data.held_out 5 --trainer.batch_size 10"
    induced = train(f"induction_heads {few} --data.length 9 --data.test_lengths [5,20000]", tmp_path / "a")
    assert {name for name in induced if name.endswith("accuracy")} == {
        f"{part}_accuracy" for part in ("held_out", "test", "length_5", "length_20000")
    }
    assert induced["length_20000_samples"] == 10
    copied = train(f"selective_copying {few} --data.length 20", tmp_path / "b")
    assert 0 <= copied["test_accuracy"] <= 1
    counted = train(f"parity {few} --data.length 5 --data.test_length 20", tmp_path / "c")
    assert 0 <= counted["longer_accuracy"] <= 1


def test_the_parts_of_a_synthetic_task_differ():
    parts = CopyingConfig(train_samples=8, held_out=8, test_samples=8).load(None)
    drawn = [part.x[:, :16] for part in (parts.train, parts.held_out, parts.test)]
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[1], drawn[2])
    parts = ParityConfig(train_samples=8, held_out=8, test_samples=8).load(None)
    drawn = [part.x[:, :40] for part in (parts.train, parts.held_out, parts.test, parts.resampled["longer"].samples)]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(drawn, 2))


@pytest.mark.parametrize(
    ("y", "figure"),
    [(np.array(["a", "b"] * 8), "test_accuracy"), (np.arange(16.0), "test_mse")],
    ids=["words", "numbers"],
)
def test_files_learns_what_the_targets_are(tmp_path, y, figure):
    np.savez(tmp_path / "own.npz", x=np.random.default_rng(0).normal(size=(16, 9, 2)), y=y)
    results = train(f"files --data.path {tmp_path / 'own.npz'} --data.test_share 0.25", tmp_path / "run")
    assert results["test_samples"] == 4
    assert figure in results


def test_numbers_far_from_one_are_learned_in_their_own_unit(tmp_path):
    x = np.random.default_rng(0).normal(size=(120, 30, 1))
    y = np.stack([1e4 + 500 * x[:, :, 0].mean(1), -1e-3 * x[:, :, 0].mean(1)], axis=1)
    np.savez(tmp_path / "own.npz", x=x, y=y)
    words = f"{SMALL} --data.path {tmp_path / 'own.npz'} --trainer.epochs 30 --optim.lr 0.02 --run {tmp_path / 'run'}"
    assert main(["train", "files", *words.split()]) == 0
    assert json.loads((tmp_path / "run/results.json").read_text())["test_r2"] > 0.5  # the mean over both


def test_a_config_is_read_back(tmp_path):
    words = "delay --data.train_samples 4 --data.length 20 --data.lag 2 --data.test_samples 2 --optim.lr 0.001"
    first = train(words + " --model.mixer LRU --model.mixer.r_min 0.5", tmp_path / "a")
    assert main(["train", "delay", "--config", str(tmp_path / "a/config.yaml"), "--run", str(tmp_path / "b")]) == 0
    settings = [(tmp_path / run / "config.yaml").read_text() for run in "ab"]
    assert settings[0] == settings[1]
    assert yaml.safe_load(settings[0])["model"]["mixer_options"] == {"d_state": 4, "r_min": 0.5}
    assert json.loads((tmp_path / "b/results.json").read_text())["test_loss"] == first["test_loss"]


def test_presets_are_options_of_the_recipe():
    """A misspelt preset would be an error only where it applies."""
    for name in RECIPES:
        presets = load_presets(name)
        for mixer in ("S4D", "LRU"):
            for data in _choices(name) if presets else ():
                assert presets is not None
                for option in presets(data, mixer):
                    section, field = option.split(".")
                    assert hasattr(_default(name, section), field), option


def _choices(name: str) -> list:
    if name == "ucr":
        return [UCRConfig(problem) for problem in PRESETS]
    data = _default(name, "data")
    return [data, type(data)(source="mnist")] if name == "smnist" else [data]


def _default(name: str, argument: str):
    return inspect.signature(load_recipe(name)).parameters[argument].default
