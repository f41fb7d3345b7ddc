"""Discretisation equals SciPy's, keeps its digits near zero, and is differentiable there."""

import itertools

import mpmath
import numpy as np
import pytest
import torch
from scipy.linalg import expm, expm_cond
from scipy.signal import cont2discrete

from longwave.errors import ConfigError
from longwave.math import (
    DENSE_DISCRETIZATIONS,
    DISCRETIZATIONS,
    bilinear,
    dense_gbt,
    dense_zoh,
    expm1,
    exprel,
    gbt,
    legs,
    zoh,
)

EPS = torch.finfo(torch.float64).eps
REAL = [0.0, -1e-300, -1e-16, -1e-8, -1e-3, -0.0999999, -0.1000001, -1.0, -30.0, 1e-8, 0.5, 3.0]
IMAG = [0.0, 1e-16, -1e-8, 1e-3, 0.1, 1.0, -np.pi, 100.0]
POINTS = [complex(a, b) for a, b in itertools.product(REAL, IMAG)]
RULES = list(DISCRETIZATIONS)


def exact(function, z):
    """A function of mpmath numbers at 1,000 digits, since 1e-300 squared is subtracted somewhere, rounded once."""
    with mpmath.workdps(1000):
        return complex(function(mpmath.mpc(z)))


def bank(dim=3, modes=4, seed=0):
    """dt, A, B of a random stable complex bank."""
    g = torch.Generator().manual_seed(seed)
    dt = torch.rand(dim, dtype=torch.float64, generator=g) * 0.1
    A, B = torch.randn(2, dim, modes, dtype=torch.complex128, generator=g)
    return dt, torch.complex(-A.real.abs() - 0.01, 20 * A.imag), B


@pytest.mark.parametrize("z", POINTS)
def test_expm1_keeps_its_digits(z):
    truth = exact(mpmath.expm1, z)
    value = expm1(torch.tensor([z], dtype=torch.complex128)).item()
    # Three roundings in each of two products and their sum; the products are at most 2 |e^z − 1| + 2 min(1, |z|) here.
    assert abs(value - truth) <= 3 * EPS * (4 * abs(truth) + 2 * abs(np.sin(z.imag / 2)) ** 2)


def test_expm1_of_real_numbers_is_torchs_and_real():
    x = torch.tensor(REAL, dtype=torch.float32)
    assert torch.equal(expm1(x), torch.expm1(x))


def test_expm1_keeps_single_precision():
    z = torch.tensor([1e-6 + 1e-6j], dtype=torch.complex64)
    truth = exact(mpmath.expm1, z.item())
    assert expm1(z).dtype == torch.complex64
    assert abs(expm1(z).item() - truth) <= 6 * torch.finfo(torch.float32).eps * abs(truth)


@pytest.mark.parametrize("z", POINTS)
def test_exprel_keeps_its_digits(z):
    truth = exact(lambda w: mpmath.expm1(w) / w if w else mpmath.mpf(1), z)
    value = exprel(torch.tensor([z], dtype=torch.complex128)).item()
    sine = 2 * abs(np.sin(z.imag / 2)) ** 2
    assert abs(value - truth) <= 3 * EPS * (5 * abs(truth) + (sine / abs(z) if sine else 0))


@pytest.mark.parametrize("z", [z for z in POINTS if abs(z) < 4])
def test_exprel_has_an_accurate_derivative(z):
    truth = exact(lambda w: (mpmath.exp(w) * (w - 1) + 1) / w**2 if w else mpmath.mpf(1) / 2, z)
    w = torch.tensor([z], dtype=torch.complex128, requires_grad=True)
    (gradient,) = torch.autograd.grad(exprel(w).real.sum(), w)
    # The quotient e^z/z − (e^z − 1)/z² loses ε e^a/|z| and starts at |z| = 0.1; the series loses a few ε.
    scale = np.exp(max(z.real, 0)) / max(abs(z), 0.1)
    assert abs(gradient.conj().item() - truth) <= 8 * EPS * scale


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_exprel_passes_gradcheck_at_zero_too(dtype):
    z = torch.tensor([0.0, 1e-9, -0.05, 0.2, -2.0], dtype=dtype)
    z = (z * (1 + 1j) if dtype.is_complex else z).requires_grad_()
    assert torch.autograd.gradcheck(exprel, z)


def real_form(a, b):
    """One complex mode as a real system with two states: matrices and input."""
    return np.array([[a.real, -a.imag], [a.imag, a.real]]), np.array([[b.real], [b.imag]])


