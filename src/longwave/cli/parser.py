"""A jsonargparse parser whose usage errors are one line with the nearest name in it."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from jsonargparse import ArgumentParser

__all__ = ["Parser", "underscored"]


class Parser(ArgumentParser):
    """Reads options from dataclasses and function signatures; a mistake ends the process with status 2.

    Args:
        prog: what the user calls it with.
        usage: how; None lists every option.
        description: what it is for.
        exit_on_error: false: a mistake is an ArgumentError.
        logger: jsonargparse's; with this and the next it makes parsers for dataclasses within values.
        parser_mode: jsonargparse's name of the format of values.
    """

    def __init__(
        self,
        *,
        prog: str | None = None,
        usage: str | None = None,
        description: str | None = None,
        exit_on_error: bool = True,
        logger: Any = False,
        parser_mode: str = "yaml",
    ) -> None:
        super().__init__(
            prog=prog,
            usage=usage,
            description=description,
            exit_on_error=exit_on_error,
            logger=logger,
            parser_mode=parser_mode,
            allow_abbrev=False,  # of an option's name all is wanted: half of it may fit another one tomorrow
        )

    def add_choices(self, what: str, choices: Mapping[str, str]) -> None:
        """Demand one of some words, which --help lists with a line each."""
        commands = self.add_subcommands(required=True, dest=what)
        for name, text in choices.items():
            commands.add_subcommand(name, Parser(description=text), help=text)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Say what is wrong, which name may have been meant, and how to see all of them."""
        if not self.exit_on_error:
            super().error(message, ex)
        parser = getattr(ex, "subcommand_parser", None) or self
        command = parser.prog.replace(" [options]", "")
        text = re.sub(r"(?<=required: )(\w+\.)", r"--\1", " ".join(message.split()).rstrip("."))
        text += _nearest_names(message, parser)
        print(f"{command}: error: {text}; {command} --help lists what there is", file=sys.stderr)
        sys.exit(2)


def underscored(word: str) -> str:
    """Options are spelt as the arguments of Python functions are; a dash does as well."""
    name, equals, value = word.partition("=")
    return name.replace("-", "_").replace("__", "--", 1) + equals + value if word.startswith("--") else word


def _nearest_names(message: str, parser: ArgumentParser) -> str:
    """Which known names lie near the unknown ones that a message of argparse quotes; empty if none does."""
    known = [option for action in parser._actions for option in action.option_strings if option.startswith("--")]
    unknown = re.findall(r"--[\w.-]+", message) if message.startswith("unrecognized") else []
    choice = re.match(r".*invalid choice: '([^']*)' \(choose from (.*)\)", message)
    if choice:
        known, unknown = re.findall(r"[\w-]+", choice[2]), [choice[1]]
    near = [name for word in unknown for name in difflib.get_close_matches(word, known, n=1)]
    return f"; did you mean {' '.join(near)}?" if near else ""
