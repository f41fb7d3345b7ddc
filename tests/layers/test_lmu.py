"""LMU: its matrices against the paper's, LegT's and SciPy's, its delay against Padé's approximants and held waves.

LMUCell: the paper's equations, in NumPy.
"""

import math

import numpy as np
import pytest
import torch
from scipy import interpolate, signal, special

from longwave.errors import ConfigError, UnsupportedError
from longwave.layers import LMU, LMUCell, LMUCellState
from longwave.layers.dense import DenseSystem
from longwave.layers.lmu import LMUStep
from longwave.math import legt, lmu


def published(N: int) -> tuple[np.ndarray, np.ndarray]:
    """A and B of the paper for θ = 1, entry by entry."""
    A = [[(2 * i + 1) * (-1 if i < j else (-1) ** (i - j + 1)) for j in range(N)] for i in range(N)]
    return np.array(A, float), np.array([[(2 * i + 1) * (-1) ** i] for i in range(N)], float)


@pytest.mark.parametrize("N", [1, 2, 7, 256])
def test_the_memory_is_legt_in_other_coordinates(N: int) -> None:
    (A, B), (A_legt, B_legt) = lmu(N), legt(N)
    np.testing.assert_array_equal(A, published(N)[0])
    np.testing.assert_array_equal(B[:, None], published(N)[1])
    T = B_legt * B.sign()
    np.testing.assert_allclose(A, T[:, None] * A_legt / T, rtol=1e-14)
    np.testing.assert_allclose(B, T * B_legt, rtol=1e-14)


@torch.no_grad()
@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("N", [1, 2, 7])
def test_matrices_are_those_of_scipy(N: int, learned: bool) -> None:
    layer, (A, B) = LMU(3, N, theta=20.0, learned=learned).double(), published(N)
    theta = np.full(3, 20.0)
    if learned:
        layer.log_theta.copy_(torch.tensor([0.5, 2.0, 4.0]))
        theta = layer.log_theta.exp().numpy()
    system = layer.to_state_space(rate=1.5)
    for h in range(3):
        continuous = (A / theta[h], B / theta[h], np.ones((1, N)), [[0]])
        Ad, Bd, *_ = signal.cont2discrete(continuous, 1.5, method="zoh")
        np.testing.assert_allclose(system.A[h], Ad, rtol=0, atol=1e-13)
        np.testing.assert_allclose(system.B[h], Bd, rtol=0, atol=1e-13)


@torch.no_grad()
@pytest.mark.parametrize(("N", "theta"), [(128, 784.0), (256, 784.0), (256, 20.0)])
def test_steps_with_blocks_of_low_rank(N: int, theta: float) -> None:
    """Against the dense system in double precision."""
    layer = LMU(3, N, theta=theta, output=None)
    assert isinstance(layer._compressed(1.0), LMUStep)
    u = torch.randn(2, 2000, 3)
    state, x = layer.initial_state(2), torch.zeros(2, 3, N, dtype=torch.float64)
    A, B = layer._memory(1.0)
    for t in range(u.shape[1]):
        _, state = layer.step(u[:, t], state)
        x = torch.addcmul(x @ A[0].mT, B[0], u[:, t, :, None].double())
    error = float((state.x - x).abs().max()) / float(x.abs().max())
    assert error <= 1e-5


def test_steps_take_the_dense_matrix_where_that_is_less_work() -> None:
    for layer in (LMU(3, 64), LMU(3, 100), LMU(3, 192), LMU(3, 256, learned=True), LMU(3, 256).double()):
        assert isinstance(layer._compressed(1.0), DenseSystem)


@pytest.mark.parametrize("N", [1, 2, 5])
def test_the_whole_delay_is_the_pade_approximant(N: int) -> None:
    A, B = (matrix.numpy() for matrix in lmu(N))
    C = special.eval_sh_legendre(np.arange(N), 1.0)
    series = [(-1) ** k / math.factorial(k) for k in range(2 * N)]
    p, q = interpolate.pade(series, N, N - 1)
    for s in (0.3, 1j, 2 - 3j, 8j):
        assert C @ np.linalg.solve(s * np.eye(N) - A, B) == pytest.approx(p(s) / q(s), rel=1e-10)


