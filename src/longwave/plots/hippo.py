"""What HiPPO memories keep of a signal: its past as each measure weighs it, and as the coefficients give it back."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from longwave.errors import ConfigError, DataError, ShapeError
from longwave.layers import HiPPO
from longwave.layers.checks import check_positive
from longwave.layers.options import choose
from longwave.math import BASES
from longwave.plots._style import COLOURS, GREY, Axes, Figure, MaxNLocator, new_figure, tidy
from longwave.shapes import Float, Tensor

__all__ = ["chirp", "hippo"]

# measure -> what it is called, and what it remembers, with θ in words
_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "legs": "LegS\nall of the past",
        "legt": "LegT\nthe last {theta}",
        "lagt": "LagT\nfading over {theta}",
        "fourier": "Fourier\nthe last {theta}",
    }
)
_SHOWN = 3  # moments at which a memory is drawn
_STOPS = 16 * _SHOWN  # moments at which its error is measured


class _Moment(NamedTuple):
    """What a memory holds at a time: coefficients of the signal so far, and how far they are from it."""

    now: float
    coefficients: Float[Tensor, " state"]
    error: float


def hippo(
    u: Float[Tensor, " time"],
    *,
    measures: Sequence[str] = tuple(_NAMES),
    order: int = 32,
    theta: float | None = None,
    dt: float = 1.0,
    unit: str = "samples",
    title: str = "What HiPPO remembers of a signal",
) -> Figure:
    """A signal, what the memory of each measure holds of it as time goes on, and how each measure weighs the past.

    The reconstruction at time t is û = Σ c_n φ_n, with the coefficients that `longwave.layers.HiPPO` has by then. The
    measure is φ₀² per unit of time: the weight under which the polynomials in the φ_n are orthonormal.

    Args:
        u: samples of the signal, three or more.
        measures: names of `longwave.math.MEASURES`, a row each.
        order: N, the number of coefficients; Fourier wants an even one.
        theta: θ, the window of LegT and Fourier and the time constant of LagT, in ``unit``; None is a quarter of the
            signal.
        dt: time between samples, in ``unit``.
        unit: what time is counted in, for the labels.
        title: the figure's title.

    Returns:
        A figure with a row for each measure: signal and reconstruction, above the measure, after each third of the
        signal; and the error over time. The error is the root mean square of u − û over all of the past, or the part
        of it within the window, in the unit of u.

    Raises:
        ShapeError: u has fewer than three samples, or several axes.
        DataError: u has values that are NaN or infinite.
        ConfigError: a measure is unknown, or there is none; order, theta or dt is out of its range.

    Example:
        >>> figure = hippo(chirp(), measures=["legs"], order=16, dt=0.01, unit="s")
        >>> figure.axes[0].get_title()
        't = 3.33 s, error 0.0011'
    """
    _check(u, measures, order)
    u = u.detach().double().cpu()
    theta = len(u) * dt / 4 if theta is None else theta
    rows = {measure: HiPPO(order, measure, theta=theta, dt=dt) for measure in measures}
    figure = new_figure(title, 13.0, 1.3 + 2.0 * len(rows))
    places: list[Any] = [
        [*(f"{row} {part} {k}" for k in range(_SHOWN)), f"{row} error"] for row in rows for part in "um"
    ]
    axes = figure.subplot_mosaic(places, sharex=True, height_ratios=(3, 1) * len(rows), width_ratios=(4, 4, 4, 3))
    for (row, memory), colour in zip(rows.items(), itertools.cycle(COLOURS)):
        history = _history(memory, u)
        for k, count in enumerate(_counts(len(u), _SHOWN)):
            above, below, moment = axes[f"{row} u {k}"], axes[f"{row} m {k}"], history[count]
            _draw_memory(above, memory, u, moment, colour)
            _draw_measure(below, memory, moment.now, colour)
            name = _NAMES[row].format(theta=f"{theta:.3g} {unit}")
            tidy(above, f"t = {moment.now:.3g} {unit}, error {moment.error:.2g}", "", "" if k else name)
            tidy(below, "", "", "" if k else f"measure\n(1/{unit})")
        _draw_errors(axes[f"{row} error"], history, colour)
    _finish(figure, axes, len(u) * dt, unit)
    return figure


def chirp(seconds: float = 10.0, rate: float = 100.0) -> Float[Tensor, " time"]:
    """A signal to look at: a tone that rises from 0.2 Hz by 0.3 Hz each second, on a swell of 0.1 Hz.

    u(t) = sin 2π(0.2 t + 0.15 t²) + ½ sin 2π 0.1 t.

    Args:
        seconds: its duration.
        rate: samples per second, each taken at the middle of its interval.

    Example:
        >>> len(chirp())
        1000
    """
    t = (torch.arange(round(seconds * rate), dtype=torch.float64) + 0.5) / rate
    return (2 * math.pi * (0.2 * t + 0.15 * t * t)).sin() + (0.2 * math.pi * t).sin() / 2


def _check(u: Tensor, measures: Sequence[str], order: int) -> None:
    if u.ndim != 1 or len(u) < _SHOWN:
        raise ShapeError(f"u must be one signal (time,) of {_SHOWN} samples or more, got shape {tuple(u.shape)}")
    if not bool(u.isfinite().all()):
        first = int((~u.isfinite()).nonzero()[0])
        raise DataError(f"u is {u[first].item()} at sample {first}: fill in what is missing, or cut it away")
    check_positive("order", order)
    if not measures:
        raise ConfigError(f"measures is empty: give one or more of {', '.join(_NAMES)}")
    for measure in measures:
        choose("measure", measure, _NAMES)


def _counts(length: int, parts: int) -> list[int]:
    """How many samples have been read after each of some equal parts of a signal."""
    return [length * part // parts for part in range(1, parts + 1)]


def _history(memory: HiPPO, u: Float[Tensor, " time"]) -> dict[int, _Moment]:
    """The memory of a signal and its error, by the number of samples read."""
    state, read, history = None, 0, {}
    for count in sorted({*_counts(len(u), _STOPS)} - {0}):
        _, state = memory.prefill(u[None, read:count], state)
        error = memory.approximation_error(u[None, :count], state.coefficients).item()
        history[count] = _Moment(count * memory.dt, state.coefficients[0], error)
        read = count
    return history


def _draw_memory(axes: Axes, memory: HiPPO, u: Float[Tensor, " time"], moment: _Moment, colour: str) -> None:
    """The signal, paler where it is still to come, and its reconstruction over the past that the measure reaches."""
    # A sample holds for a step: it is drawn at the middle of it.
    middles = memory.dt * (torch.arange(len(u)) + 0.5)
    heard = middles < moment.now
    axes.plot(middles, u, color=GREY, linewidth=0.7, alpha=0.4)
    axes.plot(middles[heard], u[heard], color=GREY, linewidth=0.9, label="signal, pale before it is read")
    past = _past(memory, moment.now)
    values = memory.reconstruct(moment.coefficients, past, now=moment.now)
    axes.plot(past, values, color=colour, linewidth=1.3, label=f"its reconstruction from {memory.N} coefficients")
    # Polynomials may shoot far out at the ends of their window: the signal sets the scale.
    low, high = u.min().item(), u.max().item()
    margin = (high - low) / 4 or 1.0
    axes.set_ylim(low - margin, high + margin)


def _draw_measure(axes: Axes, memory: HiPPO, now: float, colour: str) -> None:
    """φ₀² per unit of time."""
    past = _past(memory, now)
    scale = now if memory.measure == "legs" else memory.theta
    place = past / now if memory.measure == "legs" else (now - past) / scale
    weight = BASES[memory.measure](2, place)[:, 0].square() / scale
    axes.fill_between(past, weight, color=colour, alpha=0.35, linewidth=0, label="its measure, the weight of the past")


def _past(memory: HiPPO, now: float) -> Float[Tensor, " points"]:
    """Times that a measure reaches, close enough for the fastest of its functions."""
    begin = max(0.0, now - memory.theta) if memory.measure in ("legt", "fourier") else 0.0
    return torch.linspace(begin, now, 200 + 10 * memory.N, dtype=torch.float64)


def _draw_errors(axes: Axes, history: Mapping[int, _Moment], colour: str) -> None:
    """The error over time, with a dot at each moment that is drawn."""
    moments = list(history.values())
    shown = [history[count] for count in _counts(max(history), _SHOWN)]
    axes.plot([moment.now for moment in moments], [moment.error for moment in moments], color=colour, linewidth=1.1)
    axes.plot([moment.now for moment in shown], [moment.error for moment in shown], ".", color=colour)
    tidy(axes, "error over time", "", "")


def _finish(figure: Figure, axes: Mapping[str, Axes], end: float, unit: str) -> None:
    """One scale for what is compared, times below the last row, and what the lines mean."""
    for part in (" m ", " error"):
        same = [place for name, place in axes.items() if part in name]
        top = max(place.get_ylim()[1] for place in same)
        for place in same:
            place.set_ylim(0, top)
    for name, place in axes.items():
        place.set_xlim(0, end)
        place.xaxis.set_major_locator(MaxNLocator(5))  # five times fit below the narrowest
        place.tick_params(labelleft=name.endswith((" 0", " error")))
    for place in list(axes.values())[-_SHOWN - 1 :]:
        place.set_xlabel(f"time ({unit})", fontsize=9)
    drawn = [place.get_legend_handles_labels() for name, place in axes.items() if name.endswith(" 0")][:2]
    lines, labels = [line for each, _ in drawn for line in each], [label for _, each in drawn for label in each]
    figure.legend(lines, labels, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