@pytest.mark.parametrize("rule", RULES)
def test_discretisation_equals_scipys(rule):
    dt, A, B = bank()
    discrete = DISCRETIZATIONS[rule](dt, A, B)
    for h, n in np.ndindex(A.shape):
        continuous = real_form(A[h, n].item(), B[h, n].item())
        Ad, Bd, *_ = cont2discrete((*continuous, np.eye(2), np.zeros((2, 1))), dt[h].item(), rule)
        ours = np.hstack(real_form(discrete.A[h, n].item(), discrete.B[h, n].item()))
        # SciPy takes the exponential of [[A, B], [0, 0]] dt: its backward error times the condition, and one rounding.
        # The bilinear rule is a Padé approximant of the same exponential, and better conditioned.
        generator = np.zeros((3, 3))
        generator[:2] = np.hstack(continuous) * dt[h].item()
        tolerance = 2 * 3 * EPS * (1 + expm_cond(generator)) * np.linalg.norm(expm(generator))
        assert np.abs(ours - np.hstack([Ad, Bd])).max() <= tolerance


@pytest.mark.parametrize("decay", [1e-16, 1e-8, 1e-6, 1e-4, 1e-2])
def test_zoh_keeps_its_digits_for_slow_modes(decay):
    dt, A = 1e-3, complex(-decay, decay)
    truth = exact(lambda z: mpmath.expm1(dt * z) / z, A)
    _, B = zoh(torch.tensor([dt], dtype=torch.float64), torch.tensor([[A]], dtype=torch.complex128), torch.ones(1, 1))
    assert abs(B.item() - truth) <= 8 * EPS * abs(truth)


@pytest.mark.parametrize("rule", RULES)
def test_an_integrator_sums_its_input(rule):
    dt = torch.tensor([0.25])
    A, B = DISCRETIZATIONS[rule](dt, torch.zeros(1, 2), torch.tensor([[1.0, -3.0]]))
    assert torch.equal(A, torch.ones(1, 2, dtype=torch.float64))
    assert torch.equal(B, torch.tensor([[0.25, -0.75]], dtype=torch.float64))


@pytest.mark.parametrize("rule", RULES)
def test_constant_input_has_the_continuous_steady_state(rule):
    dt, A, B = bank()
    discrete = DISCRETIZATIONS[rule](dt, A, B)
    # 1 − Ā cancels to |dt A|, with an absolute error of a few ε.
    tolerance = 8 * EPS * (1 + 1 / (1 - discrete.A).abs())
    assert ((discrete.B / (1 - discrete.A) / (-B / A) - 1).abs() <= tolerance).all()


@pytest.mark.parametrize("rule", RULES)
def test_a_stable_system_stays_stable(rule):
    dt, A, B = bank(dim=50, modes=50)
    assert (DISCRETIZATIONS[rule](dt, A, B).A.abs() < 1).all()
    undamped = DISCRETIZATIONS[rule](dt, 1j * A.imag, B).A.abs()
    assert ((undamped - 1).abs() <= 4 * EPS).all()


@pytest.mark.parametrize("rule", RULES)
def test_single_precision_is_discretised_in_double(rule):
    dt, A, B = (x.to(torch.complex64 if x.is_complex() else torch.float32) for x in bank())
    single = DISCRETIZATIONS[rule](dt, A, B)
    double = DISCRETIZATIONS[rule](dt.double(), A.to(torch.complex128), B.to(torch.complex128))
    assert single.A.dtype == single.B.dtype == torch.complex128
    assert torch.equal(single.A, double.A)
    assert torch.equal(single.B, double.B)


@pytest.mark.parametrize("rule", RULES)
def test_real_systems_stay_real(rule):
    dt, A, B = bank()
    real, lifted = (DISCRETIZATIONS[rule](dt, a, b) for a, b in ((A.real, B.real), (A.real + 0j, B.real + 0j)))
    assert real.A.dtype == real.B.dtype == torch.float64
    torch.testing.assert_close(real.A + 0j, lifted.A, rtol=4 * EPS, atol=0)
    torch.testing.assert_close(real.B + 0j, lifted.B, rtol=16 * EPS, atol=0)


@pytest.mark.parametrize("rule", RULES)
def test_real_systems_in_single_precision_are_discretised_in_double(rule):
    single = [x.real.float() for x in bank()]
    of_single, of_double = DISCRETIZATIONS[rule](*single), DISCRETIZATIONS[rule](*(x.double() for x in single))
    assert torch.equal(of_single.A, of_double.A)
    assert torch.equal(of_single.B, of_double.B)


