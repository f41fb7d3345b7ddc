"""The initial eigenvalues: their formulas, their order, and for the random ones their distributions."""

import numpy as np
import pytest
import torch
from scipy import stats

from longwave.errors import ConfigError
from longwave.math import SPECTRA, legs, legs_nplr, ring, s4d_inv, s4d_legs, s4d_lin, s4d_random, s4d_real

EPS = torch.finfo(torch.float64).eps


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("modes", [1, 2, 7, 32])
@pytest.mark.parametrize("name", SPECTRA)
def test_every_spectrum_is_stable_and_holds_one_of_each_pair(name, modes):
    Lambda = SPECTRA[name](modes)
    assert Lambda.shape == (modes,)
    assert Lambda.dtype == torch.complex128
    assert (Lambda.imag >= 0).all()
    assert Lambda.real.max() == (-1 if name == "real" else -0.5)


def test_legs_is_the_spectrum_of_the_normal_part():
    A, B = legs(32)
    truth = np.linalg.eigvals((A + torch.outer(B, B) / 2).numpy())
    truth = truth[truth.imag > 0]
    truth = truth[np.argsort(-truth.imag)]
    # A normal matrix: its eigenvalues move by no more than the backward error of either solver.
    assert np.abs(s4d_legs(16).numpy() - truth).max() <= 2 * 32 * EPS * A.norm().item()


def transfer_functions(N, s):
    """C (s − Λ)⁻¹ B/2 for S4D-LegS, C (s − A)⁻¹ B for LegS: the first eight coefficients as outputs."""
    Lambda, _, B, V = legs_nplr(N, half=False)
    A, real_B = legs(N)
    resolvent = (s * torch.eye(8) - A[:8, :8]).to(torch.complex128)
    return V[:8] @ (B / 2 / (s - Lambda)), torch.linalg.solve(resolvent, real_B[:8] + 0j)


def test_diagonal_legs_with_half_B_tends_to_legs():
    coarse, fine = ((d - h).abs().max() for d, h in (transfer_functions(N, 3j) for N in (64, 256)))
    assert fine < 0.01
    assert coarse / fine == pytest.approx(256 / 64, rel=0.1)


def test_inv_lin_and_real_are_their_formulas():
    n = np.arange(5)
    np.testing.assert_allclose(s4d_inv(5).numpy(), -0.5 + 1j * 10 / np.pi * (10 / (2 * n + 1) - 1), rtol=4 * EPS)
    np.testing.assert_allclose(s4d_lin(5).numpy(), -0.5 + 1j * np.pi * n, rtol=2 * EPS)
    np.testing.assert_array_equal(s4d_real(5).numpy(), [-1, -2, -3, -4, -5])


def test_inv_approximates_legs_as_documented():
    ratio = s4d_inv(32).imag / s4d_legs(32).imag - 1
    assert ratio[0].abs() <= 2 / 64
    assert ratio.abs().max() == ratio[-1] == pytest.approx(0.23, abs=0.005)
    assert s4d_inv(128).imag[-1] / s4d_legs(128).imag[-1] == pytest.approx(1.50, abs=0.005)


@pytest.mark.parametrize("modes", [1, 5, 32])
@pytest.mark.parametrize("seed", range(5))
def test_random_with_its_conjugates_is_a_scaled_and_shifted_gaussian_spectrum(modes, seed):
    N = 2 * modes
    G = torch.randn(N, N, dtype=torch.float64, generator=seeded(seed)).numpy() / np.sqrt(N)
    mu = np.linalg.eigvals(G)
    A = N / 2 * (G - mu.real.max() * np.eye(N)) - 0.5 * np.eye(N)
    Lambda = s4d_random(modes, seeded(seed)).numpy()
    # λ is an eigenvalue of a matrix within the solver's backward error of A: A − λ is singular to that error.
    for eigenvalue in Lambda:
        assert np.linalg.svd(A - eigenvalue * np.eye(N), compute_uv=False)[-1] <= 4 * N * EPS * np.linalg.norm(A)
    assert (Lambda.imag > 0).sum() == (mu.imag > 0).sum()
    assert len(np.unique(Lambda)) == modes
    every_other = np.sort(mu.real[mu.imag == 0])[::-1][::2]
    # Which ones, not how exactly: that is tested above.
    kept = Lambda.real[Lambda.imag == 0]
    np.testing.assert_allclose(kept, N / 2 * (every_other - mu.real.max()) - 0.5, rtol=1e-6)


