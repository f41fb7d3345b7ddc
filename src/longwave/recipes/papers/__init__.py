"""Presets: experiments of the papers, under the names of their models and tables.

Those for the recipe ``files`` are for a task's data in the form that ``longwave.data.arrays`` or ``wavs`` reads, with
tokens one-hot. A paper's task is not here where its model cannot be built of a backbone and a head (Retrieval compares
two documents), or where its settings are not all known.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from longwave.errors import ConfigError
from longwave.recipes.papers.lru import LRU_PRESETS
from longwave.recipes.papers.preset import Preset
from longwave.recipes.papers.rtf import RTF_PRESETS
from longwave.recipes.papers.s4 import S4_PRESETS
from longwave.recipes.papers.s4d import S4D_PRESETS
from longwave.recipes.papers.s5 import S5_PRESETS

__all__ = ["PRESETS", "Preset", "preset_for"]

# name -> preset
PRESETS: Mapping[str, Preset] = MappingProxyType(
    {**S4_PRESETS, **S4D_PRESETS, **S5_PRESETS, **LRU_PRESETS, **RTF_PRESETS}
)


def preset_for(recipe: str, name: str) -> Preset:
    """A preset of a recipe.

    Args:
        recipe: the recipe's name.
        name: a key of ``PRESETS``.

    Raises:
        ConfigError: there is no such preset, or it is for another recipe.

    Example:
        >>> preset_for("smnist", "s5-smnist").options()["model.d_model"]
        96
    """
    from longwave.layers.options import choose  # not above: it brings torch, which a list of presets does not need

    preset = choose("preset", name, PRESETS)
    if preset.recipe != recipe:
        own = [other for other, it in PRESETS.items() if it.recipe == recipe]
        there = f"those of {recipe} are {', '.join(own)}" if own else f"{recipe} has none"
        raise ConfigError(f"preset {name!r} is for the recipe {preset.recipe}, not for {recipe}: {there}")
    return preset
