"""Files that the commands write: whole or not at all."""

from __future__ import annotations

from pathlib import Path

from longwave.errors import RunError
from longwave.models.checkpoint import write_whole

__all__ = ["write_output"]


def write_output(file: Path, content: str | bytes) -> None:
    """Write a file that the user named.

    Raises:
        RunError: it cannot be written.
    """
    try:
        write_whole(file, content)
    except OSError as error:
        raise RunError(f"{file} cannot be written ({error.strerror or error}); name another file with --out") from error