@torch.no_grad()
def test_the_whole_delay_delays_held_waves() -> None:
    N, theta = 8, 2e4
    layer = LMU(1, N, theta=theta).double()
    layer.C.fill_(1)  # P̃_i(1)
    layer.D.zero_()
    omega = np.array([0.5, 2.0, 4.0])
    H = layer.to_state_space().transfer_function(torch.from_numpy(np.exp(1j * omega / theta)))[0, 0, 0].numpy()
    p, q = interpolate.pade([(-1) ** k / math.factorial(k) for k in range(2 * N)], N, N - 1)
    of_pade = abs(p(1j * omega) / q(1j * omega) - np.exp(-1j * omega))
    assert of_pade.max() < 3e-8
    # A hold delays by half a position, which the output, read at its end, wins back twice; it damps by
    # 1 − sinc(ω/2θ) < (ω/2θ)²/6; and it adds aliases, ω/(2πkθ) of what the memory, with |H| < N/|s| up there, lets by.
    truth = np.exp(-1j * omega * (1 - 0.5 / theta))
    of_hold = (omega / (2 * theta)) ** 2 / 6 + 2 * N * omega / (2 * np.pi * theta) ** 2 * np.pi**2 / 6
    assert (abs(H - truth) <= of_pade + of_hold).all()


@torch.no_grad()
def test_the_window_reads_back_the_past() -> None:
    """C = P̃(θ′/θ) is the delay θ′, for waves well below d_state/θ."""
    layer, theta = LMU(5, 24, theta=100.0).double(), 100.0
    delays = torch.linspace(0.0, 1.0, 5, dtype=torch.float64)
    layer.C.copy_(torch.tensor(special.eval_sh_legendre(np.arange(24), delays[:, None].numpy())))
    layer.D.zero_()

    def wave(t: torch.Tensor) -> torch.Tensor:
        return torch.sin(0.05 * t) + 0.5 * torch.sin(0.031 * t + 1)

    t = torch.arange(1000.0, dtype=torch.float64)
    k = layer.kernel(1000)
    u = wave(t)
    y = torch.stack([torch.from_numpy(np.convolve(u, k[h])[:1000]) for h in range(5)], 1)
    # A held input is half a position late, and the output is read at the end of its position.
    truth = wave(t[:, None] + 0.5 - theta * delays)
    # What the window holds is a staircase, half a step beside the wave at most.
    assert (y[300:] - truth[300:]).abs().max() <= (0.05 + 0.5 * 0.031) / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_blocks_are_the_recurrence_at_the_published_size(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = LMU(2).to(dtype)
    x, start = torch.randn(2, 1047, 2, dtype=dtype), torch.randn(2, 2, 256, dtype=dtype)
    y, final = layer._scan(layer.system(), x, start, None, None)
    truth = layer.to_state_space().simulate(x.mT[..., None], start)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    assert (y - truth.y[..., 0].mT).abs().max() <= tolerance * truth.y.abs().max()
    assert (final - truth.final_state).abs().max() <= tolerance * truth.final_state.abs().max()


@torch.no_grad()
def test_learned_windows_begin_as_the_fixed_one() -> None:
    fixed, learned = LMU(5, 7, theta=30.0).double(), LMU(5, 7, theta=30.0, learned=True).double()
    assert set(dict(learned.named_parameters())) - set(dict(fixed.named_parameters())) == {"log_theta"}
    assert learned.log_theta.shape == (5,)
    learned.load_state_dict(fixed.state_dict(), strict=False)
    learned.log_theta.fill_(math.log(30))
    torch.testing.assert_close(learned.kernel(50), fixed.kernel(50), rtol=0, atol=1e-13)
    assert fixed.system().A.shape == (1, 7, 7)


@pytest.mark.parametrize("theta", [1e-3, 1.0, 1e12])
@torch.no_grad()
def test_extreme_windows_stay_stable(theta: float) -> None:
    poles = LMU(1, theta=theta).double().to_state_space().poles()
    # Rounding moves a non-normal matrix's poles by more than its entries.
    assert poles.abs().max() <= 1 + 1e-8


@pytest.mark.parametrize(
    ("options", "message"),
    [({"theta": 0.0}, "theta=0.0"), ({"theta": math.inf}, "theta=inf"), ({"d_state": 0}, "d_state=0")],
)
def test_impossible_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LMU(4, **options)
    with pytest.raises(ConfigError, match=message):
        LMUCell(4, **options)


def published_cell(layer: LMUCell, x: np.ndarray, h: np.ndarray, m: np.ndarray) -> tuple[np.ndarray, ...]:
    """The paper's equations for one sequence, m as (memories, N)."""
    A, B = (matrix / layer.theta for matrix in published(layer.d_state))
    A, B, *_ = signal.cont2discrete((A, B, np.ones((1, layer.d_state)), [[0]]), 1.0, method="zoh")
    p = {name: value.detach().numpy() for name, value in layer.named_parameters()}
    ys = []
    for x_t in x:
        u = p["e_x"] @ x_t + p["e_h"] @ h + p["e_m"] @ m.ravel()
        m = np.stack([A @ m[i] + B[:, 0] * u[i] for i in range(len(u))])
        h = np.tanh(p["W_x"] @ x_t + p["W_h"] @ h + p["W_m"] @ m.ravel())
        ys.append(h)
    return np.stack(ys), h, m


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"d_state": 6, "theta": 3.5}, {"d_state": 6, "theta": 50.0, "memories": 3}])
def test_the_cell_is_the_published_recurrence(options: dict) -> None:
    torch.manual_seed(0)
    layer = LMUCell(5, **options).double()
    layer.e_m.normal_(std=0.1 / layer.d_state)
    x = torch.randn(2, 100, 5, dtype=torch.float64)
    start = LMUCellState(*(torch.randn_like(s) for s in layer.initial_state(2)))
    y, state = layer.prefill(x, start)
    for row in range(2):
        expected = published_cell(layer, x[row].numpy(), start.h[row].numpy(), start.m[row].numpy())
        for value, truth in zip((y[row], state.h[row], state.m[row]), expected, strict=True):
            np.testing.assert_allclose(value, truth, rtol=0, atol=1e-10 * abs(truth).max())


