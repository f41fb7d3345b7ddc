"""Single sequences and what a classifier makes of them while it reads."""

from __future__ import annotations

from longwave.errors import ShapeError
from longwave.plots._style import COLOURS, Axes, Figure, new_figure, tidy
from longwave.shapes import Float, Int, Tensor

__all__ = ["examples"]


def examples(
    images: Float[Tensor, "samples rows columns"],
    labels: Int[Tensor, " samples"],
    probabilities: Float[Tensor, "samples time n_classes"],
    title: str = "Test images, read pixel by pixel",
) -> Figure:
    """Images that were read as sequences, and below each the probability of every class as the reading goes on.

    Args:
        images: the images, any grey scale, dark to light.
        labels: their true classes.
        probabilities: the classifier's probabilities after each position.
        title: the figure's title.

    Returns:
        A figure with two axes per image, above the image with the true class and the prediction, below the
        probabilities; wrong predictions are marked by colour and by the word.

    Raises:
        ShapeError: the three do not have one row per image.
    """
    if not len(images) == len(labels) == len(probabilities) > 0:
        counts = f"{len(images)} images, {len(labels)} labels, {len(probabilities)} probabilities"
        raise ShapeError(f"images, labels and probabilities need one row each per image, got {counts}")
    figure = new_figure(title, 1.7 * len(images) + 0.8, 4.2)
    above, below = figure.subplots(2, len(images), squeeze=False, height_ratios=(1, 1.15))
    for top, bottom, image, label, history in zip(above, below, images, labels, probabilities, strict=True):
        _draw_image(top, image, int(label), int(history[-1].argmax()))
        _draw_history(bottom, history)
    for bottom in below[1:]:
        bottom.set_yticks([])
    below[0].set_ylabel("class", fontsize=9)
    figure.colorbar(below[-1].images[0], ax=list(below), label="probability", pad=0.01)
    return figure


def _draw_image(axes: Axes, image: Float[Tensor, "rows columns"], label: int, prediction: int) -> None:
    axes.imshow(image.cpu().numpy(), cmap="gray")
    axes.set_axis_off()
    right = label == prediction
    title = f"{label}, read as {prediction}" + ("" if right else " (wrong)")
    axes.set_title(title, fontsize=9, color="black" if right else COLOURS[1])


def _draw_history(axes: Axes, history: Float[Tensor, "time n_classes"]) -> None:
    """The probability of each class, upwards, as the reading goes on, to the right."""
    shown = history.T.cpu().numpy()
    axes.imshow(shown, vmin=0, vmax=1, cmap="cividis", aspect="auto", origin="lower", interpolation="nearest")
    axes.set_yticks(range(history.shape[1]))
    tidy(axes, "", "pixels read", "")