def test_random_fills_its_disc_evenly():
    modes, N = 200, 400
    Lambda = s4d_random(modes, seeded()).numpy()
    centre = -0.5 - N / 2
    area = (np.abs(Lambda - centre) / (N / 2)) ** 2
    # The eigenvalues repel one another, so they lie more evenly than a sample of this size: the test is conservative.
    assert stats.kstest(np.minimum(area, 1), "uniform").pvalue > 1e-3
    assert Lambda.real.min() == pytest.approx(-N - 0.5, rel=0.1)


@pytest.mark.parametrize("draw", [s4d_random, lambda modes, generator: ring(modes, generator=generator)])
def test_draws_follow_the_generator_and_the_global_seed(draw):
    assert torch.equal(draw(8, seeded(3)), draw(8, seeded(3)))
    assert not torch.equal(draw(8, seeded(3)), draw(8, seeded(4)))
    torch.manual_seed(3)
    assert torch.equal(draw(8, None), draw(8, seeded(3)))


def test_ring_is_uniform_in_area_and_phase():
    r_min, r_max, max_phase = 0.4, 0.9, np.pi / 10
    lam = ring(20_000, r_min, r_max, max_phase, seeded()).numpy()
    assert lam.dtype == np.complex128
    area, phase = np.abs(lam) ** 2, np.angle(lam)
    assert stats.kstest(area, stats.uniform(r_min**2, r_max**2 - r_min**2).cdf).pvalue > 1e-3
    assert stats.kstest(phase, stats.uniform(0, max_phase).cdf).pvalue > 1e-3
    assert abs(stats.pearsonr(area, phase).statistic) < 4 / np.sqrt(len(lam))


def test_ring_defaults_to_the_whole_disc():
    lam = ring(20_000, generator=seeded()).numpy()
    assert (np.abs(lam) < 1).all()
    assert stats.kstest(np.angle(lam) % (2 * np.pi), stats.uniform(0, 2 * np.pi).cdf).pvalue > 1e-3


def test_ring_gives_the_stationary_energy_of_the_paper():
    """White noise of unit power through x[t] = λ x[t−1] + w[t], averaged over λ (LRU, Proposition 3.3, without γ)."""
    r_min, r_max = 0.5, 0.95
    lam = ring(1_000, r_min, r_max, generator=seeded())
    noise = torch.randn(600, 2, 1_000, dtype=torch.complex128, generator=seeded(1))
    x = torch.zeros(2, 1_000, dtype=torch.complex128)
    for w in noise:
        x = lam * x + w
    energy = x.abs().square().flatten()
    formula = np.log((1 - r_min**2) / (1 - r_max**2)) / (r_max**2 - r_min**2)
    assert 0.95**1200 < 1e-20  # stationary
    assert abs(energy.mean().item() - formula) <= 4 * (energy.std() / len(energy) ** 0.5).item()


def test_a_ring_of_no_width_is_a_circle():
    torch.testing.assert_close(ring(9, 0.7, 0.7).abs(), torch.full((9,), 0.7, dtype=torch.float64))


@pytest.mark.parametrize("function", [*SPECTRA.values(), ring])
def test_a_system_needs_a_mode(function):
    with pytest.raises(ConfigError, match=r"modes is 0.*give modes ≥ 1"):
        function(0)


@pytest.mark.parametrize(("r_min", "r_max"), [(-0.1, 0.5), (0.9, 0.8), (0.0, 1.1), (float("nan"), 1.0)])
def test_a_ring_lies_inside_the_unit_circle(r_min, r_max):
    with pytest.raises(ConfigError, match=r"give 0 ≤ r_min ≤ r_max ≤ 1"):
        ring(4, r_min, r_max)
