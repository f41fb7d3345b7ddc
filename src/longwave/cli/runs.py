"""What the commands on a run folder have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

from longwave.cli.parser import Parser
from longwave.errors import RunError
from longwave.layers.options import choose
from longwave.models import Head, load
from longwave.recipes import RECIPES, load_recipe
from longwave.train import Run

__all__ = ["data_type", "model_of", "recipe_of", "run_parser"]


def run_parser(command: str, description: str, usage: str = "RUN [options]") -> Parser:
    """A parser of a command whose words begin with a run folder."""
    return Parser(prog=f"longwave {command}", usage=f"longwave {command} {usage}", description=description)


def recipe_of(settings: Mapping[str, Any], folder: Path) -> str:
    """The recipe that a run was trained by."""
    if "recipe" not in settings:
        raise RunError(f"{folder / 'config.yaml'} names no recipe: longwave train did not write it; train anew")
    choose("recipe", settings["recipe"], RECIPES)
    return settings["recipe"]


def data_type(recipe: str) -> type[Any]:
    """The dataclass of a recipe's choice of data."""
    return get_type_hints(load_recipe(recipe))["data"]


def model_of(folder: Path) -> Head[Any]:
    """The trained model of a run, in evaluation mode."""
    if not folder.is_dir():
        raise RunError(f"{folder} is not a folder: name a run folder, such as runs/smnist")
    model = Run(folder).model
    if not model.is_dir():
        raise RunError(
            f"{folder} has no model/: its training has not ended; go on with longwave train ... --run {folder}"
        )
    found = load(model)
    if not isinstance(found, Head):
        raise RunError(f"{model} holds a {type(found).__name__}, which no recipe trains; see longwave generate")
    return found.eval()
