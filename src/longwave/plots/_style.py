"""The look that every figure shares, and Matplotlib's figure, or the error that names the extra which brings it."""

from __future__ import annotations

import math

from longwave.errors import MissingExtraError

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
except ModuleNotFoundError as error:
    raise MissingExtraError(f"plots need {error.name}: pip install 'longwave[plot]'") from error

__all__ = ["COLOURS", "GREY", "Axes", "Figure", "MaxNLocator", "new_figure", "panels", "tidy"]

# Okabe and Ito's palette, told apart by every kind of colour vision: blue, vermilion, green, purple, orange, sky.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#8c8c8c"


def new_figure(title: str, width: float, height: float) -> Figure:
    """An empty titled figure, ``width`` × ``height`` inches, that belongs to no global state."""
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    figure.suptitle(title, fontsize=12, fontweight="bold")
    return figure


def panels(title: str, count: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` axes of ``width`` × ``height`` inches, row by row in at most ``columns`` columns."""
    columns = min(count, columns)
    rows = math.ceil(count / columns)
    figure = new_figure(title, width * columns, 0.5 + height * rows)
    return figure, [figure.add_subplot(rows, columns, place) for place in range(1, count + 1)]


def tidy(axes: Axes, title: str, x: str, y: str) -> Axes:
    """Label an axes and take away what carries no information."""
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return axes