@pytest.mark.parametrize("rule", [zoh, bilinear])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_discretisation_passes_gradcheck_at_zero_too(rule, dtype):
    dt = torch.tensor([0.1, 0.7], dtype=torch.float64, requires_grad=True)
    A = torch.tensor([[0.0, -1.0], [0.0, -3.0]], dtype=dtype)
    A = (A * (1 + 2j) if dtype.is_complex else A).requires_grad_()
    B = torch.tensor([[1.0, 2.0], [-1.0, 0.5]], dtype=dtype, requires_grad=True)
    assert torch.autograd.gradcheck(rule, (dt, A, B))


def dense_bank():
    """Three stable systems of four states and two inputs."""
    g = torch.Generator().manual_seed(1)
    A, B = (torch.randn(3, 4, columns, dtype=torch.float64, generator=g) for columns in (4, 2))
    return torch.tensor([0.01, 0.1, 0.5], dtype=torch.float64), A - 5 * torch.eye(4), B


@pytest.mark.parametrize(
    ("rule", "scipys"), [("forward", "euler"), ("backward", "backward_diff"), ("bilinear", "bilinear"), ("zoh", "zoh")]
)
def test_dense_discretisation_equals_scipys(rule, scipys):
    dt, A, B = dense_bank()
    discrete = DENSE_DISCRETIZATIONS[rule](dt, A, B)
    for i in range(3):
        a, b, h = A[i].numpy(), B[i].numpy(), dt[i].item()
        Ad, Bd, *_ = cont2discrete((a, b, np.eye(4), np.zeros((4, 2))), h, scipys)
        # A solve's error by its condition, an exponential's by its own, of six states and inputs each.
        generator = np.vstack([np.hstack([a, b]), np.zeros((2, 6))]) * h
        condition = expm_cond(generator) if rule == "zoh" else np.linalg.cond(np.eye(4) - h * a)
        truth = np.hstack([Ad, Bd])
        ours = torch.cat([discrete.A[i], discrete.B[i]], -1).numpy()
        assert np.abs(ours - truth).max() <= 2 * 6 * EPS * (1 + condition) * (1 + np.linalg.norm(truth))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_diagonal_and_dense_gbt_agree(alpha):
    dt, A, B = bank()
    diagonal, dense = gbt(dt, A, B, alpha=alpha), dense_gbt(dt, torch.diag_embed(A), B[..., None], alpha=alpha)
    torch.testing.assert_close(torch.diag_embed(diagonal.A), dense.A, rtol=8 * EPS, atol=0)
    torch.testing.assert_close(diagonal.B[..., None], dense.B, rtol=8 * EPS, atol=0)


def test_dense_zoh_of_legs_keeps_a_constant():
    A, B = legs(16)
    discrete = DENSE_DISCRETIZATIONS["zoh"](torch.tensor(0.1), A, B[:, None])
    one = torch.eye(16, dtype=torch.float64)[0]
    change = discrete.A @ one + discrete.B[:, 0] - one
    assert change.abs().max() <= 16 * EPS * expm_cond(0.1 * A.numpy())


@pytest.mark.parametrize("alpha", [-0.1, 1.5, float("nan")])
def test_alpha_is_a_weight(alpha):
    dt, A, B = bank()
    with pytest.raises(ConfigError, match=r"alpha=.* must lie in \[0, 1\]"):
        gbt(dt, A, B, alpha=alpha)
    with pytest.raises(ConfigError, match=r"alpha=.* must lie in \[0, 1\]"):
        dense_gbt(dt, torch.diag_embed(A), B[..., None], alpha=alpha)


@pytest.mark.parametrize("rule", DENSE_DISCRETIZATIONS)
def test_dense_discretisation_passes_gradcheck(rule):
    dt, A, B = (x[:1].requires_grad_() for x in dense_bank())
    assert torch.autograd.gradcheck(DENSE_DISCRETIZATIONS[rule], (dt, A, B))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_zoh_of_fixed_matrices_passes_gradcheck_twice(dtype):
    dt, A, B = dense_bank()
    dt, A, B = dt.requires_grad_(), A.to(dtype), B.to(dtype)
    A, B = (A * (1 + 1j), B * (2 - 1j)) if dtype.is_complex else (A, B)
    assert torch.autograd.gradcheck(lambda dt: dense_zoh(dt, A, B), dt)
    assert torch.autograd.gradgradcheck(lambda dt: dense_zoh(dt, A, B), dt)
