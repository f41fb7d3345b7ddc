"""What a preset is: the settings of one experiment of a paper, under the names of a recipe's options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

__all__ = [
    "DECAYED",
    "DECAYED_VECTORS",
    "FREE_RATE",
    "HELD_OUT",
    "SOFTPLUS",
    "TWO_MAPS",
    "TWO_WAYS",
    "Preset",
    "Settings",
    "own_dynamics",
]

Settings = Mapping[str, Any]


class Preset(NamedTuple):
    """One experiment of a paper, as defaults of a recipe; what is not named stays the recipe's own default.

    Args:
        recipe: the recipe it is for.
        source: where the values stand.
        model: fields of its `BackboneConfig`.
        optim: fields of its `OptimConfig`.
        trainer: fields of its `TrainerConfig`.
        data: fields of its choice of data.
        deviations: what is otherwise here than in the paper.
    """

    recipe: str
    source: str
    model: Settings
    optim: Settings
    trainer: Settings
    data: Settings = MappingProxyType({})
    deviations: tuple[str, ...] = ()

    def options(self) -> dict[str, Any]:
        """The settings under the names of options, such as ``model.d_model``."""
        sections = {"data": self.data, "model": self.model, "optim": self.optim, "trainer": self.trainer}
        return {
            f"{section}.{field}": _plain(value)
            for section, fields in sections.items()
            for field, value in fields.items()
        }

    def defaults(self, name: str) -> dict[str, Any]:
        """The options, and a run folder of the preset's name: presets of a recipe do not meet in one folder."""
        return {**self.options(), "run": Path("runs") / name}


# Entries of ``optim.overrides``, as plain values. PyTorch's and optax's AdamW decay whatever is not excepted, biases
# and gains too; longwave decays matrices alone unless it is told.
DECAYED: Settings = MappingProxyType({"weight_decay": None})  # trained and decayed as the matrices are
FREE_RATE: Settings = MappingProxyType({"lr_factor": 1.0})  # trained as fast as the matrices, not decayed
DECAYED_VECTORS: Settings = MappingProxyType({"*.bias": DECAYED, "*norm.weight": DECAYED, "*mixer.D": DECAYED})

# Where a paper keeps a tenth of the training set and reports the test accuracy of the best epoch on it.
HELD_OUT: Settings = MappingProxyType({"best": True, "monitor": "accuracy"})

# What several presets do otherwise than their papers.
TWO_WAYS = "each direction has a system and an output map of its own, where the paper's differ in C alone"
TWO_MAPS = "each direction has an output map of its own"
SOFTPLUS = "dt is trained as a logarithm, where the published code trains it through a softplus"


def own_dynamics(systems: int) -> str:
    """Say that A and B are not shared, where the paper's channels share so many of them."""
    return f"every channel trains its own A and B, where the paper's share {systems}"


def _plain(value: Any) -> Any:
    """A value as a parser takes it, with dictionaries of its own."""
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, Mapping) else value
