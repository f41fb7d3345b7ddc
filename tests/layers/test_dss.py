"""DSS: its two kernels against their formulas in NumPy and SciPy, the length that softmax belongs to, growing modes."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import signal, special

from longwave.errors import ConfigError, UnsupportedError
from longwave.layers import DSS
from longwave.math import legs_nplr


def numbers(layer: DSS) -> tuple[Any, Any, Any, Any]:
    """dt, Λ, w, D in float64, straight from the parameters."""
    parameters = {name: p.detach().double().numpy() for name, p in layer.named_parameters()}
    real = parameters["Lambda_real"] if layer.l_max else -np.exp(parameters["log_neg_Lambda_real"])
    w = parameters["C"][..., 0] + 1j * parameters["C"][..., 1]
    return np.exp(parameters["log_dt"]), real + 1j * parameters["Lambda_imag"], w, parameters["D"]


def row_softmax(layer: DSS, length: int) -> np.ndarray:
    """k = Re(w Λ⁻¹ softmax(P)) + D δ, P[n, l] = dt Λ_n l, the largest exponent subtracted."""
    dt, Lambda, w, D = numbers(layer)
    P = dt[:, None, None] * Lambda[:, None] * np.arange(length)
    P = np.exp(P - P.real.max(-1, keepdims=True))
    k = ((w / Lambda)[..., None] * P / P.sum(-1, keepdims=True)).sum(1).real
    k[:, 0] += D
    return k


@pytest.mark.parametrize("version", ["exp", "softmax"])
def test_begins_as_the_paper_says(version: str) -> None:
    torch.manual_seed(0)
    dt, Lambda, w, _ = numbers(DSS(500, 16, version=version, l_max=100 if version == "softmax" else None))
    # Of the 32 eigenvalues of the skew HiPPO matrix those with a positive imaginary part, the same for all channels.
    np.testing.assert_allclose(Lambda, legs_nplr(32).Lambda.numpy(), rtol=1e-6)
    # 8,000 draws of each part: the standard error of a mean of squares is 0.016.
    assert abs(np.square(w.real).mean() - 1) < 0.07
    assert abs(np.square(w.imag).mean() - 1) < 0.07
    assert 1e-3 <= dt.min() < 1.1e-3
    assert 0.9e-1 < dt.max() <= 1e-1


@torch.no_grad()
def test_exp_is_scipys_zero_order_hold() -> None:
    torch.manual_seed(0)
    layer = DSS(3, 4).double()
    dt, Lambda, w, D = numbers(layer)
    for h in range(3):
        A, B, *_ = signal.cont2discrete(
            (np.diag(Lambda), np.ones((4, 1)), w[h][None], [[0]]), dt[h].item(), method="zoh"
        )
        k = np.array([(w[h] @ np.linalg.matrix_power(A, l) @ B)[0].real for l in range(50)])
        k[0] += D[h]
        np.testing.assert_allclose(layer.kernel(50)[h], k, rtol=0, atol=1e-12 * np.abs(k).max())


@torch.no_grad()
@pytest.mark.parametrize("growth", [-0.5, -1e-9, 1e-9, 0.3, 5.0])
def test_softmax_is_the_row_softmax_over_its_length(growth: float) -> None:
    torch.manual_seed(0)
    layer = DSS(3, 5, version="softmax", l_max=200).double()
    layer.Lambda_real.fill_(growth)
    k = row_softmax(layer, 200)
    x = torch.randn(1, 200, 3, dtype=torch.float64)
    y = np.stack([np.convolve(x[0, :, h], k[h])[:200] for h in range(3)], -1)
    np.testing.assert_allclose(layer.kernel(200), k, rtol=0, atol=1e-10 * np.abs(k).max())
    whole = layer._scan(layer.system(), x, None, None, None)[0]
    np.testing.assert_allclose(whole[0], y, rtol=0, atol=1e-10 * np.abs(y).max())


@torch.no_grad()
def test_softmax_without_oscillation_is_that_of_scipy() -> None:
    layer = DSS(1, 1, version="softmax", l_max=30).double()
    layer.Lambda_imag.zero_()
    layer.D.zero_()
    layer.C.copy_(torch.tensor([[[-0.5, 0.0]]]))
    layer.Lambda_real.fill_(-0.5)
    dt = layer.log_dt.exp().item()
    np.testing.assert_allclose(layer.kernel(30)[0], special.softmax(-0.5 * dt * np.arange(30)), rtol=1e-12)


@torch.no_grad()
def test_a_softmax_longer_than_its_length_goes_on_as_the_same_exponentials() -> None:
    torch.manual_seed(0)
    layer = DSS(3, 1, version="softmax", l_max=20).double()
    layer.D.zero_()
    dt, Lambda, w, _ = numbers(layer)
    z = dt * Lambda[0]
    first = w[:, 0] / Lambda[0] / np.exp(z[:, None] * np.arange(20)).sum(-1)
    k = (first[:, None] * np.exp(z[:, None] * np.arange(60))).real
    np.testing.assert_allclose(layer.kernel(60), k, rtol=0, atol=1e-11 * np.abs(k).max())


@torch.no_grad()
@pytest.mark.parametrize("version", ["exp", "softmax"])
def test_rate_two_is_every_other_sample_of_a_held_input(version: str) -> None:
    torch.manual_seed(0)
    layer = DSS(4, 3, version=version, l_max=50 if version == "softmax" else None).double()
    x = torch.randn(2, 25, 4, dtype=torch.float64)
    torch.testing.assert_close(layer(x, rate=2.0), layer(x.repeat_interleave(2, dim=1))[:, 1::2])


@torch.no_grad()
def test_modes_that_grow_are_finite_within_the_length_and_refused_beyond_it() -> None:
    torch.manual_seed(0)
    layer, x = DSS(2, 4, version="softmax", l_max=100), torch.randn(1, 101, 2)
    layer.Lambda_real[1:3] = 2.0
    state = layer.initial_state(1)
    assert layer(x[:, :100]).isfinite().all()
    assert layer(x[:, :50], rate=2.0).isfinite().all()
    refused = {
        "forward": lambda: layer(x),
        "kernel": lambda: layer.kernel(101),
        "prefill": lambda: layer.prefill(x[:, :5]),
        "step": lambda: layer.step(x[:, 0], state),
    }
    for method, call in refused.items():
        with pytest.raises(UnsupportedError, match=f"{method}: 2 of 4 modes have Re Λ > 0.*l_max=100"):
            call()
    with pytest.raises(UnsupportedError, match="forward"):
        layer(x[:, :51], rate=2.0)
    layer.Lambda_real.clamp_(max=0.0)
    assert layer.prefill(x)[0].isfinite().all()


@pytest.mark.parametrize("l_max", [1, 7, 1000])
@pytest.mark.parametrize("growth", [-1e5, -0.01, 0.01, 44.0])
def test_extreme_real_parts_stay_finite(growth: float, l_max: int) -> None:
    """Growth is that over l_max positions; e^44 is as much as float32 bears."""
    torch.manual_seed(0)
    layer = DSS(2, 4, version="softmax", l_max=l_max, dt_min=1.0, dt_max=1.0)
    with torch.no_grad():
        layer.Lambda_real.fill_(growth / l_max)
    y = layer(torch.randn(1, l_max, 2))
    y.square().sum().backward()
    assert y.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


def test_growth_beyond_the_range_of_the_dtype_is_refused() -> None:
    layer = DSS(2, 4, version="softmax", l_max=100, dt_min=1.0, dt_max=1.0)
    with torch.no_grad():
        layer.Lambda_real[2] = 0.5
    with pytest.raises(
        UnsupportedError, match=r"grows by e\^50 over l_max positions, and .* in torch.float32 bears e\^44"
    ):
        layer(torch.zeros(1, 3, 2))
    assert layer.double()(torch.randn(1, 100, 2, dtype=torch.float64)).isfinite().all()


def test_a_pole_of_the_softmax_is_named() -> None:
    layer = DSS(2, 4, version="softmax", l_max=10)
    with torch.no_grad():
        layer.Lambda_real[0] = layer.Lambda_imag[0] = 0.0
    with pytest.raises(UnsupportedError, match="divides by zero"):
        layer(torch.zeros(1, 3, 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"version": "sofmax"}, "unknown version 'sofmax' .did you mean 'softmax'"),
        ({"version": "softmax"}, "give l_max"),
        ({"version": "softmax", "l_max": 0}, "l_max=0"),
        ({"l_max": 100}, 'l_max=100 belongs to version="softmax"'),
        ({"init": "legz"}, "unknown init 'legz'"),
        ({"dt_min": math.inf}, "low"),
    ],
)
def test_impossible_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DSS(4, **options)
