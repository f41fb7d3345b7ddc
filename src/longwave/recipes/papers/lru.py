"""LRU on the Long Range Arena and sequential CIFAR-10.

The optimiser is AdamW. λ, γ and B have a factor of the general learning rate and no decay; everything else decays. The
rates rise over a tenth of the steps and fall by half a cosine, from and to 0 where the paper has 1e-7. The paper chose
the general learning rate on a logarithmic grid, task by task, and its table does not have it.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import NamedTuple

from longwave.recipes.papers.preset import DECAYED_VECTORS, HELD_OUT, TWO_MAPS, Preset

__all__ = ["LRU_PRESETS"]

_RECURRENCE = ("nu_log", "theta_log", "gamma_log", "B")
_NO_RATE = "the paper does not print the learning rate it chose: optim.lr is the recipe's own, to be chosen"


class _Task(NamedTuple):
    """A line of the table; all have six blocks and decay 0.05.

    Args:
        size: channels H, complex modes N.
        batch: sequences of a batch.
        epochs: passes over the training set, as near to the table's steps as whole ones come.
        factor: of the learning rate of λ, γ and B.
        dropout: of each branch.
        ring: r_min and r_max.
        max_phase: largest initial arg λ.
        bidirectional: whether there are two directions.
    """

    size: tuple[int, int]
    batch: int
    epochs: int
    factor: float
    dropout: float
    ring: tuple[float, float]
    max_phase: float = 2 * math.pi
    bidirectional: bool = False


# In steps: 180,000 of 900 an epoch; 80,000 of 3,000; 50,000 of 782; 500,000 of 2,500; 250,000 of 5,000.
_TASKS = {
    "lru-scifar": _Task((512, 384), 50, 200, 0.25, 0.1, (0.9, 0.999)),
    "lru-lra-listops": _Task((128, 256), 32, 27, 0.5, 0.0, (0.0, 0.99)),
    "lru-lra-text": _Task((256, 192), 32, 64, 0.1, 0.1, (0.5, 0.9)),
    "lru-lra-pathfinder": _Task((192, 256), 64, 200, 0.25, 0.0, (0.9, 0.999), bidirectional=True),
    "lru-lra-pathx": _Task((128, 256), 32, 50, 0.25, 0.0, (0.999, 0.9999), math.pi / 10, bidirectional=True),
}


def _preset(name: str, task: _Task) -> Preset:
    width, modes = task.size
    options = {"d_state": modes, "r_min": task.ring[0], "r_max": task.ring[1], "max_phase": task.max_phase}
    slow = {f"*mixer.{parameter}": {"lr_factor": task.factor} for parameter in _RECURRENCE}
    image = name == "lru-scifar"
    return Preset(
        recipe="files",
        source="Orvieto et al., 2023, Resurrecting Recurrent Neural Networks for Long Sequences, arXiv:2303.06349, "
        "Table 9",
        model={
            "mixer": "LRU",
            "mixer_options": options,
            "d_model": width,
            "n_layers": 6,
            "norm": "batch",
            "dropout": task.dropout,
            "bidirectional": task.bidirectional,
        },
        optim={"weight_decay": 0.05, "warmup": 0.1, "clip": 0.0, "overrides": {**slow, **DECAYED_VECTORS}},
        trainer={"epochs": task.epochs, "batch_size": task.batch, **(HELD_OUT if image else {})},
        data={"held_out": 0.1} if image else {},
        deviations=(_NO_RATE, *((TWO_MAPS,) if task.bidirectional else ())),
    )


LRU_PRESETS = MappingProxyType({name: _preset(name, task) for name, task in _TASKS.items()})
