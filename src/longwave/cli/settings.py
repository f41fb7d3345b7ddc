"""The arguments of a recipe's function, read from words and configuration files."""

from __future__ import annotations

from argparse import SUPPRESS
from collections.abc import Callable, Mapping
from typing import Any

from longwave.cli.mixers import as_mixer_options, check_mixer_options, describe_mixer_options
from longwave.cli.parser import Parser
from longwave.recipes.papers import preset_for

__all__ = ["recipe_parser", "settings_of"]

# For a choice of data and of a mixer the defaults that suit them, by option: {"optim.lr": 4e-3}.
Presets = Callable[[Any, str], Mapping[str, Any]]


def settings_of(
    recipe: Callable[..., Any], words: list[str], *, prog: str, presets: Presets | None = None
) -> dict[str, Any]:
    """What to call a recipe with.

    Args:
        recipe: a function with keyword arguments; the fields of those that are dataclasses are options, too.
        words: the options, such as ``["--optim.lr", "0.01"]``.
        prog: what the recipe is called with, for messages; its last word is the recipe's name.
        presets: defaults that depend on the data and the mixer. A paper's preset, ``--preset``, goes before them; a
            file of settings before that; and what the words say before everything.

    Returns:
        An argument by name; dataclasses are built and their values checked.

    Raises:
        LongwaveError: a value is out of its range, or the preset is unknown or of another recipe.
        SystemExit: a word is wrong (2), or asked for help (0).
    """
    parser = recipe_parser(recipe, prog)
    words = as_mixer_options(words, parser)
    preset = _preset(words)
    chosen = preset_for(prog.split()[-1], preset).defaults(preset) if preset else {}
    parser.set_defaults(chosen)
    if presets is not None:
        asked = parser.parse_args([word for word in words if word not in ("-h", "--help")])
        parser.set_defaults(dict(presets(parser.instantiate(asked).data, asked.model.mixer)) | chosen)
    settings = parser.parse_args(words)
    if "model" in settings:
        check_mixer_options(settings, parser)
    named = parser.instantiate(settings)
    return {name: value for name, value in named.items() if name not in ("config", "preset", "recipe")}


def recipe_parser(recipe: Callable[..., Any], prog: str) -> Parser:
    """A parser with an option for every argument of a recipe, and for every field of those that are dataclasses."""
    parser = Parser(prog=prog, usage=f"{prog} [options]")
    parser.add_function_arguments(recipe, as_group=False)
    parser.add_argument("--config", action="config", help="take settings from a file, such as a run's config.yaml")
    parser.add_argument("--preset", metavar="NAME", help="defaults from a paper; longwave recipes lists them")
    # A run's config.yaml begins with the recipe's name: that of another one is refused.
    parser.add_argument("--recipe", choices=[prog.split()[-1]], default=prog.split()[-1], help=SUPPRESS)
    parser.description = next(iter((recipe.__doc__ or "").splitlines()), None)
    describe_mixer_options(parser)
    return parser


def _preset(words: list[str]) -> str:
    """The preset that the words name, before they can be parsed: the defaults of all others depend on it."""
    named = ""
    for position, word in enumerate(words):
        option, _, value = word.partition("=")
        if option == "--preset":
            named = value or "".join(words[position + 1 : position + 2])
    return named
