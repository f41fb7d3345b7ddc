"""Files that the commands write: whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from longwave.errors import RunError
from longwave.pretrained.files import write_whole

if TYPE_CHECKING:
    from longwave.plots import Figure

__all__ = ["write_figure", "write_output"]


def write_output(file: Path, content: str | bytes) -> None:
    """Write a file that the user named.

    Raises:
        RunError: it cannot be written.
    """
    try:
        write_whole(file, content)
    except OSError as error:
        raise RunError(f"{file} cannot be written ({error.strerror or error}); name another file with --out") from error


def write_figure(file: Path, figure: Figure) -> None:
    """Write a figure in the format that the file's name ends in, PNG if it ends in none.

    Raises:
        RunError: Matplotlib does not know the format, or the file cannot be written.
    """
    content = io.BytesIO()
    try:
        figure.savefig(content, format=file.suffix.removeprefix(".") or "png")
    except ValueError as error:
        raise RunError(f"{file}: {error}") from error
    write_output(file, content.getvalue())
