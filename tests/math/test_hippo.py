"""HiPPO-LegS is Legendre polynomials; every measure is normal plus low rank."""

import numpy as np
import pytest
import torch
from scipy.linalg import expm_cond
from scipy.special import eval_legendre

from longwave.errors import ConfigError
from longwave.math import MEASURES, NPLR_FORMS, legs, legs_nplr

EPS = torch.finfo(torch.float64).eps
SIZES = [2, 4, 8, 64, 256]
FORMS = [(measure, N) for measure in NPLR_FORMS for N in SIZES]
ODD = [(measure, N) for measure in NPLR_FORMS if measure != "fourier" for N in (1, 3)]


def relative_error(a, b):
    return ((a - b).norm() / b.norm()).item()


def budget(N):
    """One decomposition and three complex products of inner length N, each backward stable to (N + 2) ε."""
    return 4 * (N + 2) * EPS


@pytest.mark.parametrize("t", [0.01, 0.5, 3.0])
def test_impulse_response_is_the_warped_legendre_basis(t):
    N = 8
    A, B = legs(N)
    n = np.arange(N)
    basis = np.sqrt(2 * n + 1) * np.exp(-t) * eval_legendre(n, 2 * np.exp(-t) - 1)
    exponential = torch.linalg.matrix_exp(t * A)
    # The exponential's backward and forward error; and the basis', whose argument is rounded where |P_n'| ≤ n(n+1)/2.
    tolerance = N * (1 + expm_cond((t * A).numpy())) * EPS * exponential.norm() * B.norm()
    tolerance += EPS * np.max(np.sqrt(2 * n + 1) * n * (n + 1) / 2)
    assert np.abs((exponential @ B).numpy() - basis).max() <= tolerance


def test_constant_input_is_stationary_in_its_own_coefficient():
    A, B = legs(64)
    assert torch.equal(A[:, 0], -B)


def test_eigenvalues_are_the_negative_integers():
    A, _ = legs(16)
    assert torch.equal(A.diagonal(), -torch.arange(1.0, 17, dtype=torch.float64))
    assert torch.equal(A, A.tril())


@pytest.mark.parametrize(("measure", "N"), FORMS + ODD)
def test_full_nplr_form_gives_back_the_matrices(measure, N):
    A, B = MEASURES[measure](N)
    Lambda, P, B_tilde, V = NPLR_FORMS[measure](N, half=False)
    assert relative_error(V @ (torch.diag(Lambda) - P @ P.mH) @ V.mH, A + 0j) <= budget(N)
    assert relative_error(V @ B_tilde, B + 0j) <= budget(N)
    assert (V.mH @ V - torch.eye(N)).norm() <= budget(N) * N**0.5


@pytest.mark.parametrize(("measure", "N"), FORMS)
def test_half_nplr_form_gives_back_the_matrices_with_its_conjugate(measure, N):
    A, B = MEASURES[measure](N)
    Lambda, P, B_tilde, V = NPLR_FORMS[measure](N)
    low_rank = 2 * (V @ P).real
    assert relative_error(2 * (V @ torch.diag(Lambda) @ V.mH).real - low_rank @ low_rank.mT, A) <= budget(N)
    assert relative_error(2 * (V @ B_tilde).real, B) <= budget(N)


@pytest.mark.parametrize(("measure", "N"), FORMS)
def test_half_keeps_positive_frequencies_in_falling_order_and_an_exact_real_part(measure, N):
    Lambda, P, B, V = NPLR_FORMS[measure](N)
    assert Lambda.shape == B.shape == (N // 2,)
    assert P.shape == (N // 2, 2 if measure == "legt" else 1)
    assert V.shape == (N, N // 2)
    assert (Lambda.real == (-0.5 if measure == "legs" else 0)).all()
    assert (Lambda.imag[:-1] > 0).all()
    assert (Lambda.imag[-1] == 0) if measure == "fourier" else (Lambda.imag[-1] > 0)
    assert (Lambda.imag.diff() < 0).all()
    assert torch.equal(Lambda, NPLR_FORMS[measure](N, half=False).Lambda[: N // 2])


@pytest.mark.parametrize(("measure", "N"), FORMS)
def test_phase_makes_B_real_and_positive(measure, N):
    B = NPLR_FORMS[measure](N).B
    assert (B.real > 0).all()
    assert (B.imag.abs() <= budget(N) * MEASURES[measure](N).B.norm()).all()


@pytest.mark.parametrize(("measure", "N"), [form for form in FORMS if form[0] != "legt"])
def test_P_of_rank_one_is_a_multiple_of_B(measure, N):
    _, P, B, _ = NPLR_FORMS[measure](N)
    assert ((P[:, 0] - B / 2**0.5).abs() <= budget(N) * MEASURES[measure](N).B.norm()).all()


@pytest.mark.parametrize(
    ("N", "printed", "digits"),
    [
        (4, {0: 4.603293, 1: 0.556501}, 6),
        (8, {0: 19.857410, 1: 5.354209, 2: 1.957794, 3: 0.427489}, 6),
        (64, {0: 1303.2738, 1: 433.0308, 2: 258.1522, 3: 182.6204}, 4),
        (64, {31: 0.263857}, 6),
    ],
)
def test_imaginary_parts_are_the_published_ones(N, printed, digits):
    imag = legs_nplr(N).Lambda.imag
    for n, value in printed.items():
        assert abs(imag[n].item() - value) <= 0.5 * 10**-digits * (1 + 1e-6)


@pytest.mark.parametrize("N", [0, -3])
@pytest.mark.parametrize("function", [*MEASURES.values(), *NPLR_FORMS.values()])
def test_a_state_needs_a_polynomial(function, N):
    with pytest.raises(ConfigError, match=rf"N is {N}.*give N ≥ 1"):
        function(N)


@pytest.mark.parametrize("measure", ["legs", "legt", "lagt"])
def test_an_odd_state_has_no_half(measure):
    with pytest.raises(ConfigError, match=r"N is 5: give an even N or half=False"):
        NPLR_FORMS[measure](5)


@pytest.mark.parametrize("function", [MEASURES["fourier"], NPLR_FORMS["fourier"]])
def test_a_fourier_series_has_an_even_state(function):
    with pytest.raises(ConfigError, match=r"fourier: N is 5, .* give an even N"):
        function(5)
