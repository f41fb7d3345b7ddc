"""A jsonargparse parser whose usage errors are one line with the nearest name in it."""

from __future__ import annotations

import difflib
import re
import sys
from typing import NoReturn

from jsonargparse import ArgumentParser

__all__ = ["Parser"]


class Parser(ArgumentParser):
    """Reads options from dataclasses and function signatures; a mistake ends the process with status 2."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Say what is wrong, which name may have been meant, and how to see all of them."""
        parser = getattr(ex, "subcommand_parser", None) or self
        command = parser.prog.replace(" [options]", "")
        text = " ".join(message.split()).rstrip(".") + nearest_names(message, parser)
        print(f"{command}: error: {text}; {command} --help lists what there is", file=sys.stderr)
        sys.exit(2)


def nearest_names(message: str, parser: ArgumentParser) -> str:
    """Which known names lie near the unknown ones that a message of argparse quotes; empty if none does."""
    known = [option for action in parser._actions for option in action.option_strings if option.startswith("--")]
    unknown = re.findall(r"--[\w.-]+", message) if message.startswith("unrecognized") else []
    choice = re.match(r".*invalid choice: '([^']*)' \(choose from (.*)\)", message)
    if choice:
        known, unknown = re.findall(r"[\w-]+", choice[2]), [choice[1]]
    near = [name for word in unknown for name in difflib.get_close_matches(word, known, n=1)]
    return f"; did you mean {' '.join(near)}?" if near else ""
