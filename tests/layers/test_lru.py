"""LRU: where its eigenvalues begin, what γ does, its kernel and its rate."""

import math

import pytest
import torch
from torch import Tensor

from longwave.errors import ConfigError
from longwave.layers import LRU


def eigenvalues(layer: LRU) -> Tensor:
    return torch.exp(torch.complex(-layer.nu_log.double().exp(), layer.theta_log.double().exp()))


@torch.no_grad()
def test_begins_in_its_ring() -> None:
    torch.manual_seed(0)
    layer = LRU(16, 2000, r_min=0.5, r_max=0.9, max_phase=1.0)
    lam = eigenvalues(layer)
    assert 0.5 <= lam.abs().min() < lam.abs().max() <= 0.9
    assert 0 <= lam.angle().min() < lam.angle().max() <= 1.0
    # |λ|² uniform on [0.25, 0.81], arg λ on [0, 1]: means within four standard errors.
    assert abs(lam.abs().square().mean() - 0.53) < 4 * 0.56 / math.sqrt(12 * 2000)
    assert abs(lam.angle().mean() - 0.5) < 4 / math.sqrt(12 * 2000)
    gamma = layer.gamma_log.double().exp()
    torch.testing.assert_close(
        gamma.square() + lam.abs().square(), torch.ones(2000, dtype=torch.float64), rtol=0, atol=1e-6
    )


@torch.no_grad()
def test_gamma_is_exact_near_the_unit_circle() -> None:
    layer = LRU(4, 50, r_min=1 - 1e-7, r_max=1 - 1e-8)
    nu = layer.nu_log.double().exp()
    gamma = layer.gamma_log.double().exp()
    # γ² = 1 − e^{−2ν} = 2ν up to ν², where ν ~ 1e-7; nu_log, about −17, is rounded to 1e-6 of itself in float32.
    torch.testing.assert_close(gamma.square(), 2 * nu, rtol=1e-5, atol=0)


@torch.no_grad()
def test_white_noise_has_the_same_variance_in_every_mode() -> None:
    """E|h|² = γ² |B|² / (1 − |λ|²) = |B|², of expectation 1: the variance of h does not depend on λ."""
    torch.manual_seed(0)
    layer = LRU(64, 400, r_min=0.0, r_max=0.99)
    A, B, *_ = layer.system()
    variance = B.abs().square().sum(1) / (1 - A.abs().square())
    # |B_n|² is a mean of 64 terms of variance 1.
    assert abs(variance.mean() - 1) < 4 / math.sqrt(64 * 400)
    assert variance.std() < 2 / math.sqrt(64)


@torch.no_grad()
def test_kernel_has_no_factor_two() -> None:
    torch.manual_seed(0)
    layer = LRU(3, 5).double()
    lam = eigenvalues(layer)
    gamma, (B, C) = layer.gamma_log.exp(), (torch.view_as_complex(pair) for pair in (layer.B, layer.C))
    expected = torch.stack([(C @ torch.diag(lam**l * gamma) @ B).real for l in range(20)], -1)
    expected[..., 0] += torch.diag(layer.D)
    torch.testing.assert_close(layer.kernel(20), expected)


@torch.no_grad()
def test_rate_raises_the_eigenvalues_to_its_power() -> None:
    layer = LRU(3, 5).double()
    modulus, phase = (-2.5 * layer.nu_log.exp()).exp(), 2.5 * layer.theta_log.exp()
    torch.testing.assert_close(layer.system(2.5).A, torch.polar(modulus, phase))
    torch.testing.assert_close(layer.kernel(10, rate=2.0), layer.kernel(20)[..., ::2])


@torch.no_grad()
def test_is_stable_whatever_the_parameters() -> None:
    layer = LRU(2, 100)
    for parameter in (layer.nu_log, layer.theta_log):
        parameter.uniform_(-30, 30)
    assert layer.system().A.abs().max() <= 1
    assert layer(torch.randn(1, 500, 2)).isfinite().all()


@pytest.mark.parametrize("options", [{"r_max": 1.1}, {"r_min": 0.9, "r_max": 0.5}, {"r_min": -0.1}])
def test_a_ring_outside_the_unit_disk_is_refused(options: dict) -> None:
    with pytest.raises(ConfigError, match="r_min"):
        LRU(4, **options)
