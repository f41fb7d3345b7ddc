"""Presets: the optimiser gets each paper's parameter groups, the models are of the published sizes, and all train."""

import json
import shlex

import numpy as np
import pytest
import yaml

from longwave.cli import main
from longwave.cli.settings import settings_of
from longwave.cli.words import command_line
from longwave.errors import ConfigError
from longwave.models import Backbone, BackboneConfig, Classifier, ClassifierConfig
from longwave.recipes import RECIPES, load_presets, load_recipe
from longwave.recipes.papers import PRESETS, preset_for
from longwave.train import parameter_groups

LEGS, DIAGONAL = "log_neg_A_real A_imag P B", "log_neg_A_real A_imag"
RING = "nu_log theta_log gamma_log B"

# preset -> learning rate and decay of some parameters of the system, by their names; those of all other parameters of
# the model stand under "". Typed off the published settings; "(rate, 0)" is Adam without decay.
GROUPS: dict[str, dict[str, tuple[float, float]]] = {
    "s4-lra-listops": {"": (0.01, 0.05), "log_dt": (0.01, 0), LEGS: (0.001, 0)},
    "s4-lra-text": {"": (0.01, 0.05), "log_dt": (0.01, 0), LEGS: (0.001, 0)},
    "s4-lra-image": {"": (0.01, 0.05), f"log_dt {LEGS}": (0.001, 0)},
    "s4-lra-pathfinder": {"": (0.004, 0.05), f"log_dt {LEGS}": (0.001, 0)},
    "s4-lra-pathx": {"": (0.001, 0.05), f"log_dt {LEGS}": (0.001, 0)},
    "s4-scifar": {"": (0.01, 0.05), f"log_dt {LEGS}": (0.001, 0)},
    "s4-sc35": {"": (0.01, 0.05), f"log_dt {LEGS}": (0.001, 0)},
    "s4d-smnist": {"": (0.01, 0), f"log_dt {DIAGONAL}": (0.001, 0), "B": (0, 0)},
    "s4d-scifar": {"": (0.01, 0.01), f"log_dt {DIAGONAL}": (0.001, 0), "B": (0, 0)},
    "s4d-scifar-ablation": {"": (0.01, 0.01), f"log_dt {DIAGONAL} B": (0.001, 0)},
    "s5-lra-listops": {"": (0.003, 0.04), f"log_dt {DIAGONAL}": (0.001, 0)},
    "s5-lra-text": {"": (0.004, 0.07), f"{DIAGONAL} B": (0.001, 0)},
    "s5-lra-image": {"": (0.0045, 0.07), f"log_dt {DIAGONAL}": (0.001, 0)},
    "s5-lra-pathfinder": {"": (0.0045, 0.03), f"log_dt {DIAGONAL} B": (0.0009, 0)},
    "s5-lra-pathx": {"": (0.0018, 0.06), f"log_dt {DIAGONAL}": (0.0006, 0), "B": (0.0006, 0.06)},
    "s5-sc35": {"": (0.008, 0.04), f"log_dt {DIAGONAL} B C D": (0.002, 0)},
    "s5-smnist": {"": (0.008, 0.01), f"log_dt {DIAGONAL} B": (0.002, 0)},
    "lru-scifar": {"": (0.004, 0.05), RING: (0.001, 0)},
    "lru-lra-listops": {"": (0.004, 0.05), RING: (0.002, 0)},
    "lru-lra-text": {"": (0.004, 0.05), RING: (0.0004, 0)},
    "lru-lra-pathfinder": {"": (0.004, 0.05), RING: (0.001, 0)},
    "lru-lra-pathx": {"": (0.004, 0.05), RING: (0.001, 0)},
    "rtf-lra-listops": {"": (0.002, 0.07)},
    "rtf-lra-text": {"": (0.005, 0.05), "a b D": (0.001, 0)},
    "rtf-lra-image": {"": (0.006, 0.05), "a b D": (0.005, 0.05)},
    "rtf-lra-pathfinder": {"": (0.002, 0.05)},
    "rtf-lra-pathx": {"": (0.001, 0.025), "a b D": (0.001, 0)},
    "rtf-sc35": {"": (0.01, 0.05), "a b D": (0.001, 0)},
    "rtf-copying": {"": (0.001, 0)},
}
TINY = "--model.d_model 4 --model.n_layers 1 --trainer.epochs 1 --trainer.accelerator cpu"