@torch.no_grad()
def test_a_cell_whose_memory_hears_x_alone_holds_the_linear_memory() -> None:
    cell, bank = LMUCell(3, 8, theta=20.0, memories=3).double(), LMU(3, 8, theta=20.0).double()
    cell.e_x.copy_(torch.eye(3))
    cell.e_h.zero_()
    x = torch.randn(2, 50, 3, dtype=torch.float64)
    torch.testing.assert_close(cell.prefill(x)[1].m, bank.prefill(x)[1].x)


def test_the_cell_begins_as_published() -> None:
    torch.manual_seed(0)
    layer = LMUCell(100, 200)
    for weights in (layer.W_x, layer.W_h, layer.W_m):
        # Xavier; the variance of n normal numbers deviates by √(2/n) of itself.
        assert abs(weights.var() * sum(weights.shape) / 2 - 1) < 5 * math.sqrt(2 / weights.numel())
    for weights in (layer.e_x, layer.e_h):
        assert 0.9 * math.sqrt(3 / 100) < weights.abs().max() <= math.sqrt(3 / 100)
    assert not layer.e_m.any()
    assert sum(p.numel() for p in layer.parameters()) == 2 * 100**2 + 100 * 200 + 2 * 100 + 200


@torch.no_grad()
def test_the_memory_of_a_cell_keeps_its_precision() -> None:
    """It is no parameter: .float() does not round it for good."""
    torch.manual_seed(0)
    layer = LMUCell(3, 8)
    x = torch.randn(1, 20, 3, dtype=torch.float64)
    y = layer.double()(x)
    assert torch.equal(layer.float().double()(x), y)
    layer.W_x.mul_(2)
    assert not torch.equal(layer(x), y)


def test_a_cell_has_no_rate() -> None:
    layer = LMUCell(3, 4)
    with pytest.raises(UnsupportedError, match=r"rate=2.0.*over positions"):
        layer(torch.zeros(1, 5, 3), rate=2.0)
    with pytest.raises(UnsupportedError, match=r"rate=0.5"):
        layer.step(torch.zeros(1, 3), layer.initial_state(1), rate=0.5)


def test_a_cell_has_one_memory_or_more() -> None:
    with pytest.raises(ConfigError, match="memories=0"):
        LMUCell(4, memories=0)
