"""RetNet: what its paper writes, as a loop in float64, far from the beginning, and with slow heads."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from longwave.errors import ConfigError, UnsupportedError
from longwave.layers import RetNet, RetNetState
from mixer_views import TOLERANCE, deviation, every_dtype, inputs, stepped


def retention(layer: RetNet, x: Tensor, first: int = 0) -> Tensor:
    """The paper's parallel form of one sequence (time, d_model), in complex float64, from position `first`."""
    x, (heads, width) = x.double(), (layer.heads, layer.key_dim)
    time, pairs = len(x), width // 2
    weights = {name: getattr(layer, name).weight.double() for name in ("query", "key", "value", "gate", "output")}

    def split(name: str) -> Tensor:
        return (x @ weights[name].T).unflatten(-1, (heads, -1)).transpose(0, 1)

    n = torch.arange(first, first + time, dtype=torch.float64)
    theta = torch.tensor([10000 ** (-j / max(1, pairs - 1)) for j in range(pairs)], dtype=torch.float64)
    turn = torch.exp(1j * n[:, None] * theta)
    q, k = (torch.view_as_complex(split(name).unflatten(-1, (-1, 2)).contiguous()) * turn for name in ("query", "key"))
    outputs = []
    for h in range(heads):
        gamma = 1 - 2.0 ** (-5 - h)
        decay = torch.tril(gamma ** (n[:, None] - n).clamp(min=0))
        scores = (q[h] @ k[h].conj().T).real / math.sqrt(width) * decay
        outputs.append(F.layer_norm(scores @ split("value")[h], (layer.value_dim,)))
    return (F.silu(x @ weights["gate"].T) * torch.cat(outputs, -1)) @ weights["output"].T


def build(heads: int = 4, d_model: int = 16, dtype: torch.dtype = torch.float64, **options: int) -> RetNet:
    torch.manual_seed(0)
    layer = RetNet(d_model, heads, **options)
    for linear in (layer.query, layer.key, layer.value):
        torch.nn.init.normal_(linear.weight)  # the norm's ε plays no part
    return layer.to(dtype)


@every_dtype
@torch.no_grad()
@pytest.mark.parametrize(("heads", "value_factor"), [(1, 1), (2, 3), (8, 2)])
@pytest.mark.parametrize("time", [1, 128, 129, 300])
def test_equals_the_papers_parallel_form(heads: int, value_factor: int, time: int, dtype: torch.dtype) -> None:
    layer, x = build(heads, dtype=dtype, value_factor=value_factor), torch.randn(2, time, 16, dtype=dtype)
    want = torch.stack([retention(layer, row) for row in x])
    bound = {torch.float32: 1e-4, torch.float64: 1e-10}[
        dtype
    ]  # the norm of a head divides by what its scores cancel to
    assert deviation(layer(x), want) <= bound


@torch.no_grad()
def test_positions_are_relative_however_far_they_are() -> None:
    """The absolute angles of the paper, begun at position 10⁶, give the same, to the rounding of such angles."""
    layer, x = build(), torch.randn(1, 200, 16, dtype=torch.float64)
    assert deviation(layer(x)[0], retention(layer, x[0], first=10**6)) <= 1e6 * 1e-14


@every_dtype
@torch.no_grad()
@pytest.mark.usefixtures("unchecked")
def test_slow_heads_do_not_drift(dtype: torch.dtype) -> None:
    """γ = 1 − 2⁻²⁰ in the last of 16 heads: in 1,500 positions it forgets nothing, and every view has its angles."""
    layer = build(16, 32, dtype)
    x = torch.randn(1, 1500, 32, dtype=dtype)
    y, state = layer.prefill(x)
    exact, truth = build(16, 32).prefill(x.double())
    by_step, last = stepped(layer, x)
    assert deviation(state.S, truth.S) <= TOLERANCE[dtype]
    assert deviation(last.S, truth.S) <= TOLERANCE[dtype]
    assert deviation(by_step, y) <= {torch.float32: 1e-4, torch.float64: 1e-10}[dtype]
    assert deviation(y, exact) <= {torch.float32: 1e-4, torch.float64: 1e-10}[dtype]


@torch.no_grad()
def test_the_state_is_the_sum_that_it_stands_for() -> None:
    """S = Σ γⁿ⁻ᵐ R^(m−n) k[m] v[m]ᵀ, pair by pair."""
    layer, x = build(2), torch.randn(1, 150, 16, dtype=torch.float64)
    _, (S,) = layer.prefill(x)
    k = (x[0] @ layer.key.weight.T / math.sqrt(8)).view(150, 2, 4, 2)
    v = (x[0] @ layer.value.weight.T).view(150, 2, 16)
    age = torch.arange(149.0, -1, -1, dtype=torch.float64)
    for h in range(2):
        for j in range(4):
            turned = torch.view_as_complex(k[:, h, j].contiguous()) * torch.exp(-1j * age * 10000 ** (-j / 3))
            want = ((1 - 2.0 ** (-5 - h)) ** age * turned) @ v[:, h].to(torch.complex128)
            torch.testing.assert_close(torch.view_as_complex(S[0, h, 2 * j : 2 * j + 2].T.contiguous()), want)


def test_heads_by_width() -> None:
    assert [RetNet(d).heads for d in (8, 256, 768)] == [1, 1, 3]
    assert RetNet(16, 2).initial_state(3).S.shape == (3, 2, 8, 16)


@pytest.mark.usefixtures("unchecked")
def test_mistakes_are_named() -> None:
    layer = RetNet(4)
    with pytest.raises(UnsupportedError, match=r"rate=0.5: retention decays and turns with positions"):
        layer(inputs(5), rate=0.5)
    with pytest.raises(UnsupportedError, match="rate=2"):
        layer.step(inputs(5)[:, 0], layer.initial_state(2), rate=2.0)
    with pytest.raises(ConfigError, match="heads=4 must leave keys of even width: d_model=4 is no multiple of 8"):
        RetNet(4, 4)
    with pytest.raises(ConfigError, match="value_factor=0"):
        RetNet(4, value_factor=0)
    with pytest.raises(ValueError, match="state must have shape"):
        layer.prefill(inputs(5), RetNetState(torch.zeros(2, 1, 4, 4)))