def settings(name: str, *words: str) -> dict:
    """The arguments that the command line makes of a preset and further words."""
    recipe = PRESETS[name].recipe
    data = ["--data.path", "none.npz"] if recipe == "files" else []
    given = [*data, "--preset", name, *words]
    return settings_of(load_recipe(recipe), given, prog=f"longwave train {recipe}", presets=load_presets(recipe))


def groups(name: str, *words: str) -> dict[str, tuple[float, float]]:
    """The learning rate and the decay of every parameter of a small model of a preset's, by name."""
    found = settings(name, "--model.d_model", "4", "--model.n_layers", "1", *words)
    model = Classifier(ClassifierConfig(backbone=found["model"]))
    names = {id(parameter): parameter_name for parameter_name, parameter in model.named_parameters()}
    made = parameter_groups(model, model.slow_parameters(), found["optim"])
    return {names[id(p)]: (group["lr"], group["weight_decay"]) for group in made for p in group["params"]}


def test_every_preset_has_its_groups_here():
    assert GROUPS.keys() == PRESETS.keys()


@pytest.mark.parametrize("name", PRESETS)
def test_the_optimiser_gets_the_groups_of_the_paper(name):
    system = {key: group for keys, group in GROUPS[name].items() for key in keys.split()}
    for parameter, found in groups(name).items():
        _, in_mixer, key = parameter.rpartition("mixer.")
        expected = system.get(key if in_mixer else "", GROUPS[name][""])
        assert found == pytest.approx(expected, rel=1e-12, abs=0), parameter


def test_what_is_asked_for_goes_before_the_preset():
    found = settings("s5-smnist", "--model.mixer.blocks", "2", "--optim.lr", "0.5", "--trainer.epochs", "3")
    assert found["model"].mixer_options == {"d_state": 128, "blocks": 2, "dt_min": 1e-3, "dropout": 0.1}
    assert (found["optim"].lr, found["optim"].slow_lr) == (0.5, 0.002)
    assert (found["trainer"].epochs, found["trainer"].batch_size) == (3, 50)
    assert (found["data"].source, str(found["run"])) == ("mnist", "runs/s5-smnist")


def test_a_group_can_be_given_in_words():
    found = groups("s5-smnist", "--optim.overrides", '{"*.log_dt": {"lr": 0.25}}')
    assert found["backbone.blocks.0.mixer.log_dt"] == (0.25, 0)
    assert found["backbone.blocks.0.mixer.B"] == (0.002, 0)


def test_groups_that_follow_the_general_rate_follow_what_is_asked_for():
    found = groups("lru-scifar", "--optim.lr", "0.5", "--optim.weight_decay", "0.25")
    assert found["backbone.blocks.0.mixer.nu_log"] == (0.125, 0)
    assert found["backbone.blocks.0.norm.weight"] == found["encoder.weight"] == (0.5, 0.25)


@pytest.mark.parametrize("name", ["s4-lra-listops", "s4d-scifar", "s5-sc35", "lru-lra-pathx", "rtf-lra-text"])
def test_a_preset_trains_and_its_run_folder_has_all_of_it(name, tmp_path):
    x = np.random.default_rng(0).normal(size=(20, 9, 2)).astype(np.float32)
    np.savez(tmp_path / "own.npz", x=x, y=np.arange(20) % 2)
    words = f"train files --preset {name} --data.path {tmp_path / 'own.npz'} {TINY} --run {tmp_path / 'run'}"
    assert main(words.split()) == 0
    assert json.loads((tmp_path / "run/results.json").read_text())["epochs"] == 1
    written = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    preset = PRESETS[name]
    assert "preset" not in written
    assert written["model"] == BackboneConfig(**{**preset.model, "d_model": 4, "n_layers": 1}).__dict__
    assert written["optim"]["overrides"].keys() == preset.optim["overrides"].keys()
    assert written["trainer"]["batch_size"] == preset.trainer["batch_size"]
    again = settings_of(load_recipe("files"), shlex.split(command_line(written))[3:], prog="longwave train files")
    assert again["optim"] == settings(name)["optim"]


