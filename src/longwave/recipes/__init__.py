"""One function per experiment; each is imported when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

__all__ = ["RECIPES", "load_recipe"]

# name, which is also that of the module and of the function in it -> what it trains on what
RECIPES: Mapping[str, str] = MappingProxyType(
    {"smnist": "classify MNIST digits read pixel by pixel: 784 steps, 10 classes"},
)


def load_recipe(name: str) -> Callable[..., Any]:
    """The function of a recipe.

    Args:
        name: a key of ``RECIPES``.
    """
    return getattr(importlib.import_module(f"longwave.recipes.{name}"), name)
