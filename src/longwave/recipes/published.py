"""Published figures for the tasks of the recipes, to stand beside measured ones."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

__all__ = ["PUBLISHED", "SOURCES", "Published"]


class Published(NamedTuple):
    """A figure from a paper.

    Args:
        model: the paper's name of its model.
        accuracy: on the test set, in per cent.
        source: a key of ``SOURCES``.
    """

    model: str
    accuracy: float
    source: str


SOURCES: Mapping[str, str] = MappingProxyType(
    {
        "S4": "Gu, Goel, Ré, “Efficiently Modeling Long Sequences with Structured State Spaces”, ICLR 2022",
        "S5": "Smith, Warrington, Linderman, “Simplified State Space Layers for Sequence Modeling”, ICLR 2023",
    }
)

# a recipe's title of its task -> figures
PUBLISHED: Mapping[str, tuple[Published, ...]] = MappingProxyType(
    {
        "sequential MNIST": (Published("S4", 99.63, "S4"), Published("S5", 99.65, "S5")),
        "permuted MNIST": (Published("S4", 98.70, "S4"), Published("S5", 98.67, "S5")),
    }
)
