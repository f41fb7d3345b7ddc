"""``longwave recipes``: what there is to train."""

from __future__ import annotations

from longwave.cli.parser import Parser
from longwave.recipes import RECIPES

__all__ = ["run"]


def run(words: list[str]) -> None:
    """Print each recipe with a line on what it does."""
    Parser(prog="longwave recipes", description="List the recipes.").parse_args(words)
    from rich import print as show
    from rich.table import Table

    table = Table("recipe", "what it does")
    for name, text in RECIPES.items():
        table.add_row(name, text)
    show(table)
    show("Run one: longwave train RECIPE; see its settings: longwave train RECIPE --help")
