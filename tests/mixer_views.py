"""The views of a mixer, which ought to give the same numbers, and how far apart two of them are."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from longwave.layers import LTIMixer, Mixer, map_state
from mixer_cases import MIXER_CASES, WIDTH

# max|a − b| / max|b| between any two views of a layer: the claim the library makes.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
DTYPES = [pytest.param(torch.float32, id="float32"), pytest.param(torch.float64, id="float64")]
LENGTHS = (1, 2, 3, 17, 489, 1047, 16384)

every_mixer = pytest.mark.parametrize("case", MIXER_CASES, ids=lambda case: case.id)
every_mixer_with_rate = pytest.mark.parametrize("case", [c for c in MIXER_CASES if c.rate], ids=lambda case: case.id)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def inputs(length: int, dtype: torch.dtype = torch.float32, batch: int = 2) -> Tensor:
    return torch.randn(batch, length, WIDTH, dtype=dtype, generator=torch.Generator().manual_seed(length))


def deviation(a: Tensor, b: Tensor) -> float:
    """max|a − b| / max|b|."""
    return float((a.double() - b.double()).abs().max() / b.double().abs().max())


def stepped(layer: Mixer, x: Tensor, state: Any = None, rate: float = 1.0) -> tuple[Tensor, Any]:
    state = layer.initial_state(len(x)) if state is None else state
    ys = []
    for x_t in x.unbind(1):
        y_t, state = layer.step(x_t, state, rate=rate)
        ys.append(y_t)
    return torch.stack(ys, 1), state


def chunked(layer: Mixer, x: Tensor, sizes: list[int]) -> tuple[Tensor, Any]:
    state, ys = None, []
    for chunk in x.split(sizes, dim=1):
        y, state = layer.prefill(chunk, state)
        ys.append(y)
    return torch.cat(ys, 1), state


def real_parts(state: Tensor) -> Tensor:
    """A state as the dense matrices have it: a complex number is its real and imaginary part."""
    return torch.view_as_real(state).flatten(-2) if state.is_complex() else state


def deviation_of_states(state: Any, truth: Any) -> float:
    """The largest deviation of a tensor in a state from its truth, which may be real parts."""
    return max(deviation(real_parts(a), real_parts(b)) for a, b in zip(state, truth, strict=True))


def random_state(layer: Mixer, batch: int) -> Any:
    return map_state(torch.randn_like, layer.initial_state(batch))


def assert_states_close(a: Any, b: Any) -> None:
    torch.testing.assert_close(tuple(a), tuple(b))


def states_equal(a: Any, b: Any) -> list[bool]:
    """For every tensor of a state, whether both have the same."""
    return [torch.equal(x, y) for x, y in zip(a, b, strict=True)]


def true_run(layer: Mixer, x: Tensor, state: Any = None, rate: float = 1.0) -> tuple[Tensor, Any]:
    """Output and final state by the dense float64 matrices, or, where there are none, position by position."""
    if not isinstance(layer, LTIMixer):
        return stepped(layer, x, state, rate)
    system = layer.to_state_space(rate)
    start = None if state is None else real_parts(state.x)
    bank = system.A.ndim == 3
    y, final = system.simulate(x.mT[..., None] if bank else x, start)
    y = y[..., 0].mT if bank else y
    return copy.deepcopy(layer.readout).double()(y), (final,)


def convolved(layer: LTIMixer, x: Tensor) -> Tensor:
    """Output by the impulse response, convolved by FFT in float64."""
    n = 2 * x.shape[1]
    k = torch.fft.rfft(layer.kernel(x.shape[1]).double(), n)
    u = torch.fft.rfft(x.mT.double(), n)
    y = k * u if k.ndim == 2 else torch.einsum("oif,bif->bof", k, u)
    return copy.deepcopy(layer.readout).double()(torch.fft.irfft(y, n)[..., : x.shape[1]].mT)
