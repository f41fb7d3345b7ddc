"""The commands and what they run."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from longwave import __version__
from longwave.cli.parser import Parser
from longwave.recipes import RECIPES, load_recipe

__all__ = ["run"]

_COMMANDS = {
    "train": "train a model by a recipe",
    "recipes": "list the recipes",
    "demo": "train S4D on sequential MNIST and stream it, beside a random A, with pictures (about 6 minutes)",
    "doctor": "show what this installation can do and check every operation against its reference",
}


def run(words: list[str]) -> None:
    """Parse the words of a command line and run the command that they name."""
    words = [_underscored(word) for word in words]
    parser = _parser(words)
    settings = parser.instantiate(parser.parse_args(words))
    command = settings.command
    if command == "recipes":
        _list_recipes()
    elif command == "doctor":
        importlib.import_module("longwave.cli.doctor").doctor()
    elif command == "demo":
        _call(load_recipe("demo"), settings.demo)
    else:
        _call(load_recipe(settings.train.recipe), settings.train[settings.train.recipe])


def _parser(words: list[str]) -> Parser:
    """The parser of all commands; a function's arguments are only looked up where the words name it."""
    named = [word for word in words if not word.startswith("-")]
    parser = Parser(prog="longwave", description="Deep state space sequence models.")
    parser.add_argument("--version", action="version", version=f"longwave {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subcommands(required=True, dest="command")
    parsers = {name: Parser(description=f"{text[0].upper()}{text[1:]}.") for name, text in _COMMANDS.items()}
    for name, text in _COMMANDS.items():
        commands.add_subcommand(name, parsers[name], help=text)
    if named[:1] == ["demo"]:
        _add_settings(parsers["demo"], load_recipe("demo"))
    recipes = parsers["train"].add_subcommands(required=True, dest="recipe")
    for name, text in RECIPES.items():
        recipe = Parser(description=f"{name}: {text}.")
        recipes.add_subcommand(name, recipe, help=text)
        if named[:2] == ["train", name]:
            _add_settings(recipe, load_recipe(name))
    return parser


def _add_settings(parser: Parser, function: Callable[..., Any]) -> None:
    parser.add_function_arguments(function, as_group=False)
    parser.add_argument("--config", action="config", help="take settings from a file, such as a run's config.yaml")


def _underscored(word: str) -> str:
    """Options are spelt as the arguments of Python functions are; a dash does as well."""
    name, equals, value = word.partition("=")
    return name.replace("-", "_").replace("__", "--", 1) + equals + value if word.startswith("--") else word


def _call(function: Callable[..., Any], settings: Any) -> None:
    """Call a recipe with its settings, what it logs shown on the console."""
    with _console_log():
        function(**{name: value for name, value in settings.items() if name != "config"})


@contextmanager
def _console_log() -> Iterator[None]:
    from rich import get_console
    from rich.logging import RichHandler

    # The console of Lightning's progress bar: lines appear above it.
    handler = RichHandler(console=get_console(), show_time=False, show_level=False, show_path=False, highlighter=None)
    logger = logging.getLogger("longwave")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _list_recipes() -> None:
    from rich import print as show
    from rich.table import Table

    table = Table("recipe", "what it does")
    for name, text in RECIPES.items():
        table.add_row(name, text)
    show(table)
    show("Run one: longwave train RECIPE; see its settings: longwave train RECIPE --help")
