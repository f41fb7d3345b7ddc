"""What a linear time-invariant layer convolves with."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from longwave.plots._style import COLOURS, GREY, Axes, Figure, new_figure, tidy
from longwave.shapes import Float, Tensor

__all__ = ["kernels"]


def kernels(
    before: Mapping[str, Float[Tensor, "dim time"]],
    after: Mapping[str, Float[Tensor, "dim time"]],
    channels: int = 8,
    title: str = "Convolution kernels before and after training",
) -> Figure:
    """Kernels of banks of single-input systems over a logarithmic lag, from the shortest memory to the longest.

    Args:
        before: for each layer's name the kernels of its bank before training, ``layer.kernel(length)``.
        after: the same after training, under the same names.
        channels: how many channels of a bank are shown, the same before and after: evenly spread over the bank sorted
            by :func:`mean_lag` before training.
        title: the figure's title.

    Returns:
        A figure with two axes per layer. Each kernel is divided by its largest absolute value: the shapes are compared,
        not the gains. Lag 0, which holds the skip D, has no place on a logarithmic axis.
    """
    figure = new_figure(title, 6 * len(before) + 0.6, 1.0 + 0.5 * channels)
    panels = iter(figure.subplots(1, 2 * len(before), squeeze=False, sharex=True, sharey=True)[0])
    for name, bank in before.items():
        order = mean_lag(bank.detach()).argsort()
        shown = order[torch.linspace(0, len(order) - 1, min(channels, len(order))).round().long()]
        for when, kernel in (("before", bank), ("after", after[name])):
            axes = next(panels)
            _draw_bank(axes, kernel[shown].detach().cpu(), COLOURS[when == "before"])
            tidy(axes, f"{name}, {when}", "lag (positions)", "")
    figure.axes[0].set_ylabel("channel, by mean lag before training →", fontsize=9)
    return figure


def mean_lag(bank: Float[Tensor, "dim time"]) -> Float[Tensor, " dim"]:
    """The mean lag of each kernel, weighted by its squared values: Σ l K[l]² / Σ K[l]², l ≥ 1, in positions."""
    energy = bank[:, 1:].square()
    return (energy * torch.arange(1, bank.shape[1], device=bank.device)).sum(1) / energy.sum(1)


def _draw_bank(axes: Axes, bank: Float[Tensor, "dim time"], colour: str) -> None:
    lag = torch.arange(1, bank.shape[1])
    for height, kernel in enumerate(bank[:, 1:]):
        axes.axhline(height, color=GREY, linewidth=0.4)
        axes.plot(lag, height + 0.48 * kernel / kernel.abs().max(), color=colour, linewidth=1.1)
    axes.set_xscale("log")
    axes.set_yticks([])
