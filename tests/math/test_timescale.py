"""Step sizes: log-uniform, and stored through an exact inverse of softplus."""

import math

import mpmath
import pytest
import torch
from scipy import stats
from torch.nn.functional import softplus

from longwave.errors import ConfigError
from longwave.math import log_uniform, softplus_inverse

EPS = torch.finfo(torch.float64).eps


def test_log_uniform_is_uniform_in_the_logarithm():
    dt = log_uniform((100, 200), 1e-3, 1e-1, torch.Generator().manual_seed(0))
    assert dt.shape == (100, 200)
    assert dt.dtype == torch.float64
    assert 1e-3 * (1 - 8 * EPS) <= dt.min() <= dt.max() <= 1e-1 * (1 + 8 * EPS)
    law = stats.uniform(math.log(1e-3), math.log(1e2))
    assert stats.kstest(dt.log().flatten().numpy(), law.cdf).pvalue > 1e-3


def test_log_uniform_follows_the_generator_and_the_global_seed():
    torch.manual_seed(5)
    assert torch.equal(log_uniform([4], 0.1, 1.0), log_uniform([4], 0.1, 1.0, torch.Generator().manual_seed(5)))


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.1), (-1.0, 0.1), (0.2, 0.1), (float("nan"), 0.1)])
def test_log_uniform_wants_an_interval_of_positive_numbers(low, high):
    with pytest.raises(ConfigError, match=r"give 0 < low ≤ high"):
        log_uniform((2,), low, high)


X = [1e-300, 1e-16, 1e-8, 1e-3, 0.1, math.log(2), 1.0, 20.0, 800.0, 1e300]


@pytest.mark.parametrize("x", X)
def test_softplus_inverse_is_the_inverse(x):
    with mpmath.workdps(330):
        truth = float(mpmath.mpf(x) + mpmath.log(-mpmath.expm1(-mpmath.mpf(x))))
    y = softplus_inverse(torch.tensor([x], dtype=torch.float64))
    # A sum of two terms: one rounding each, and one of the argument of the logarithm, which is there an absolute error.
    assert abs(y.item() - truth) <= 4 * EPS * (1 + abs(truth) + min(x, 1))


def test_softplus_inverse_undoes_softplus_in_float32():
    y = torch.linspace(-15, 80, 50)
    torch.testing.assert_close(softplus_inverse(softplus(y)), y)


def test_softplus_inverse_is_differentiable():
    x = torch.tensor([1e-2, 1.0, 40.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(softplus_inverse, x)


@pytest.mark.parametrize("x", [0.0, -1.0, float("nan")])
def test_softplus_inverse_wants_positive_numbers(x):
    with pytest.raises(ConfigError, match=r"give x > 0"):
        softplus_inverse(torch.tensor([1.0, x]))
