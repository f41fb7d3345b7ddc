"""What a linear time-invariant layer convolves with."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from longwave.errors import ShapeError
from longwave.plots._style import COLOURS, GREY, Axes, Figure, panels, tidy
from longwave.shapes import Float, Int, Tensor

__all__ = ["kernels"]

_Kernels = Mapping[str, Float[Tensor, "*channels time"]]


def kernels(
    after: _Kernels, *, before: _Kernels | None = None, channels: int = 8, title: str = "Convolution kernels"
) -> Figure:
    """Kernels of one or several layers over a logarithmic lag, from the shortest memory to the longest.

    Args:
        after: for each layer's name its kernels, ``layer.kernel(length)``: (d_model, length) of a bank of single-input
            systems, (out, in, length) of a multi-input one, whose pairs of an output and an input are shown like the
            channels of a bank.
        before: the same before training, under the same names, to be drawn beside them; None draws one model alone.
        channels: how many channels of a layer are shown: evenly spread over its channels sorted by ``mean_lag``,
            before training if that is given, and the same ones before and after.
        title: the figure's title.

    Returns:
        A figure with one axes per layer, or two. Each kernel is divided by its largest absolute value: the shapes are
        compared, not the gains. Lag 0, which holds the skip D, has no place on a logarithmic axis.

    Raises:
        ShapeError: there is no layer, or a kernel is shorter than three positions.

    Example:
        >>> figure = kernels({"slow": torch.rand(16, 100), "fast": torch.rand(16, 100)})
        >>> len(figure.axes)
        2
    """
    times = {"after": after} if before is None else {"before": before, "after": after}
    _check(*times.values())
    figure, places = panels(title, len(after) * len(times), 4, 3.6, 0.8 + 0.4 * channels)
    remaining = iter(places)
    for name in after:
        shown = _spread((after if before is None else before)[name], channels)
        for when, layers in times.items():
            axes = next(remaining)
            kernel = layers[name].detach().flatten(0, -2)[shown].cpu()
            _draw(axes, kernel, _labels(layers[name], shown), COLOURS[when == "before"])
            tidy(axes, name if before is None else f"{name}, {when}", "lag (positions)", "")
    figure.supylabel("channel, from short to long memory →", fontsize=9)
    return figure


def mean_lag(bank: Float[Tensor, "dim time"]) -> Float[Tensor, " dim"]:
    """The mean lag of each kernel, weighted by its squared values: Σ l K[l]² / Σ K[l]², l ≥ 1, in positions."""
    energy = bank[:, 1:].square()
    lag = torch.arange(1, bank.shape[1], device=bank.device)
    return (energy * lag).sum(1) / energy.sum(1).clamp(min=torch.finfo(bank.dtype).tiny)


def _check(*times: _Kernels) -> None:
    lengths = [kernel.shape[-1] for layers in times for kernel in layers.values()]
    if not lengths or min(lengths) < 3:
        raise ShapeError(f"kernels needs one layer or more, with kernels of three positions or more, got {lengths}")


def _spread(kernel: Float[Tensor, "*channels time"], count: int) -> Int[Tensor, " shown"]:
    """Numbers of channels, from short to long memory, evenly spread over all of them."""
    order = mean_lag(kernel.detach().flatten(0, -2)).argsort()
    return order[torch.linspace(0, len(order) - 1, min(count, len(order))).round().long()]


def _labels(kernel: Float[Tensor, "*channels time"], shown: Int[Tensor, " shown"]) -> list[str]:
    """What the channels are called: their number, or output ← input."""
    if kernel.ndim == 2:
        return [str(channel) for channel in shown.tolist()]
    return [f"{pair // kernel.shape[1]} ← {pair % kernel.shape[1]}" for pair in shown.tolist()]


def _draw(axes: Axes, bank: Float[Tensor, "dim time"], labels: list[str], colour: str) -> None:
    lag = torch.arange(1, bank.shape[1])
    for height, kernel in enumerate(bank[:, 1:]):
        axes.axhline(height, color=GREY, linewidth=0.4)
        peak = kernel.abs().max().clamp(min=torch.finfo(kernel.dtype).tiny)
        axes.plot(lag, height + 0.48 * kernel / peak, color=colour, linewidth=1.1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(bank)), labels)
    axes.set_ylim(-0.6, len(bank) - 0.4)
