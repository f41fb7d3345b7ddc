"""The smallest systems, the slowest and fastest ones, the shortest, emptiest and longest signals."""

from typing import Any

import pytest
import torch
from torch import Tensor

from longwave.layers import MIXERS, LTIMixer

SMALLEST = {"S4D": 2, "DSS": 1, "S5": 2, "S4": 2, "RTF": 1, "LRU": 1, "LMU": 1, "LSSL": 1}  # d_state
STEPS = ("S4D", "DSS", "S5", "S4", "LSSL")  # mixers whose speed is a step of time
SLOWEST: dict[str, dict[str, Any]] = {
    **{mixer: {"dt_min": 1e-12, "dt_max": 1e-12} for mixer in STEPS},
    "LRU": {"r_min": 1 - 1e-12, "r_max": 1.0},
    "LMU": {"theta": 1e12},
}
FASTEST: dict[str, dict[str, Any]] = {
    **{mixer: {"dt_min": 1e4, "dt_max": 1e4} for mixer in STEPS},
    "LRU": {"r_min": 0.0, "r_max": 1e-6},
    "LMU": {"theta": 1.0},
}
EXTREMES = [
    pytest.param(mixer, {"d_state": states, **options}, id=f"{mixer}-{states}-{name}")
    for mixer, smallest in SMALLEST.items()
    for states in (smallest, 64)
    for name, options in (
        ("default", {}),
        ("slowest", SLOWEST.get(mixer)),
        ("fastest", FASTEST.get(mixer)),
    )
    if options is not None
]


def layer_of(mixer: str, options: dict[str, Any], dtype: torch.dtype = torch.float64) -> LTIMixer:
    torch.manual_seed(0)
    layer = MIXERS[mixer](2, **options).to(dtype)
    assert isinstance(layer, LTIMixer)
    return layer.eval()


def finite(*tensors: Tensor | None) -> bool:
    return all(bool(torch.isfinite(x).all()) for x in tensors if x is not None)


@pytest.mark.parametrize(("mixer", "options"), EXTREMES)
@pytest.mark.parametrize("time", (1, 70))
def test_views_are_finite_and_agree(mixer: str, options: dict[str, Any], time: int) -> None:
    layer, x = layer_of(mixer, options), torch.randn(1, time, 2, dtype=torch.float64)
    y, state = layer.prefill(x)
    now, steps = layer.initial_state(1), []
    for t in range(time):
        y_t, now = layer.step(x[:, t], now)
        steps.append(y_t)
    assert finite(y, state.x)
    scale = float(y.detach().abs().max())
    torch.testing.assert_close(torch.stack(steps, 1), y, rtol=0, atol=1e-10 * scale)
    torch.testing.assert_close(layer(x), y, rtol=0, atol=1e-10 * scale)


@pytest.mark.parametrize(("mixer", "options"), EXTREMES)
def test_gradients_are_finite(mixer: str, options: dict[str, Any]) -> None:
    layer, x = layer_of(mixer, options, torch.float32), torch.randn(2, 70, 2, requires_grad=True)
    layer(x).square().sum().backward()
    assert finite(x.grad, *(parameter.grad for parameter in layer.parameters()))


@pytest.mark.parametrize("mixer", SMALLEST)
def test_silence_stays_silence(mixer: str) -> None:
    layer = layer_of(mixer, {"d_state": SMALLEST[mixer], "output": None})
    y, state = layer.prefill(torch.zeros(1, 70, 2, dtype=torch.float64))
    assert y.eq(0).all()
    assert state.x.eq(0).all()


@pytest.mark.parametrize("mixer", SMALLEST)
@torch.no_grad()
def test_a_million_positions_in_chunks_stay_bounded(mixer: str) -> None:
    """Bounded by what a stable system does to a bounded signal: never more than Σ|k| of it."""
    options = {"d_state": 8, "output": None} | ({"init": "montel"} if mixer == "RTF" else {})
    layer = layer_of(mixer, options, torch.float32)
    chunk, state, largest = torch.rand(1, 15625, 2) * 2 - 1, None, 0.0
    for _ in range(64):
        y, state = layer.prefill(chunk, state)
        largest = max(largest, float(y.abs().max()))
    k = layer.kernel(15625).abs().sum(-1)
    bound = float(k.sum(-1).max() if k.ndim == 2 else k.max())
    assert state is not None
    assert finite(state.x)
    assert largest <= 1.01 * bound
