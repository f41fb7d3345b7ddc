"""What the commands say on the terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["console_log"]


@contextmanager
def console_log() -> Iterator[None]:
    """Show what longwave logs on the console; of several processes the first alone speaks."""
    from longwave.train.processes import is_first_process

    if not is_first_process():
        yield
        return
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
