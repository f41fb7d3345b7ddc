"""The look that every figure shares, and Matplotlib's figure, or the error that names the extra which brings it."""

from __future__ import annotations

from longwave.errors import MissingExtraError

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ModuleNotFoundError as error:
    raise MissingExtraError(f"plots need {error.name}: pip install 'longwave[plot]'") from error

__all__ = ["COLOURS", "GREY", "Axes", "Figure", "new_figure", "tidy"]

# Okabe and Ito's palette, told apart by every kind of colour vision: blue, vermilion, green, purple, orange, sky.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#8c8c8c"


def new_figure(title: str, width: float, height: float) -> Figure:
    """An empty titled figure, ``width`` × ``height`` inches, that belongs to no global state."""
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    figure.suptitle(title, fontsize=12, fontweight="bold")
    return figure


def tidy(axes: Axes, title: str, x: str, y: str) -> Axes:
    """Label an axes and take away what carries no information."""
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return axes
