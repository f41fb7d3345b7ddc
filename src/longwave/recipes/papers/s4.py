"""S4-LegS on the Long Range Arena, sequential CIFAR-10 and Speech Commands.

The optimiser is AdamW. dt, A (and P) and B are the slow group, without decay: 1e-3, or for dt, where the step may
follow the task, the general learning rate. Everything else decays: C, D, the output maps, biases and norms. A rise over
the first steps, then half a cosine; the gradient is not clipped.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple

from longwave.recipes.papers.preset import (
    DECAYED_VECTORS,
    FREE_RATE,
    HELD_OUT,
    SOFTPLUS,
    TWO_WAYS,
    Preset,
    own_dynamics,
)

__all__ = ["S4_PRESETS"]


_S4D = "Gu et al., 2022, On the Parameterization and Initialization of Diagonal State Space Models, arXiv:2206.11893"
_PAPERS = {"lra": "Gu et al., 2023, How to Train Your HiPPO, arXiv:2206.12037", "cifar": _S4D, "sc": _S4D}


class _Task(NamedTuple):
    """A line of the table; all have two directions and decay 0.05.

    Args:
        config: the file of the published settings, below configs/experiment.
        size: blocks, channels H, real states N.
        batch: sequences of a batch.
        lr: the general learning rate.
        epochs: passes over the training set.
        systems: how many A and B the channels of the paper share; None: each has its own.
        prenorm: before each branch, or after each sum.
        norm: of batch or layer.
        dropout: after the GELU, and of each branch.
        dt_min: smallest initial step.
        free_dt: whether dt is trained at the general learning rate.
        warmup: the share of the steps over which the rates rise.
        held_out: the share of the training set that chooses the epoch.
    """

    config: str
    size: tuple[int, int, int]
    batch: int
    lr: float
    epochs: int
    systems: int | None = 1
    prenorm: bool = True
    norm: str = "batch"
    dropout: float = 0.0
    dt_min: float = 1e-3
    free_dt: bool = False
    warmup: float = 0.1
    held_out: float = 0.0


_TASKS = {
    "s4-lra-listops": _Task("lra/s4-listops", (6, 256, 4), 32, 0.01, 40, prenorm=False, free_dt=True),
    "s4-lra-text": _Task("lra/s4-imdb", (6, 256, 4), 16, 0.01, 32, free_dt=True),
    "s4-lra-image": _Task("lra/s4-cifar", (6, 512, 64), 50, 0.01, 200, prenorm=False, dropout=0.1, held_out=0.1),
    "s4-lra-pathfinder": _Task("lra/s4-pathfinder", (6, 256, 64), 64, 0.004, 200, systems=None),
    "s4-lra-pathx": _Task("lra/s4-pathx", (6, 256, 64), 16, 0.001, 50, systems=None, dt_min=1e-4),
    "s4-scifar": _Task(
        *("cifar/s4-cifar", (6, 512, 64), 50, 0.01, 200),
        systems=2,
        prenorm=False,
        norm="layer",
        dropout=0.1,
        warmup=0.005,
        held_out=0.1,
    ),
    "s4-sc35": _Task("sc/s4-sc", (6, 128, 64), 16, 0.01, 40, systems=2, warmup=0.005),
}


def _preset(task: _Task) -> Preset:
    layers, width, states = task.size
    options = {"d_state": states, "B_clip": 2.0, "dt_min": task.dt_min, "dropout": task.dropout}
    dt = {"*mixer.log_dt": FREE_RATE} if task.free_dt else {}
    shared = () if task.systems is None else (own_dynamics(task.systems),)
    return Preset(
        recipe="files",
        source=f"{_PAPERS[task.config.split('/')[0]]}; state-spaces/s4 v4, {task.config}.yaml",
        model={
            "mixer": "S4",
            "mixer_options": options,
            "d_model": width,
            "n_layers": layers,
            "norm": task.norm,
            "prenorm": task.prenorm,
            "dropout": task.dropout,
            "bidirectional": True,
        },
        optim={
            "lr": task.lr,
            "slow_lr": 1e-3,
            "weight_decay": 0.05,
            "warmup": task.warmup,
            "clip": 0.0,
            "overrides": {**dt, **DECAYED_VECTORS},
        },
        trainer={"epochs": task.epochs, "batch_size": task.batch, **(HELD_OUT if task.held_out else {})},
        data={"held_out": task.held_out} if task.held_out else {},
        deviations=(TWO_WAYS, *shared, SOFTPLUS, "B_clip limits |B|, where the published code clips Im B"),
    )


S4_PRESETS = MappingProxyType({name: _preset(task) for name, task in _TASKS.items()})