def test_a_file_of_settings_goes_before_the_preset(tmp_path):
    words = f"train copying --data.memory 3 --data.lag 1 --data.train_samples 9 --data.test_samples 2 {TINY}"
    options = "--model.mixer RTF --model.mixer.d_state 2 --model.mixer.init montel --optim.lr 0.002"
    assert main(f"{words} {options} --run {tmp_path / 'a'}".split()) == 0
    again = f"train copying --preset rtf-copying --config {tmp_path / 'a/config.yaml'} --run {tmp_path / 'b'}"
    assert main(again.split()) == 0
    assert (tmp_path / "a/config.yaml").read_text() == (tmp_path / "b/config.yaml").read_text()


def counted(model: BackboneConfig, systems: float, d_input: int, n_classes: int) -> int:
    """The parameters of a classifier if the channels shared so many A and B, and the directions all but C."""
    backbone = Backbone(model)
    share: dict[str, float] = dict.fromkeys(LEGS.split(), systems / model.d_model)
    sizes = {name: p.numel() * share.get(name.split(".")[-1], 1) for name, p in backbone.named_parameters()}
    shared = [name for name in sizes if "backward_mixer" in name and not name.endswith(".C")]
    size = sum(sizes.values()) - sum(sizes[name] for name in shared)
    return round(size + (d_input + 1 + n_classes) * model.d_model + n_classes)


def test_sizes_are_the_published_ones_where_the_papers_share_is_counted_once():
    """307 and 306 thousand for S4-LegS and S4D-LegS on Speech Commands, 200 thousand for S4D's example on CIFAR-10."""
    speech = BackboneConfig(**PRESETS["s4-sc35"].model)
    diagonal = BackboneConfig(**{**PRESETS["s4-sc35"].model, "mixer": "S4D", "mixer_options": {"d_state": 64}})
    assert [round(counted(model, 2, 1, 35), -3) for model in (speech, diagonal)] == [307_000, 306_000]
    example = BackboneConfig(**PRESETS["s4d-scifar"].model)
    fixed = example.n_layers * example.d_model * 64  # B, which the example does not train
    assert round(counted(example, example.d_model, 3, 10) - fixed, -4) == 200_000


# the table's steps, and the steps of an epoch: training sequences over batch size
@pytest.mark.parametrize(
    ("name", "steps", "each"),
    [
        ("lru-scifar", 180_000, 45_000 / 50),
        ("lru-lra-listops", 80_000, 96_000 / 32),
        ("lru-lra-text", 50_000, 25_000 / 32),
        ("lru-lra-pathfinder", 500_000, 160_000 / 64),
        ("lru-lra-pathx", 250_000, 160_000 / 32),
    ],
)
def test_epochs_are_the_steps_of_the_table(name, steps, each):
    assert abs(PRESETS[name].trainer["epochs"] * each - steps) <= each / 2


@pytest.mark.parametrize(
    ("recipe", "name", "said"),
    [
        ("smnist", "s5-mnist", "unknown preset 's5-mnist' .did you mean 's5-smnist'"),
        ("smnist", "rtf-copying", "'rtf-copying' is for the recipe copying, not for smnist: .*s4d-smnist, s5-smnist"),
        ("ucr", "s5-smnist", "is for the recipe smnist, not for ucr: ucr has none"),
    ],
)
def test_a_preset_of_another_name_or_recipe_is_refused(recipe, name, said):
    with pytest.raises(ConfigError, match=said):
        preset_for(recipe, name)


def test_presets_are_listed_and_shown(capsys):
    assert {preset.recipe for preset in PRESETS.values()} <= RECIPES.keys()
    assert main(["recipes"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in PRESETS)
    assert main(["recipes", "--preset", "s5-smnist"]) == 0
    shown = capsys.readouterr().out
    assert "arXiv:2208.04933, Table 11" in shown
    assert "--optim.slow_lr 0.002" in shown
