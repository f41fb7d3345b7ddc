"""RTF on the Long Range Arena, Speech Commands and the copying task.

The backbone and the optimiser are those of S4. The coefficients a and b and the direct term D are the slow group, with
a learning rate and a decay of their own, or, where the published settings name none, those of everything else.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple

from longwave.recipes.papers.preset import DECAYED, DECAYED_VECTORS, HELD_OUT, TWO_MAPS, Preset, Settings

__all__ = ["RTF_PRESETS"]

_SYSTEM = ("*mixer.a", "*mixer.b", "*mixer.D")


class _Task(NamedTuple):
    """A line of the table; all have two directions, batch norm, and six blocks.

    Args:
        config: the file of the published settings, below experiments/state-spaces/configs/experiment.
        size: channels H, coefficients n, and the length of the FFT.
        batch: sequences of a batch.
        rate: the general learning rate.
        decay: decoupled weight decay.
        epochs: passes over the training set.
        system: learning rate of a, b and D, and whether they decay; None: trained and decayed as all others.
        dropout: after the GELU, and of each branch.
        denominators: how many a the channels of the paper share; None: each has its own.
        prenorm: before each branch, or after each sum.
        warmup: the share of the steps over which the rates rise.
        held_out: the share of the training set that chooses the epoch.
    """

    config: str
    size: tuple[int, int, int]
    batch: int
    rate: float
    decay: float
    epochs: int
    system: tuple[float, bool] | None = (1e-3, False)
    dropout: tuple[float, float] = (0.0, 0.0)
    denominators: int | None = None
    prenorm: bool = True
    warmup: float = 0.1
    held_out: float = 0.0


_TASKS = {
    "rtf-lra-listops": _Task(
        "lra/rtf-listops", (256, 4, 2048), 32, 0.002, 0.07, 40, None, denominators=1, prenorm=False
    ),
    "rtf-lra-text": _Task("lra/rtf-imdb", (256, 4, 4096), 16, 0.005, 0.05, 32, dropout=(0.1, 0.1), denominators=1),
    "rtf-lra-image": _Task(
        *("lra/rtf-cifar", (512, 64, 1024), 50, 0.006, 0.05, 200),
        system=(5e-3, True),
        dropout=(0.1, 0.1),
        denominators=1,
        prenorm=False,
        held_out=0.1,
    ),
    "rtf-lra-pathfinder": _Task("lra/rtf-pathfinder", (256, 64, 1024), 64, 0.002, 0.05, 200, None, dropout=(0.1, 0.1)),
    "rtf-lra-pathx": _Task("lra/rtf-pathx", (256, 2048, 16384), 16, 0.001, 0.025, 50, dropout=(0.0, 0.1)),
    "rtf-sc35": _Task("sc/rtf-sc", (128, 64, 16000), 16, 0.01, 0.05, 40, denominators=2, warmup=0.005),
}


def _groups(system: tuple[float, bool] | None) -> Settings:
    """Learning rates and decay of a, b and D: a and b are slow and not decayed, where nothing else is said."""
    if system is None:
        return {"overrides": {**DECAYED_VECTORS, **dict.fromkeys(_SYSTEM, DECAYED)}}
    rate, decays = system
    own = {name: {"lr": rate, "weight_decay": None} for name in _SYSTEM} if decays else {"*mixer.D": {"lr": rate}}
    return {"slow_lr": rate, "overrides": {**DECAYED_VECTORS, **own}}


def _source(config: str) -> str:
    return (
        "Parnichkun et al., 2024, State-Free Inference of State-Space Models: The Transfer Function Approach, "
        f"arXiv:2405.06147; ruke1ire/RTF, {config}.yaml"
    )


def _deviations(denominators: int | None) -> tuple[str, ...]:
    own = f"every channel trains its own a, where the paper's share {denominators}"
    return (*(() if denominators is None else (own,)), "D begins as 1, where the published code draws it from N(0, 1)")


_TEXT = "the paper's table has learning rate 1e-4 and decay 0.025 for a, b and D; these are the published settings"


def _preset(task: _Task) -> Preset:
    width, coefficients, length = task.size
    after_gelu, branch = task.dropout
    return Preset(
        recipe="files",
        source=_source(task.config),
        model={
            "mixer": "RTF",
            "d_model": width,
            "n_layers": 6,
            "norm": "batch",
            "prenorm": task.prenorm,
            "mixer_options": {"d_state": coefficients, "l_max": length, "dropout": after_gelu},
            "dropout": branch,
            "bidirectional": True,
        },
        optim={
            "lr": task.rate,
            "weight_decay": task.decay,
            "warmup": task.warmup,
            "clip": 0.0,
            **_groups(task.system),
        },
        trainer={"epochs": task.epochs, "batch_size": task.batch, **(HELD_OUT if task.held_out else {})},
        data={"held_out": task.held_out} if task.held_out else {},
        deviations=(TWO_MAPS, *_deviations(task.denominators), *((_TEXT,) if task.config == "lra/rtf-imdb" else ())),
    )


_COPYING = Preset(
    recipe="copying",
    source=_source("synthetic/rtf-copying"),
    model={
        "mixer": "RTF",
        "mixer_options": {"d_state": 64, "l_max": 2048},
        "d_model": 64,
        "n_layers": 4,
        "norm": "layer",
        "dropout": 0.0,
    },
    optim={
        "lr": 1e-3,
        "slow_lr": 1e-3,
        "weight_decay": 0.0,
        "warmup": 0.0,
        "clip": 0.0,
        "schedule": "constant",
        "overrides": {},
    },
    trainer={"epochs": 50, "batch_size": 8},
    data={"memory": 1024, "symbols": 64, "lag": 0, "train_samples": 10000, "test_samples": 1000},
    deviations=(
        "d_model is that of the published settings, where the paper says 1,024",
        "the paper's table has states from 64 to 1,024: --model.mixer.d_state",
        *_deviations(1),
    ),
)

RTF_PRESETS = MappingProxyType({**{name: _preset(task) for name, task in _TASKS.items()}, "rtf-copying": _COPYING})
