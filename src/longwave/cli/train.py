"""``longwave train RECIPE``: every argument of the recipe's function is an option."""

from __future__ import annotations

from longwave.cli.console import console_log
from longwave.cli.parser import Parser
from longwave.cli.settings import settings_of
from longwave.recipes import RECIPES, load_presets, load_recipe

__all__ = ["run"]


def run(words: list[str]) -> None:
    """Train by the recipe that the first word names, with the settings in the others."""
    if not words or words[0] not in RECIPES:
        parser = Parser(prog="longwave train", description="Train a model by a recipe.")
        parser.add_choices("recipe", RECIPES)
        parser.parse_args(words)
        return
    name = words[0]
    recipe = load_recipe(name)
    settings = settings_of(recipe, words[1:], prog=f"longwave train {name}", presets=load_presets(name))
    with console_log():
        recipe(**settings)
