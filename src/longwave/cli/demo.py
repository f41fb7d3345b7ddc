"""``longwave demo``."""

from __future__ import annotations

from longwave.cli.console import console_log
from longwave.cli.settings import settings_of
from longwave.recipes import load_recipe

__all__ = ["run"]


def run(words: list[str]) -> None:
    """Run the demonstration, whose arguments are options."""
    demo = load_recipe("demo")
    settings = settings_of(demo, words, prog="longwave demo")
    with console_log():
        demo(**settings)
