"""S5: its initial values, its kernel against SciPy and s5-pytorch, irregular samples against matrix exponentials."""

import numpy as np
import pytest
import torch
from scipy import signal
from scipy.linalg import expm
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from longwave.errors import ConfigError, ShapeError
from longwave.layers import S5
from longwave.math import legs, legs_nplr

RULES = ["zoh", "bilinear"]


def continuous(layer: S5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Step, Λ, B and C in float64, straight from the parameters."""
    Lambda = torch.complex(-layer.log_neg_A_real.double().exp(), layer.A_imag.double())
    B, C = (torch.view_as_complex(pair.double()) for pair in (layer.B, layer.C))
    return layer.log_dt.double().exp(), Lambda, B, C


def both_conjugates(layer: S5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dt Λ, dt B and C of all d_state modes, as one system in units of the sampling interval."""
    dt, Lambda, B, C = continuous(layer)
    pairs = ((dt * Lambda, 0), (dt[:, None] * B, 0), (C, 1))
    Lambda, B, C = (torch.cat([x, x.conj()], axis).numpy() for x, axis in pairs)
    return np.diag(Lambda), B, C


def readout(layer: S5, y: np.ndarray) -> Tensor:
    return layer.readout(torch.tensor(y.real))


def gaps(batch: int, time: int) -> Tensor:
    """Intervals between samples over four orders of magnitude, one of them zero."""
    dt = 10 ** torch.empty(batch, time, dtype=torch.float64).uniform_(-2, 2)
    dt[0, time // 2] = 0
    return dt


@torch.no_grad()
def test_begins_as_a_block_diagonal_hippo() -> None:
    torch.manual_seed(0)
    layer = S5(500, 32, blocks=4)
    dt, Lambda, B, C = continuous(layer)
    torch.testing.assert_close(Lambda, legs_nplr(8).Lambda.repeat(4), rtol=1e-6, atol=1e-6)
    assert 1e-3 <= dt.min() <= dt.max() <= 1e-1
    # In the basis of HiPPO B is real, 2 Re(V B) = B₀ ~ N(0, 1/d_state): 16,000 draws; C has parts of that variance.
    V = torch.block_diag(*[legs_nplr(8).V] * 4)
    assert abs(32 * (2 * (V @ B).real).square().mean() - 1) < 4 * np.sqrt(2 / 16000)
    assert abs(32 * C.real.square().mean() - 1) < 4 * np.sqrt(2 / 8000)
    assert abs(32 * C.imag.square().mean() - 1) < 4 * np.sqrt(2 / 8000)


@torch.no_grad()
def test_one_block_is_the_normal_part_of_hippo() -> None:
    N = 8
    _, Lambda, _, _ = continuous(S5(4, N).double())
    V, P = legs_nplr(N).V, (torch.arange(N, dtype=torch.float64) + 0.5).sqrt()
    # Λ was rounded to float32 when the layer was made.
    normal = legs(N).A + torch.outer(P, P)
    torch.testing.assert_close(2 * (V @ torch.diag(Lambda) @ V.mH).real, normal, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("rule", RULES)
@torch.no_grad()
def test_kernel_is_that_of_scipys_discretisation(rule: str) -> None:
    torch.manual_seed(0)
    layer = S5(3, 8, blocks=2, discretization=rule).double()
    A, B, C = both_conjugates(layer)
    A, B, *_ = signal.cont2discrete((A, B, C, np.zeros((3, 3))), 1.0, method=rule)
    expected = np.stack([C @ np.linalg.matrix_power(A, l) @ B for l in range(50)], -1)
    expected[..., 0] += np.diag(layer.D)
    torch.testing.assert_close(layer.kernel(50), torch.tensor(expected.real))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@torch.no_grad()
def test_equals_s5_pytorch() -> None:
    from s5.s5_model import S5SSM

    torch.manual_seed(0)
    layer, u = S5(4, 8, blocks=2, output=None).double(), torch.randn(60, 4, dtype=torch.float64)
    dt, Lambda, B, C = continuous(layer)
    identity = torch.eye(4, dtype=torch.complex64)
    theirs = S5SSM(Lambda, identity, identity, 4, 4, 1e-3, 1e-1, bcInit="dense")
    # It has no conjugate halves, hence the factor 2, and takes B as pairs.
    theirs.Lambda.data, theirs.log_step.data, theirs.D.data = Lambda, dt.log(), layer.D
    theirs.B.data, theirs.C.data = torch.view_as_real(B), 2 * C
    theirs_as_complex128 = torch.view_as_complex(theirs.B.data)
    theirs.get_BC_tilde = lambda: (theirs_as_complex128, theirs.C)
    gap = gaps(1, 60)
    for y, expected in (
        (layer(u[None])[0], theirs(u)),
        (layer(u[None], rate=2.5)[0], theirs(u, step_scale=2.5)),
        (layer(u[None], dt=gap)[0], theirs(u, step_scale=gap[0])),
    ):
        torch.testing.assert_close(y, layer.readout(expected))


@pytest.mark.parametrize("rule", RULES)
@torch.no_grad()
def test_irregular_samples_follow_the_differential_equation(rule: str) -> None:
    torch.manual_seed(0)
    layer, u = S5(3, 8, discretization=rule).double(), torch.randn(1, 30, 3, dtype=torch.float64)
    A, B, C = both_conjugates(layer)
    identity, x, y, dt = np.eye(8), np.zeros(8, complex), [], gaps(1, 30)
    for h, u_t in zip(dt[0].tolist(), u[0].numpy(), strict=True):
        if rule == "zoh":  # e^{h [[A, B u], [0, 0]]} holds u[t] for the time h
            generator = np.zeros((9, 9), complex)
            generator[:8, :8], generator[:8, 8] = A, B @ u_t
            x = (expm(h * generator) @ np.append(x, 1))[:8]
        else:
            x = np.linalg.solve(identity - h / 2 * A, (identity + h / 2 * A) @ x + h * B @ u_t)
        y.append(C @ x + layer.D.numpy() * u_t)
    torch.testing.assert_close(layer(u, dt=dt), readout(layer, np.stack(y))[None])


@torch.no_grad()
def test_equal_steps_are_a_rate() -> None:
    layer, x = S5(4, 8).double(), torch.randn(2, 50, 4, dtype=torch.float64)
    ones = torch.ones(2, 50)
    torch.testing.assert_close(layer(x, dt=ones), layer(x))
    torch.testing.assert_close(layer(x, dt=2.5 * ones), layer(x, rate=2.5))
    torch.testing.assert_close(layer(x, rate=5.0, dt=0.5 * ones), layer(x, rate=2.5))


@torch.no_grad()
def test_a_held_input_may_be_sampled_anywhere() -> None:
    layer, x = S5(4, 8).double(), torch.randn(2, 20, 4, dtype=torch.float64)
    share = torch.rand(2, 20, dtype=torch.float64)
    twice = layer(x.repeat_interleave(2, 1), dt=torch.stack([share, 1 - share], -1).flatten(1))
    torch.testing.assert_close(twice[:, 1::2], layer(x))


@torch.no_grad()
def test_views_agree_on_irregular_samples() -> None:
    layer, x, dt = S5(4, 8).double(), torch.randn(2, 30, 4, dtype=torch.float64), gaps(2, 30)
    y, final = layer.prefill(x, dt=dt)
    torch.testing.assert_close(layer(x, dt=dt), y)
    first, state = layer.prefill(x[:, :11], dt=dt[:, :11])
    second, state = layer.prefill(x[:, 11:], state, dt=dt[:, 11:])
    torch.testing.assert_close(torch.cat([first, second], 1), y)
    torch.testing.assert_close(state.x, final.x)
    state = layer.initial_state(2)
    for t in range(30):
        y_t, state = layer.step(x[:, t], state, dt=dt[:, t])
        torch.testing.assert_close(y_t, y[:, t])
    torch.testing.assert_close(state.x, final.x)


@torch.no_grad()
def test_irregular_samples_are_padded_and_packed() -> None:
    layer, x, dt = S5(4, 8).double(), torch.randn(2, 30, 4, dtype=torch.float64), gaps(2, 30)
    y, state = layer.prefill(x, lengths=torch.tensor([30, 11]), dt=dt)
    alone, end = layer.prefill(x[1:, :11], dt=dt[1:, :11])
    torch.testing.assert_close(y[1:, :11], alone)
    torch.testing.assert_close(state.x[1:], end.x)
    reset = torch.zeros(2, 30, dtype=torch.bool)
    reset[:, 7] = True
    torch.testing.assert_close(layer(x, reset=reset, dt=dt)[:, 7:], layer(x[:, 7:], dt=dt[:, 7:]))


@torch.no_grad()
def test_views_agree_in_single_precision_over_16384_irregular_samples() -> None:
    torch.manual_seed(0)
    layer, x = S5(4, 8), torch.randn(1, 16384, 4)
    dt = torch.rand(1, 16384) * 2
    y, truth = layer(x, dt=dt), S5(4, 8).double()
    truth.load_state_dict(layer.state_dict())
    expected = truth(x.double(), dt=dt.double())
    assert (y - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("rule", RULES)
def test_gradients_of_irregular_samples(rule: str) -> None:
    torch.manual_seed(0)
    layer = S5(3, 4, discretization=rule, output=None).double()
    x = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    dt = (0.1 + gaps(2, 5)).requires_grad_()
    names, values = zip(*layer.named_parameters(), strict=True)

    def run(x: Tensor, dt: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,), {"dt": dt})

    assert torch.autograd.gradcheck(run, (x, dt, *values))


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation makes."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.numel())
        return out


def test_no_tensor_has_time_state_and_input() -> None:
    batch, time, width, modes = 2, 200, 64, 32
    layer, x = S5(width, 2 * modes, output=None), torch.randn(batch, time, width, requires_grad=True)
    for dt in (None, torch.rand(batch, time)):
        with Largest() as largest:
            layer(x, dt=dt).square().sum().backward()
        assert largest.numel <= batch * time * max(width, 2 * modes)


@torch.no_grad()
def test_is_stable_whatever_the_parameters() -> None:
    layer = S5(2, 64)
    for parameter in (layer.log_dt, layer.log_neg_A_real, layer.A_imag):
        parameter.uniform_(-30, 30)
    assert layer.system().A.abs().max() <= 1
    assert layer(torch.randn(1, 500, 2)).isfinite().all()
    assert layer(torch.randn(1, 500, 2), dt=torch.rand(1, 500) * 1e6).isfinite().all()


@pytest.mark.parametrize("options", [{"d_state": 7}, {"d_state": 12, "blocks": 4}, {"blocks": 0}])
def test_blocks_that_do_not_fit_are_refused(options: dict) -> None:
    with pytest.raises(ConfigError, match="blocks"):
        S5(4, **options)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("dt", "message"),
    [
        (torch.ones(2, 5), r"dt must be floating point with shape \(2, 6\)"),
        (torch.ones(2, 6, dtype=torch.int64), "got torch.int64"),
        (-torch.ones(2, 6), "not negative, got values from -1 to -1"),
        (torch.full((2, 6), torch.inf), "finite"),
    ],
)
def test_steps_that_make_no_sense_are_refused(dt: Tensor, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        S5(4)(torch.zeros(2, 6, 4), dt=dt)
