"""Where the eigenvalues of a layer lie, and what that means: how long it remembers, how fast it oscillates."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from longwave.plots._style import COLOURS, GREY, Axes, Figure, new_figure, tidy
from longwave.shapes import Tensor

__all__ = ["eigenvalues"]

_SLOWEST = 1e-5  # a logarithmic axis has no place for the frequency zero of a real eigenvalue


def eigenvalues(
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    title: str = "Discrete eigenvalues before and after training",
) -> Figure:
    """Discrete eigenvalues λ̄ of one or several layers before and after training, in two views.

    The unit disk crowds slow modes at its rim, so each layer is also drawn by the memory −1 / ln|λ̄| of its modes, in
    positions, against their frequency arg(λ̄) / 2π, in cycles per position; lower frequencies are drawn at 1e-5.

    Args:
        before: for each layer's name its eigenvalues before training, of any shape: ``layer.to_state_space().poles()``.
        after: the same after training, under the same names.
        title: the figure's title.

    Returns:
        A figure with one row of two axes per layer. Of a conjugate pair the one above the real axis is drawn.
    """
    figure = new_figure(title, 9.5, 0.7 + 3.2 * len(before))
    rows = figure.subplots(len(before), 2, squeeze=False)
    for (disk, plane), name in zip(rows, before, strict=True):
        for poles, label, colour in ((before[name], "before", COLOURS[1]), (after[name], "after", COLOURS[0])):
            poles = poles.detach().flatten().to("cpu", torch.complex128)
            _scatter(disk, poles.real, poles.imag, poles, label, colour)
            memory = -1 / poles.abs().clamp(1e-12, 1 - 1e-12).log()
            frequency = poles.angle() / (2 * math.pi)
            _scatter(plane, frequency.clamp(min=_SLOWEST), memory, poles, label, colour)
        _draw_rim(disk)
        tidy(disk, f"{name}: unit disk", "Re λ̄", "Im λ̄")
        plane.loglog()
        tidy(plane, f"{name}: memory and frequency", "frequency (cycles / position)", "memory (positions)")
    points, labels = rows[0][0].get_legend_handles_labels()
    figure.legend(points, labels, loc="outside lower center", ncols=2, fontsize=9, frameon=False, markerscale=3)
    return figure


def _scatter(axes: Axes, x: Tensor, y: Tensor, poles: Tensor, label: str, colour: str) -> None:
    upper = poles.imag >= 0
    axes.scatter(x[upper], y[upper], s=5, color=colour, alpha=0.5, linewidths=0, label=label, rasterized=True)


def _draw_rim(axes: Axes) -> None:
    angle = torch.linspace(0, math.pi, 181)
    axes.plot(angle.cos(), angle.sin(), color=GREY, linewidth=0.8)
    axes.set_aspect("equal")
    axes.set_xlim(-1.05, 1.05)
    axes.set_ylim(-0.03, 1.05)
