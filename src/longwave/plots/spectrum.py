"""Where the eigenvalues of a layer lie, and what that means: how long it remembers, how fast it oscillates."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from longwave.errors import ShapeError
from longwave.plots._style import COLOURS, GREY, Axes, Figure, panels, tidy
from longwave.shapes import Tensor

__all__ = ["eigenvalues"]

_SLOWEST = 1e-5  # a logarithmic axis has no place for the frequency zero of a real eigenvalue


def eigenvalues(
    after: Mapping[str, Tensor], *, before: Mapping[str, Tensor] | None = None, title: str = "Discrete eigenvalues"
) -> Figure:
    """Discrete eigenvalues λ̄ of one or several layers, in two views.

    The unit disk crowds slow modes at its rim, so each layer is also drawn by the memory −1 / ln|λ̄| of its modes, in
    positions, against their frequency arg(λ̄) / 2π, in cycles per position; lower frequencies are drawn at 1e-5.

    Args:
        after: for each layer's name its eigenvalues, of any shape: ``layer.to_state_space().poles()``.
        before: the same before training, under the same names, to be drawn below them; None draws one model alone.
        title: the figure's title.

    Returns:
        A figure with two axes per layer, one layer in a row, or two if there are more than two layers. Of a conjugate
        pair the eigenvalue above the real axis is drawn.

    Raises:
        ShapeError: there is no layer.
    """
    if not after:
        raise ShapeError("eigenvalues needs one layer or more, got none")
    values = [*after.values(), *(before or {}).values()]
    frequencies, memories = _decades(*map(_frequency, values)), _decades(*map(_memory, values))
    figure, places = panels(title, 2 * len(after), 2 if len(after) <= 2 else 4, 4.6, 3.2)
    for name, disk, plane in zip(after, places[::2], places[1::2], strict=True):
        if before is not None:
            _draw(disk, plane, before[name], "before", COLOURS[1])
        _draw(disk, plane, after[name], "after", COLOURS[0])
        _draw_rim(disk)
        tidy(disk, f"{name}: unit disk", "Re λ̄", "Im λ̄")
        plane.loglog()
        plane.set(xlim=frequencies, ylim=memories)
        tidy(plane, f"{name}: memory and frequency", "frequency (cycles / position)", "memory (positions)")
    if before is not None:
        points, labels = places[0].get_legend_handles_labels()
        figure.legend(points, labels, loc="outside lower center", ncols=2, fontsize=9, frameon=False, markerscale=3)
    return figure


def _draw(disk: Axes, plane: Axes, poles: Tensor, label: str, colour: str) -> None:
    upper = _upper(poles)
    size = 5 if len(upper) > 200 else 16
    look = {"s": size, "color": colour, "alpha": 0.5, "linewidths": 0, "label": label, "rasterized": True}
    disk.scatter(upper.real, upper.imag, **look)
    plane.scatter(_frequency(poles), _memory(poles), **look)


def _upper(poles: Tensor) -> Tensor:
    """The eigenvalues above the real axis and on it."""
    poles = poles.detach().flatten().to("cpu", torch.complex128)
    return poles[poles.imag >= 0]


def _frequency(poles: Tensor) -> Tensor:
    return (_upper(poles).angle() / (2 * math.pi)).clamp(min=_SLOWEST)


def _memory(poles: Tensor) -> Tensor:
    return -1 / _upper(poles).abs().clamp(1e-12, 1 - 1e-12).log()


def _decades(*values: Tensor) -> tuple[float, float]:
    """The whole decades that hold all values, so that the layers can be compared and every axis has ticks."""
    exponents = torch.cat(values).log10()
    return 10.0 ** math.floor(exponents.min()), 10.0 ** math.ceil(exponents.max() + 1e-9)


def _draw_rim(axes: Axes) -> None:
    angle = torch.linspace(0, math.pi, 181)
    axes.plot(angle.cos(), angle.sin(), color=GREY, linewidth=0.8)
    axes.set_aspect("equal")
    axes.set_xlim(-1.05, 1.05)
    axes.set_ylim(-0.03, 1.05)
