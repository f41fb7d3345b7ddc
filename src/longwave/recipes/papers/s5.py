"""S5 on the Long Range Arena, Speech Commands and sequential MNIST.

The published code has two optimisers: Adam without decay for Λ, dt and B (``slow_lr``), AdamW for all other parameters,
biases and norms among them. A task may move some of Λ, dt, B, C and D from one to the other: ``_GROUPS`` below. A rise
over the first epoch, then half a cosine; the gradient is not clipped.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple

from longwave.recipes.papers.preset import DECAYED, DECAYED_VECTORS, HELD_OUT, TWO_WAYS, Preset, Settings

__all__ = ["S5_PRESETS"]


class _Task(NamedTuple):
    """A line of the table.

    Args:
        size: blocks, channels H, real states P, and J, the number of HiPPO matrices that Λ begins with.
        batch: sequences of a batch.
        rates: the general learning rate, and that of the slow group.
        decay: decoupled weight decay.
        dropout: after the GELU, and of each branch.
        epochs: passes over the training set.
        groups: a key of ``_GROUPS``.
        dt_min: smallest initial step.
        rising: epochs over which the rates rise.
        momentum: of batch norm's running averages.
    """

    size: tuple[int, int, int, int]
    batch: int
    rates: tuple[float, float]
    decay: float
    dropout: float
    epochs: int
    groups: str = "standard"
    dt_min: float = 1e-3
    rising: int = 1
    momentum: float = 0.95


_TASKS = {
    "s5-lra-listops": _Task((8, 128, 16, 8), 50, (0.003, 0.001), 0.04, 0.0, 40, "BfastandCdecay"),
    "s5-lra-text": _Task((6, 256, 192, 12), 50, (0.004, 0.001), 0.07, 0.1, 35, "dt_global", rising=0),
    "s5-lra-image": _Task((6, 512, 384, 3), 50, (0.0045, 0.001), 0.07, 0.1, 250, "BfastandCdecay"),
    "s5-lra-pathfinder": _Task((6, 192, 256, 8), 64, (0.0045, 0.0009), 0.03, 0.05, 200, momentum=0.9),
    "s5-lra-pathx": _Task(
        (6, 128, 256, 16), 32, (0.0018, 0.0006), 0.06, 0.0, 75, "BandCdecay", dt_min=1e-4, momentum=0.9
    ),
    "s5-sc35": _Task((6, 96, 128, 16), 16, (0.008, 0.002), 0.04, 0.1, 40, "noBCdecay"),
    "s5-smnist": _Task((4, 96, 128, 1), 50, (0.008, 0.002), 0.01, 0.1, 150),
}


def _groups(task: _Task) -> Settings:
    """What a task's option ``opt_config`` (or ``dt_global``) moves between the two optimisers."""
    slow = task.rates[1]
    moved = {
        "standard": {},
        "dt_global": {"*mixer.log_dt": DECAYED},
        "BfastandCdecay": {"*mixer.B": DECAYED},
        "BandCdecay": {"*mixer.B": {"lr": slow, "weight_decay": None}},
        "noBCdecay": {"*mixer.C": {"lr": slow}, "*mixer.D": {"lr": slow}},
    }
    return {**DECAYED_VECTORS, **moved[task.groups]}


def _deviations(task: _Task, *, both_ways: bool) -> tuple[str, ...]:
    average = f"batch norm's running averages have momentum 0.9, where the paper has {task.momentum}"
    drawn = "C begins as for the other tasks, where the paper draws it from a standard normal"
    return (
        *((TWO_WAYS,) if both_ways else ()),
        "Re Λ is trained as a logarithm, where the paper trains it as it is",
        "the GLU has two maps, where the paper's gates the activations themselves",
        "a last norm stands before the decoder",
        *(() if task.momentum == 0.9 else (average,)),
        *((drawn,) if task.groups == "BandCdecay" else ()),
    )


def _preset(name: str, task: _Task) -> Preset:
    layers, width, states, blocks = task.size
    digits, image = name == "s5-smnist", name == "s5-lra-image"
    options = {"d_state": states, "blocks": blocks, "dt_min": task.dt_min, "dropout": task.dropout}
    return Preset(
        recipe="smnist" if digits else "files",
        source="Smith, Warrington, Linderman, 2023, Simplified State Space Layers for Sequence Modeling, "
        f"arXiv:2208.04933, {'Table 11' if digits else 'lindermanlab/S5, bin/run_experiments'}",
        model={
            "mixer": "S5",
            "mixer_options": options,
            "d_model": width,
            "n_layers": layers,
            "norm": "batch",
            "dropout": task.dropout,
            "bidirectional": not digits,
        },
        optim={
            "lr": task.rates[0],
            "slow_lr": task.rates[1],
            "weight_decay": task.decay,
            "warmup": task.rising / task.epochs,
            "clip": 0.0,
            "overrides": _groups(task),
        },
        trainer={"epochs": task.epochs, "batch_size": task.batch, **(HELD_OUT if digits or image else {})},
        data={"source": "mnist", "held_out": 6000, "shift": 0} if digits else {"held_out": 0.1} if image else {},
        deviations=_deviations(task, both_ways=not digits),
    )


S5_PRESETS = MappingProxyType({name: _preset(name, task) for name, task in _TASKS.items()})
