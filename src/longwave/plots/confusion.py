"""What a classifier takes for what."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from longwave.errors import ShapeError
from longwave.plots._style import Axes, Figure, new_figure, tidy
from longwave.shapes import Int, Tensor

__all__ = ["confusion"]

_MOST_COUNTS = 20  # of more classes than this the numbers would be too small to read


def confusion(
    labels: Int[Tensor, " samples"],
    predictions: Int[Tensor, " samples"],
    classes: Sequence[str],
    title: str = "Confusion matrix",
) -> Figure:
    """The confusion matrix: how many samples of each class were taken for each class.

    Args:
        labels: the true classes, numbers from 0.
        predictions: what they were taken for.
        classes: the names of the classes, by number.
        title: the figure's title.

    Returns:
        A figure with one row for each true class, coloured by shares of the row and marked with counts.

    Raises:
        ShapeError: there are no samples, not as many labels as predictions, or a number without a name.

    Example:
        >>> figure = confusion(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), ["yes", "no"])
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['1', '1', '0', '1']
    """
    _check(labels, predictions, len(classes))
    n = len(classes)
    counts = torch.bincount((labels * n + predictions).cpu(), minlength=n * n).view(n, n)
    size = 2.5 + 0.4 * min(n, 25)
    figure = new_figure(title, size + 0.8, size)
    axes = figure.subplots()
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    image = axes.imshow(shares.numpy(), vmin=0, vmax=1, cmap="cividis")
    axes.set_xticks(range(n), classes, rotation=90 if max(map(len, classes)) > 3 else 0)
    axes.set_yticks(range(n), classes)
    if n <= _MOST_COUNTS:
        _write_counts(axes, counts, shares)
    tidy(axes, "", "taken for", "true class")
    figure.colorbar(image, ax=axes, label="share of the true class")
    return figure


def _check(labels: Tensor, predictions: Tensor, n_classes: int) -> None:
    if not len(labels) == len(predictions) > 0:
        raise ShapeError(f"confusion needs as many predictions as labels, got {len(predictions)} and {len(labels)}")
    both = torch.cat([labels, predictions])
    if both.min() < 0 or both.max() >= n_classes:
        raise ShapeError(f"classes has {n_classes} names, but class numbers go from {both.min()} to {both.max()}")


def _write_counts(axes: Axes, counts: Tensor, shares: Tensor) -> None:
    for row in range(len(counts)):
        for column in range(len(counts)):
            colour = "black" if shares[row, column] > 0.55 else "white"
            text = str(int(counts[row, column]))
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
