"""How training went: loss and accuracy by epoch, and accuracy by how much of a sequence was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from longwave.plots._style import COLOURS, GREY, Figure, new_figure, tidy
from longwave.shapes import Float, Tensor

__all__ = ["accuracy_over_time", "learning_curves"]

_Rows = Sequence[Mapping[str, int | float]]


def learning_curves(
    histories: Mapping[str, _Rows], test_accuracy: Mapping[str, float] | None = None, title: str = "Learning curves"
) -> Figure:
    """Loss and accuracy of one or several runs by epoch.

    Args:
        histories: for each run's name the rows that :func:`longwave.train.fit` returns. What was trained on is drawn
            solid, what was held out dashed.
        test_accuracy: for some of the names the accuracy on the test set, drawn as a diamond at the last epoch.
        title: the figure's title.

    Returns:
        A figure with two axes: loss, on a logarithmic scale, and accuracy in per cent.
    """
    figure = new_figure(title, 9.0, 3.8)
    loss, accuracy = figure.subplots(1, 2)
    for (name, rows), colour in zip(histories.items(), COLOURS, strict=False):
        epochs = [row["epoch"] for row in rows]
        for part, line in (("train", "-"), ("held_out", "--")):
            if f"{part}_loss" in rows[0]:
                label = f"{name}, {part.replace('_', ' ')}"
                loss.plot(epochs, [row[f"{part}_loss"] for row in rows], line, color=colour, label=label)
                percent = [100 * row[f"{part}_accuracy"] for row in rows]
                accuracy.plot(epochs, percent, line, color=colour, label=label)
        if test_accuracy is not None and name in test_accuracy:
            percent = 100 * test_accuracy[name]
            label = f"{name}, test: {percent:.1f} %"
            accuracy.plot(epochs[-1], percent, "D", color=colour, markersize=7, markeredgecolor="black", label=label)
    loss.set_yscale("log")
    tidy(loss, "Cross-entropy", "epoch", "loss (nats)")
    tidy(accuracy, "Accuracy", "epoch", "accuracy (%)").legend(fontsize=8, loc="lower right", frameon=False)
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
    for (name, curve), colour in zip(curves.items(), COLOURS, strict=False):
        axes.plot(range(1, len(curve) + 1), 100 * curve.cpu(), color=colour, label=name)
    axes.axhline(100, color=GREY, linewidth=0.8, linestyle=":")
    tidy(axes, "", "positions read", "accuracy (%)").legend(fontsize=9, loc="lower right", frameon=False)
    return figure
