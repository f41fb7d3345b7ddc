"""Parameter groups and schedule: every parameter once, slow ones slow and never decayed; a rise to 1, a fall to 0."""

import pytest
import torch

from longwave.errors import ConfigError
from longwave.models import BackboneConfig, Classifier, ClassifierConfig
from longwave.train import (
    GroupConfig,
    OptimConfig,
    TrainerConfig,
    parameter_groups,
    warmup_constant,
    warmup_cosine,
)


@pytest.fixture
def model():
    return Classifier(ClassifierConfig(backbone=BackboneConfig(d_model=4, n_layers=2, mixer_options={"d_state": 4})))


def test_every_trainable_parameter_is_in_one_group(model):
    model.encoder.weight.requires_grad_(False)
    groups = parameter_groups(model, model.slow_parameters(), OptimConfig())
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p is not model.encoder.weight)


def test_groups_have_their_own_rate_and_decay(model):
    optim = OptimConfig(lr=0.5, slow_lr=0.25, weight_decay=0.125)
    groups = {group["name"]: group for group in parameter_groups(model, model.slow_parameters(), optim)}
    assert {name: (group["lr"], group["weight_decay"]) for name, group in groups.items()} == {
        "slow": (0.25, 0.0),
        "matrices": (0.5, 0.125),
        "vectors": (0.5, 0.0),
    }
    named = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {named[id(p)] for p in groups["slow"]["params"]} == set(model.slow_parameters()) != set()
    assert "encoder.weight" in {named[id(p)] for p in groups["matrices"]["params"]}
    assert all(parameter.ndim == 1 for parameter in groups["vectors"]["params"])


def test_the_first_override_that_fits_holds(model):
    overrides = {"*.log_dt": GroupConfig(lr=0.1), "backbone.*": GroupConfig(lr=0.2, weight_decay=0.3)}
    groups = parameter_groups(model, model.slow_parameters(), OptimConfig(overrides=overrides))
    named = {id(parameter): name for name, parameter in model.named_parameters()}
    members = {group["name"]: {named[id(parameter)] for parameter in group["params"]} for group in groups}
    every = set(named.values())
    assert members["*.log_dt"] == {name for name in every if name.endswith(".log_dt")} != set()
    assert members["backbone.*"] == {name for name in every if name.startswith("backbone.")} - members["*.log_dt"]
    assert members.keys() == {"*.log_dt", "backbone.*", "matrices", "vectors"}
    assert [(group["lr"], group["weight_decay"]) for group in groups[:2]] == [(0.1, 0.0), (0.2, 0.3)]


def test_an_override_may_follow_the_general_rate_and_decay(model):
    overrides = {"*.log_dt": GroupConfig(lr_factor=0.25), "*.bias": GroupConfig(weight_decay=None)}
    optim = OptimConfig(lr=0.5, weight_decay=0.125, overrides=overrides)
    groups = parameter_groups(model, model.slow_parameters(), optim)
    assert [(group["lr"], group["weight_decay"]) for group in groups[:2]] == [(0.125, 0.0), (0.5, 0.125)]


def test_an_override_that_fits_nothing_is_refused(model):
    optim = OptimConfig(overrides={"*.log_td": GroupConfig(lr=0.1)})
    with pytest.raises(ConfigError, match=r"'\*\.log_td' fits no parameter.*did you mean 'backbone.*\.log_dt'"):
        parameter_groups(model, model.slow_parameters(), optim)


def test_empty_groups_are_left_out():
    layer = torch.nn.Linear(2, 2, bias=False)
    assert [group["name"] for group in parameter_groups(layer, (), OptimConfig())] == ["matrices"]


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
def test_schedule_rises_to_one_and_falls_to_zero(warmup):
    steps = 200
    factors = [warmup_cosine(steps, warmup)(step) for step in range(steps + 1)]
    peak = factors.index(max(factors))
    assert factors[peak] == 1.0
    assert peak == max(0, round(warmup * steps) - 1)
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert factors[0] > 0
    assert factors[-1] == pytest.approx(0, abs=1e-15)


def test_schedule_of_a_single_step_trains():
    assert warmup_cosine(1, 0.1)(0) == 1.0


def test_constant_schedule_rises_and_stays():
    assert [warmup_constant(10, 0.2)(step) for step in range(4)] == [0.5, 1.0, 1.0, 1.0]
    assert warmup_constant(10, 0.0)(0) == 1.0


@pytest.mark.parametrize(
    ("config", "option"),
    [
        (lambda: OptimConfig(lr=0.0), "lr"),
        (lambda: OptimConfig(slow_lr=-1.0), "slow_lr"),
        (lambda: OptimConfig(weight_decay=-0.1), "weight_decay"),
        (lambda: OptimConfig(warmup=1.0), "warmup"),
        (lambda: OptimConfig(clip=-1.0), "clip"),
        (lambda: OptimConfig(lr=float("nan")), "lr"),
        (lambda: OptimConfig(plateau_factor=1.0), "plateau_factor"),
        (lambda: OptimConfig(plateau_patience=-1), "plateau_patience"),
        (lambda: OptimConfig(label_smoothing=1.0), "label_smoothing"),
        (lambda: GroupConfig(lr=-1.0), "lr"),
        (lambda: GroupConfig(lr=1.0, weight_decay=-1.0), "weight_decay"),
        (lambda: GroupConfig(lr_factor=-1.0), "lr_factor"),
        (lambda: GroupConfig(lr=1.0, lr_factor=0.5), "lr_factor"),
        (lambda: TrainerConfig(epochs=0), "epochs"),
        (lambda: TrainerConfig(devices=0), "devices"),
        (lambda: TrainerConfig(num_nodes=0), "num_nodes"),
        (lambda: TrainerConfig(gradient_accumulation=0), "gradient_accumulation"),
        (lambda: TrainerConfig(early_stopping=-1), "early_stopping"),
        (lambda: TrainerConfig(checkpoint_minutes=-1.0), "checkpoint_minutes"),
        (lambda: TrainerConfig(batch_size=0), "batch_size"),
    ],
)
def test_settings_out_of_range_are_named(config, option):
    with pytest.raises(ConfigError, match=f"^{option} "):
        config()
