"""The HiPPO memory is the projection that it claims, at every speed and from any time stamps."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.linalg import expm, expm_cond

from longwave.errors import ConfigError, ShapeError, UnsupportedError
from longwave.layers import HiPPO
from longwave.layers.hippo import _gauss, _hold, _solve, _times_A
from longwave.math import BASES, DENSE_DISCRETIZATIONS, MEASURES, legs

EPS = np.finfo(float).eps
RULES = list(DENSE_DISCRETIZATIONS)


def signal(batch=2, time=50, seed=0):
    return torch.randn(batch, time, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def ticks(time, power=1.3):
    return torch.arange(1, time + 1, dtype=torch.float64) ** power


@pytest.mark.parametrize("N", [1, 2, 5, 64, 256])
def test_the_triangular_product_and_solve_equal_the_dense_ones(N):
    A, _ = legs(N)
    d, beta = signal(3, N), torch.tensor([0.0, 1e-3, 1.0], dtype=torch.float64)
    scale = A.norm() * d.norm()
    assert (_times_A(d) - d @ A.mT).norm() <= N * EPS * scale
    for row in range(3):
        system = torch.eye(N) - beta[row] * A
        residual = system @ _solve(d, beta)[row] - d[row]
        assert residual.norm() <= 4 * N * EPS * system.norm() * (1 + _solve(d, beta)[row].norm())


@pytest.mark.parametrize("rho", [1.0, 0.999, 0.5, 0.01])
@pytest.mark.parametrize("N", [1, 2, 5, 12])
def test_holding_is_the_matrix_exponential(N, rho):
    A, d = legs(N).A.numpy() * -np.log(rho), signal(1, N)
    ours = _hold(d, torch.tensor([rho], dtype=torch.float64), *_gauss(N))[0]
    tolerance = 4 * N * EPS * (1 + expm_cond(A)) * np.linalg.norm(expm(A)) * d.norm()
    assert np.abs(ours.numpy() - expm(A) @ d[0].numpy()).max() <= tolerance


def test_zoh_is_the_least_squares_projection_of_the_held_samples():
    N, u, times = 6, signal(1, 12), ticks(12)
    c = HiPPO(N, discretization="zoh")(u, times=times)[0, -1]
    edges = np.concatenate([[0.0], times / times[-1]])
    for n in range(N):
        pieces = [
            u[0, k].item()
            * quad(lambda x, n=n: BASES["legs"](N, torch.tensor(x, dtype=torch.float64))[n].item(), *edges[k : k + 2])[
                0
            ]
            for k in range(12)
        ]
        # Each of 12 steps rounds N products; quad is exact for polynomials.
        assert abs(c[n].item() - sum(pieces)) <= 2 * 12 * N * EPS * u.norm()


@pytest.mark.parametrize("rule", RULES)
def test_a_constant_is_kept_exactly(rule):
    memory = HiPPO(16, discretization=rule)
    c = memory(torch.full((1, 100), 0.7, dtype=torch.float64), times=ticks(100))
    assert (c[..., 0] == 0.7).all()
    assert not c[..., 1:].any()


@pytest.mark.parametrize("rule", RULES)
def test_a_ramp_has_two_coefficients(rule):
    # u(t) = t on [0, T] is T (φ_0 / 2 + φ_1 / (2√3)): samples at the ends of their intervals are late by half a step.
    errors = []
    for time in (32, 128):
        c = HiPPO(4, discretization=rule)(ticks(time, 1.0)[None])[0, -1] / time
        truth = torch.tensor([1 / 2, 1 / (2 * 3**0.5), 0, 0], dtype=torch.float64)
        errors.append((c - truth).abs().max().item())
    assert errors[1] < 0.3 * errors[0]


@pytest.mark.parametrize(("rule", "order"), [("forward", 1), ("backward", 1), ("bilinear", 2)])
def test_rules_converge_to_the_held_signal_at_their_order(rule, order):
    u, errors = signal(1, 4), []
    for repeats in (16, 32):
        held = u.repeat_interleave(repeats, 1)
        c, truth = (HiPPO(4, discretization=name)(held)[0, -1] for name in (rule, "zoh"))
        errors.append((c - truth).norm().item())
    # Halving the step halves the error, or quarters it; higher orders have less than the first sample's share.
    assert errors[1] / errors[0] == pytest.approx(0.5**order, rel=0.15)


@pytest.mark.parametrize("rule", RULES)
def test_legs_does_not_know_the_unit_of_time(rule):
    u, memory = signal(), HiPPO(8, discretization=rule)
    assert torch.equal(memory(u), HiPPO(8, discretization=rule, dt=0.125)(u))
    assert torch.equal(memory(u, times=ticks(50)), memory(u, times=1024 * ticks(50)))


@pytest.mark.parametrize("factor", [2, 7])
def test_legs_does_not_know_the_speed_of_the_signal(factor):
    u, memory = signal(), HiPPO(8, discretization="zoh")
    slow = memory(u.repeat_interleave(factor, 1))[:, factor - 1 :: factor]
    # factor · 50 steps, each a contraction that rounds N products
    assert (slow - memory(u)).abs().max() <= 2 * factor * 50 * 8 * EPS * u.abs().max()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("measure", MEASURES)
def test_steps_and_chunks_equal_the_whole(measure, rule):
    memory = HiPPO(8, measure, discretization=rule, theta=400.0)
    u = signal()
    whole, final = memory.prefill(u)
    first, state = memory.prefill(u[:, :20])
    second, state = memory.prefill(u[:, 20:49], state)
    last, state = memory.step(u[:, 49], state)
    assert torch.equal(whole, torch.cat([first, second, last[:, None]], 1))
    assert torch.equal(state.coefficients, final.coefficients)
    assert (state.time == 50).all()


def test_stamped_steps_equal_stamped_sequences():
    memory, u, times = HiPPO(8), signal(), ticks(50)
    state = memory.initial_state(2)
    for k in range(50):
        c, state = memory.step(u[:, k], state, time=times[k].item())
        assert torch.equal(c, memory(u[:, : k + 1], times=times[: k + 1])[:, -1])


@pytest.mark.parametrize("measure", ["legt", "lagt", "fourier"])
def test_window_measures_follow_their_differential_equation(measure):
    N, theta, u = 6, 5.0, signal(1, 30)
    A, B = (matrix.numpy() / theta for matrix in MEASURES[measure](N))
    generator = np.vstack([np.hstack([A, B[:, None]]), np.zeros((1, N + 1))])
    x = np.zeros(N + 1)
    for sample in u[0]:
        x[-1] = sample.item()
        x = expm(generator) @ x
    c = HiPPO(N, measure, discretization="zoh", theta=theta)(u)[0, -1]
    assert np.abs(c.numpy() - x[:N]).max() <= 30 * N * EPS * (1 + expm_cond(generator)) * u.norm()


@pytest.mark.parametrize("measure", ["legs", "legt", "fourier"])
def test_more_coefficients_reconstruct_a_smooth_signal_better(measure):
    # Whole turns in the window, so that the Fourier series has no jump at its edge.
    theta = 200.0
    u = torch.sin(2 * torch.pi * 3 * torch.arange(400, dtype=torch.float64) / theta)[None]
    errors = []
    for N in (4, 32):
        memory = HiPPO(N, measure, discretization="zoh", theta=theta)
        errors.append(memory.approximation_error(u, memory(u)[:, -1]).item())
    assert errors[1] < 0.1 * errors[0]


def test_the_error_is_zero_for_what_the_functions_hold():
    memory = HiPPO(4)
    c = memory(torch.ones(2, 10))
    assert not memory.approximation_error(torch.ones(2, 10), c[:, -1]).any()
    assert (memory.approximation_error(torch.zeros(2, 10), c[:, -1]) == 1).all()


def test_reconstruction_of_lagt_fades_over_theta():
    memory = HiPPO(3, "lagt", theta=10.0)
    c = torch.eye(3, dtype=torch.float64)[:1]
    u = memory.reconstruct(c, torch.tensor([100.0, 80.0], dtype=torch.float64), now=100.0)
    torch.testing.assert_close(u, torch.tensor([[1.0, np.exp(-1.0)]], dtype=torch.float64))


def test_the_state_is_double_and_the_output_is_not():
    memory = HiPPO(8).float()
    c, state = memory.prefill(signal().float())
    assert c.dtype == torch.float32
    assert state.coefficients.dtype == torch.float64
    assert torch.equal(c, memory(signal().float().double()).float())
    assert not list(memory.parameters())
    assert not memory.state_dict()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("measure", MEASURES)
def test_a_memory_is_differentiable(measure, rule):
    memory = HiPPO(4, measure, discretization=rule, theta=100.0)
    assert torch.autograd.gradcheck(memory, (signal(2, 6).requires_grad_(),))


@pytest.mark.parametrize("N", [1, 2])
@pytest.mark.parametrize("rule", RULES)
def test_the_smallest_memories_are_finite(rule, N):
    for measure in MEASURES if N == 2 else ("legs", "legt", "lagt"):
        memory = HiPPO(N, measure, discretization=rule, theta=100.0)
        assert memory(signal(1, 20)).isfinite().all()
        assert memory(signal(2, 0)).shape == (2, 0, N)
        assert memory(torch.zeros(1, 1)).shape == (1, 1, N)


def test_mistakes_are_named(unchecked):
    with pytest.raises(ConfigError, match="did you mean 'legt'"):
        HiPPO(4, "legtt")
    with pytest.raises(ConfigError, match="unknown discretization 'euler'"):
        HiPPO(4, discretization="euler")
    with pytest.raises(ConfigError, match=r"theta=-1.0 must be positive"):
        HiPPO(4, "legt", theta=-1.0)
    with pytest.raises(ConfigError, match=r"unstable for legt with N=16 at dt/theta=0.1: make dt smaller"):
        HiPPO(16, "legt", discretization="forward", theta=10.0)
    with pytest.raises(UnsupportedError, match="times need measure='legs', not 'lagt'"):
        HiPPO(4, "lagt")(signal(), times=ticks(50))
    with pytest.raises(ShapeError, match="times must rise, from later than 0"):
        HiPPO(4)(signal(), times=ticks(50).flip(0))
    with pytest.raises(ShapeError, match="times has shape \\(3,\\), and u has 50 samples"):
        HiPPO(4)(signal(), times=ticks(3))
    with pytest.raises(ShapeError, match=r"u must be real numbers with shape \(batch, time\)"):
        HiPPO(4)(torch.zeros(3, 4, 5))
    with pytest.raises(ShapeError, match=r"begin with initial_state\(2\)"):
        HiPPO(4).prefill(signal(), HiPPO(5).initial_state(2))
    with pytest.raises(ShapeError, match="u has no samples"):
        HiPPO(4).approximation_error(torch.zeros(1, 0), torch.zeros(1, 4))
    with pytest.raises(ConfigError, match=r"now=0.0 must be positive"):
        HiPPO(4).reconstruct(torch.zeros(1, 4), torch.ones(1), now=0.0)
