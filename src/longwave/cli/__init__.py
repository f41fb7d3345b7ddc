"""The command line: ``longwave COMMAND ...``. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from longwave.errors import LongwaveError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after ``longwave``; None: those that the process was started with.

    Returns:
        The exit status: 0, or 1 after an error, of which one line goes to the standard error, or 130 after Ctrl-C.
        Wrong usage leaves by SystemExit with status 2. With ``--debug`` an error is raised instead.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    try:
        from longwave.cli.commands import run

        run([word for word in words if word != "--debug"])
        return 0
    except KeyboardInterrupt:
        print("longwave: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if debug:
            raise
        print(f"longwave: error: {_one_line(error)}", file=sys.stderr)
        return 1


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, LongwaveError):
        return text
    # Not foreseen: the kind of error is part of what there is to know.
    return f"{type(error).__name__}: {text} (--debug shows where)"
