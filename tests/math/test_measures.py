"""LegT, LagT and Fourier are projections on their functions: against quadrature, closed forms and exponentials."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import expm, expm_cond
from scipy.special import eval_laguerre, eval_legendre

from longwave.math import BASES, MEASURES, fourier, lagt, legt

EPS = np.finfo(float).eps
NODES, WEIGHTS = np.polynomial.legendre.leggauss(200)
LAG, WEIGHTS = (NODES + 1) / 2, WEIGHTS / 2


def arrays(operator):
    return operator.A.numpy(), operator.B.numpy()


def basis(measure, N, lag):
    """The functions by SciPy and NumPy, (points, N)."""
    n, lag = np.arange(N), np.asarray(lag)[:, None]
    if measure == "legt":
        return np.sqrt(2 * n + 1) * eval_legendre(n, 1 - 2 * lag)
    if measure == "legs":
        return np.sqrt(2 * n + 1) * eval_legendre(n, 2 * lag - 1)
    if measure == "lagt":
        return np.exp(-lag / 2) * eval_laguerre(n, lag)
    norm = np.where(n > 0, math.sqrt(2), 1.0)[: N // 2]
    waves = np.stack([norm * np.cos(2 * np.pi * lag * n[: N // 2]), norm * np.sin(2 * np.pi * lag * n[: N // 2])], -1)
    return waves.reshape(len(lag), N)


@pytest.mark.parametrize("measure", BASES)
@pytest.mark.parametrize("N", [2, 4, 20])
def test_bases_are_scipys(measure, N):
    lag = np.linspace(0, 1, 33) * (30 if measure == "lagt" else 1)
    ours, truth = BASES[measure](N, torch.from_numpy(lag)).numpy(), basis(measure, N, lag)
    # Two three-term recurrences of N steps, whose values stay below the largest one here; SciPy's x is rounded too,
    # where |φ_n'| ≤ √(2n+1) n(n+1).
    scale = math.sqrt(2 * N) * N**2 if measure in ("legs", "legt") else 2 * np.pi * N * 30
    assert np.abs(ours - truth).max() <= 4 * EPS * scale


@pytest.mark.parametrize("measure", ["legs", "legt", "fourier"])
def test_bases_of_a_window_are_orthonormal(measure):
    values = BASES[measure](20, torch.from_numpy(LAG)).numpy()
    expected = np.diag([1.0, *[measure != "fourier"], *[1.0] * 18])
    gram = values.T @ (WEIGHTS[:, None] * values)
    assert np.abs(gram - expected).max() <= 200 * EPS * np.abs(values).max() ** 2


@pytest.mark.parametrize("t", [0.01, 0.5, 3.0, 20.0])
def test_lagt_responds_with_laguerre_functions(t):
    N = 8
    A, B = arrays(lagt(N))
    exponential = expm(t * A)
    tolerance = N * (1 + expm_cond(t * A)) * EPS * np.linalg.norm(exponential) * np.linalg.norm(B)
    assert np.abs(exponential @ B - basis("lagt", N, [t])[0]).max() <= tolerance


@pytest.mark.parametrize("N", [1, 2, 5, 16])
def test_legt_is_exact_for_polynomials(N):
    A, B = arrays(legt(N))
    phi = basis("legt", N, LAG)
    for degree in range(N):
        # u(t) = (t/2)^degree at t = 2, and its derivative
        c = (WEIGHTS * (1 - LAG / 2) ** degree) @ phi
        dc = (WEIGHTS * degree / 2 * (1 - LAG / 2) ** max(degree - 1, 0)) @ phi
        # A sums N products; the quadrature 200, each with values of φ up to √(2N).
        scale = np.linalg.norm(A, 2) * np.abs(c).max() + np.linalg.norm(B)
        assert np.abs(A @ c + B - dc).max() <= (200 + N) * EPS * scale * math.sqrt(2 * N)


@pytest.mark.parametrize("omega", [0.5, 2.0, 4.0, 20.0])
@pytest.mark.parametrize("N", [1, 2, 8, 12])
def test_legt_read_at_its_far_end_is_the_pade_approximant_of_a_delay(N, omega):
    A, B = arrays(legt(N))
    s = 1j * omega
    response = np.linalg.solve(s * np.eye(N) - A, B)
    end = basis("legt", N, [1.0])[0]

    def side(degree, other, x):
        """One side of the [p/q] approximant of e^x: Σ (p+q−k)! p! / ((p+q)! k! (p−k)!) x^k."""
        f = math.factorial
        return sum(
            f(degree + other - k) * f(degree) / (f(degree + other) * f(k) * f(degree - k)) * x**k
            for k in range(degree + 1)
        )

    truth = side(N - 1, N, -s) / side(N, N - 1, s)
    condition = np.linalg.cond(s * np.eye(N) - A)
    assert abs(end @ response - truth) <= 2 * N * EPS * condition * np.linalg.norm(end) * np.linalg.norm(response)


def test_legt_is_the_lmu_in_orthonormal_coordinates():
    N = 12
    A, B = arrays(legt(N))
    i, j = np.indices((N, N))
    lmu_A = (2 * i + 1) * np.where(i < j, -1.0, (-1.0) ** (i - j + 1))
    T = (-1.0) ** np.arange(N) * np.sqrt(2 * np.arange(N) + 1)
    np.testing.assert_allclose(T[:, None] * A / T, lmu_A, rtol=4 * EPS)
    np.testing.assert_allclose(T * B, (2 * np.arange(N) + 1) * (-1.0) ** np.arange(N), rtol=2 * EPS)


@pytest.mark.parametrize("N", [2, 4, 20])
def test_fourier_takes_the_mean_at_the_edge_for_the_series(N):
    A, B = arrays(fourier(N))
    phi, edge = basis("fourier", N, LAG), basis("fourier", N, [0.0])[0]
    # u(t) = e^t at t = 0, its own derivative; its projections, and what the derivative of those should be
    now, then = 1.0, math.exp(-1)
    c = (WEIGHTS * np.exp(-LAG)) @ phi
    excess = edge * (now + then - 2 * edge @ c)
    scale = np.linalg.norm(A, 2) * np.linalg.norm(c) + np.linalg.norm(B)
    assert np.abs(A @ c + B * now - excess - c).max() <= (200 + N) * EPS * scale * math.sqrt(2)


@pytest.mark.parametrize("measure", ["legt", "fourier"])
def test_impulse_response_approaches_the_basis_on_a_window(measure):
    dt, first = 1 / 256, 4
    lag = (np.arange(512) + 0.5) * dt
    # The window is cut off at lag 1.
    truth = basis(measure, first, lag) * (lag < 1)[:, None]
    errors = []
    for N in (8, 32, 128):
        A, B = arrays(MEASURES[measure](N))
        step, state, response = expm(dt * A), expm(dt / 2 * A) @ B, []
        for _ in lag:
            response.append(state[:first])
            state = step @ state
        errors.append(np.linalg.norm(np.array(response) - truth))
    # A jump limits the mean square error of N terms to the order 1/N: its root halves from N to 4 N.
    assert errors[1] < 0.6 * errors[0]
    assert errors[2] < 0.6 * errors[1]


@pytest.mark.parametrize("N", [2, 8, 32])
@pytest.mark.parametrize("measure", MEASURES)
def test_every_operator_is_stable(measure, N):
    A, _ = arrays(MEASURES[measure](N))
    if measure == "fourier":
        assert not A[1].any()
        assert not A[:, 1].any()
        A = np.delete(np.delete(A, 1, 0), 1, 1)
    assert (np.linalg.eigvals(A).real < 0).all()
