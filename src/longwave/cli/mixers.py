"""``--model.mixer.NAME VALUE``: the options of the mixer that was chosen, checked against its own signature."""

from __future__ import annotations

import re
import sys
from typing import NoReturn

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from longwave.cli.parser import Parser
from longwave.errors import ConfigError
from longwave.layers import MIXERS
from longwave.layers.options import choose

__all__ = ["as_mixer_options", "check_mixer_options", "describe_mixer_options"]

_MIXER = "model.mixer"


def as_mixer_options(words: list[str], parser: Parser) -> list[str]:
    """Name the field of the configuration that holds a mixer's options: ``--model.mixer_options.r_min``.

    ``--model.mixer.help NAME`` prints the options of a mixer instead, and ends the process with status 0.
    """
    for position, word in enumerate(words):
        name, _, value = word.partition("=")
        if name == f"--{_MIXER}.help":
            _help(value or "".join(words[position + 1 : position + 2]), parser)
    return [re.sub(rf"^--{_MIXER}\.", f"--{_MIXER}_options.", word) for word in words]


def check_mixer_options(settings: Namespace, parser: Parser) -> None:
    """Give the options of the mixer the types that its signature asks for; end with status 2 where one does not fit."""
    try:
        mixer = choose("mixer", settings.model.mixer, MIXERS)
        given = settings.model.mixer_options
        options = _options(mixer)
        known = {name: name for name in (action.dest.removeprefix(f"{_MIXER}.") for action in options._actions)}
        for name in given:
            choose(f"option of {settings.model.mixer}", name, known)
        read = options.parse_object({"model": {"mixer": given}}).model.mixer
    except (ConfigError, ArgumentError) as error:
        parser.error(str(error).replace("Parser key ", ""))
    settings.model.mixer_options = {name: read[name] for name in given}


def describe_mixer_options(parser: Parser) -> None:
    """Let --help say how a mixer is chosen and how its options are given."""
    described = {
        "model.mixer": f"{' or '.join(MIXERS)}; its own options are --model.mixer.NAME VALUE, "
        "which --model.mixer.help MIXER lists",
        "model.mixer_options": "the options of the mixer, together",
    }
    for action in parser._actions:
        if action.dest in described:
            action.help = described[action.dest]


def _options(mixer: type) -> ArgumentParser:
    options = ArgumentParser(exit_on_error=False, add_help=False)
    options.add_class_arguments(mixer, _MIXER, as_group=False, skip={"d_model"})
    return options


def _help(name: str, parser: Parser) -> NoReturn:
    """Print the options of a mixer as they are given on the command line."""
    try:
        mixer = choose("mixer", name, MIXERS)
    except ConfigError as error:
        parser.error(str(error))
    first_paragraph = (mixer.__doc__ or "").partition("\n\n")[0]
    print(f"{name}: {' '.join(first_paragraph.split())}\n")
    print(_options(mixer).format_help().partition("options:\n")[2], end="")
    sys.exit(0)
