"""One function per experiment; each is imported when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

__all__ = ["RECIPES", "load_presets", "load_recipe"]

# name, which is also that of the module and of the function in it -> what it trains on what
RECIPES: Mapping[str, str] = MappingProxyType(
    {
        "smnist": "classify MNIST digits read pixel by pixel, 784 steps; --data.permuted true: in a fixed random order",
        "fsdd": "classify spoken digits from raw 8 kHz audio, up to 18,000 steps",
        "ucr": "classify the series of a UCR/UEA problem, such as --data.problem JapaneseVowels",
        "files": "classify, or estimate numbers, from data of your own: wav files or arrays",
        "copying": "repeat symbols that were shown long before (synthetic)",
        "delay": "give the input back after a delay, at every step (synthetic)",
        "induction_heads": "find what followed a marker when it came before, at any length (synthetic)",
        "selective_copying": "repeat symbols that were scattered among blanks (synthetic)",
        "parity": "count modulo two, beyond the lengths of training (synthetic)",
    },
)


def load_recipe(name: str) -> Callable[..., Any]:
    """The function of a recipe.

    Args:
        name: a key of ``RECIPES``.
    """
    return getattr(importlib.import_module(f"longwave.recipes.{name}"), name)


def load_presets(name: str) -> Callable[..., Mapping[str, Any]] | None:
    """What gives a recipe's defaults for a choice of data and mixer; None: it has one set of defaults.

    Args:
        name: a key of ``RECIPES``.
    """
    return getattr(importlib.import_module(f"longwave.recipes.{name}"), "presets", None)
