"""How training went: loss and metrics by epoch, and accuracy by how much of a sequence was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import NamedTuple

import numpy as np

from longwave.errors import ShapeError
from longwave.plots._style import COLOURS, GREY, Axes, Figure, MaxNLocator, new_figure, panels, tidy
from longwave.shapes import Float, Tensor

__all__ = ["accuracy_over_time", "learning_curves"]

_Rows = Sequence[Mapping[str, int | float]]


class _Quantity(NamedTuple):
    """How a column of a history is shown: a title, the axis' label, a factor, a number in words, and whether a
    logarithmic scale suits it."""

    title: str
    label: str
    factor: float = 1.0
    text: str = "{:.4g}"
    log: bool = False


_QUANTITIES = {
    "loss": _Quantity("Loss", "loss", log=True),
    "accuracy": _Quantity("Accuracy", "accuracy (%)", 100.0, "{:.2f} %"),
    "mse": _Quantity("Mean squared error", "mean squared error", log=True),
    "mae": _Quantity("Mean absolute error", "mean absolute error", log=True),
    "r2": _Quantity("Coefficient of determination", "R²"),
    "lr": _Quantity("Learning rate", "learning rate"),
}
# the beginning of a column's name -> the line's style
_PARTS = {"train_": "-", "held_out_": "--"}


def learning_curves(
    histories: Mapping[str, _Rows],
    *,
    test: Mapping[str, Mapping[str, float]] | None = None,
    title: str = "Learning curves",
) -> Figure:
    """Loss, metrics and learning rate of one or several runs by epoch.

    Args:
        histories: for each run's name the rows that :func:`longwave.train.fit` returns: an epoch, and columns like
            ``train_loss``, ``held_out_accuracy`` or ``lr``. What was trained on is drawn solid, what was held out
            dashed.
        test: for some of the names metrics on the test set, such as ``{"accuracy": 0.98}``, each drawn as a diamond at
            the last epoch.
        title: the figure's title.

    Returns:
        A figure with one axes for each quantity, the loss first; a metric that equals the loss is not drawn again.

    Raises:
        ShapeError: there is no run, or one has no rows.

    Example:
        >>> rows = [{"epoch": epoch, "train_loss": 1 / epoch, "train_mae": 0.5} for epoch in (1, 2, 3)]
        >>> [axes.get_title() for axes in learning_curves({"delay": rows}).axes]
        ['Loss', 'Mean absolute error']
    """
    if not histories or not all(histories.values()):
        raise ShapeError(f"learning curves need one epoch or more of each run, got {_counts(histories)}")
    quantities = _quantities(list(histories.values()))
    figure, places = panels(title, len(quantities), 2 if len(quantities) == 4 else 3, 4.5, 3.4)
    for quantity, axes in zip(quantities, places, strict=True):
        shown = _QUANTITIES.get(quantity, _Quantity(quantity, quantity))
        for (name, rows), colour in zip(histories.items(), cycle(COLOURS)):
            _draw(axes, name, rows, quantity, shown.factor, colour)
            if test is not None and quantity in test.get(name, {}):
                _draw_test(axes, name, rows, test[name][quantity], shown, colour)
        _scale(axes, shown.log)
        tidy(axes, shown.title, "epoch", shown.label)
    places[min(1, len(places) - 1)].legend(fontsize=8, frameon=False)
    return figure


def accuracy_over_time(
    curves: Mapping[str, Float[Tensor, " time"]], title: str = "Accuracy while the sequence is read"
) -> Figure:
    """The accuracy of a streaming classifier by the number of positions it has read.

    Args:
        curves: for each model's name the share of sequences it has right after 1, 2, ... positions.
        title: the figure's title.
    """
    figure = new_figure(title, 7.0, 3.8)
    axes = figure.subplots()
    for (name, curve), colour in zip(curves.items(), cycle(COLOURS)):
        axes.plot(range(1, len(curve) + 1), 100 * curve.cpu(), color=colour, label=name)
    axes.axhline(100, color=GREY, linewidth=0.8, linestyle=":")
    tidy(axes, "", "positions read", "accuracy (%)").legend(fontsize=9, loc="lower right", frameon=False)
    return figure


def _quantities(histories: Sequence[_Rows]) -> list[str]:
    """The names of what there is to draw, without train_ and held_out_: the loss first, the learning rate last."""
    columns = [column for rows in histories for column in rows[0]]
    named = [column.removeprefix(part) for column in columns for part in _PARTS if column.startswith(part)]
    metrics = [name for name in dict.fromkeys(named) if name != "loss" and not _is_loss(name, histories)]
    return ["loss", *metrics, *(["lr"] if "lr" in columns else [])]


def _is_loss(metric: str, histories: Sequence[_Rows]) -> bool:
    """Whether a metric is what was minimised, such as the mean squared error of a regression."""
    pairs = [(row.get(f"train_{metric}"), row.get("train_loss")) for rows in histories for row in rows]
    return all(a is not None and b is not None and abs(a - b) <= 1e-5 * abs(b) for a, b in pairs)


def _draw(axes: Axes, name: str, rows: _Rows, quantity: str, factor: float, colour: str) -> None:
    lines = {quantity: "-"} if quantity == "lr" else {f"{part}{quantity}": line for part, line in _PARTS.items()}
    for column, line in lines.items():
        drawn = [row for row in rows if column in row]
        if drawn:
            part = column.removesuffix(quantity).strip("_").replace("_", " ")
            label = f"{name}, {part}" if part else name
            x, y = [row["epoch"] for row in drawn], [factor * row[column] for row in drawn]
            axes.plot(x, y, line, color=colour, label=label, marker="." if len(drawn) < 30 else "")


def _draw_test(axes: Axes, name: str, rows: _Rows, value: float, shown: _Quantity, colour: str) -> None:
    value = shown.factor * value
    label = f"{name}, test: {shown.text.format(value)}"
    axes.plot(rows[-1]["epoch"], value, "D", color=colour, markersize=7, markeredgecolor="black", label=label)


def _scale(axes: Axes, log: bool) -> None:
    """Whole epochs, and a logarithmic scale where it is wanted, possible, and spans enough to have ticks."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    values = np.hstack([np.asarray(line.get_ydata()) for line in axes.lines])
    if log and values.min() > 0 and values.max() > 3 * values.min():
        axes.set_yscale("log")


def _counts(histories: Mapping[str, _Rows]) -> str:
    return ", ".join(f"{name}: {len(rows)}" for name, rows in histories.items()) or "no run"
