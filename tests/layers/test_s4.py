"""S4: what it begins with, its discretisation by SciPy, its kernel against dense powers, and S4D as its rank-0 case."""

from typing import Any

import pytest
import torch
from scipy import signal
from torch import Tensor

from longwave.errors import ConfigError
from longwave.layers import S4, S4D, LTIState
from longwave.math import NPLR_FORMS, legs, legs_nplr


def hippo_layer(dt: float, d_state: int, dtype: torch.dtype = torch.float64) -> S4:
    torch.manual_seed(0)
    return S4(2, d_state, dt_min=dt, dt_max=dt, output=None).to(dtype)


def dense(layer: S4, h: int) -> tuple[Tensor, Tensor, Tensor]:
    """A, B, C of a channel in the basis of polynomials, from the definition of LegS; C from the parameter."""
    A, B = legs(2 * layer.C.shape[1])
    V = legs_nplr(len(B)).V
    C = 2 * (torch.view_as_complex(layer.C[h].double()) @ V.mH).real
    return A, B, C


@torch.no_grad()
def test_begins_as_hippo_legs() -> None:
    layer = hippo_layer(0.1, 16)
    Lambda, P, B, _ = legs_nplr(16)
    for h in range(2):
        got = torch.complex(-layer.log_neg_A_real[h].exp(), layer.A_imag[h])
        torch.testing.assert_close(got, Lambda, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(torch.view_as_complex(layer.P[h]), P, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(torch.view_as_complex(layer.B[h]), B, rtol=1e-6, atol=1e-6)
    assert torch.view_as_complex(S4(2, 16, B_clip=2.0).B).abs().max() <= 2.0 * (1 + 1e-6)


@pytest.mark.parametrize("rate", [1.0, 2.5])
@torch.no_grad()
def test_kernel_is_that_of_scipys_bilinear_rule_for_the_dense_matrices(rate: float) -> None:
    layer = hippo_layer(0.05, 8)
    kernel = layer.kernel(60, rate)
    for h in range(2):
        A, B, C = dense(layer, h)
        system = (A.numpy(), B[:, None].numpy(), C[None].numpy(), [[0.0]])
        discrete: Any = signal.cont2discrete(system, 0.05 * rate, "bilinear")
        Ad, x, k = torch.tensor(discrete[0]), torch.tensor(discrete[1])[:, 0], []
        for _ in range(60):
            k.append(C @ x)
            x = Ad @ x
        expected = torch.stack(k)
        expected[0] += layer.D[h]
        # Λ, P and B went through float32 when they became parameters.
        assert (kernel[h] - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("d_state", [64, 256])
@pytest.mark.parametrize("dt", [1e-4, 1e-2, 0.1])
@torch.no_grad()
def test_kernel_in_float32_is_that_of_dense_powers(dt: float, d_state: int) -> None:
    """At length 16,384, against float64 powers of the matrices of the exact, unrounded system."""
    layer = hippo_layer(dt, d_state, torch.float32)
    exact = hippo_layer(dt, d_state, torch.float32).double().to_state_space()
    doubled, columns, power = 1, exact.B, exact.A
    while doubled < 16384:
        columns, power, doubled = torch.cat([columns, power @ columns], -1), power @ power, 2 * doubled
    truth = (exact.C @ columns)[:, 0]
    truth[:, :1] += exact.D[:, 0]
    assert (layer.kernel(16384).double() - truth).abs().max() <= 1e-6 * truth.abs().max()


@torch.no_grad()
def test_without_the_low_rank_term_it_is_s4d() -> None:
    torch.manual_seed(0)
    layer, diagonal = S4(4, 8).double().eval(), S4D(4, 8, discretization="bilinear").double().eval()
    layer.P.zero_()
    diagonal.load_state_dict({name: value for name, value in layer.state_dict().items() if name != "P"})
    x = torch.randn(2, 300, 4, dtype=torch.float64)
    torch.testing.assert_close(layer(x), diagonal(x))
    torch.testing.assert_close(layer.kernel(300), diagonal.kernel(300))
    torch.testing.assert_close(layer.prefill(x)[1][0], diagonal.prefill(x)[1][0])


@pytest.mark.parametrize("rank", [0, 2, 3])
@torch.no_grad()
def test_takes_a_low_rank_term_of_any_rank(rank: int) -> None:
    torch.manual_seed(0)
    layer = S4(4, 8, output=None).double()
    layer.P = torch.nn.Parameter(torch.randn(4, 4, rank, 2, dtype=torch.float64))
    x, state = torch.randn(2, 150, 4, dtype=torch.float64), torch.randn_like(layer.initial_state(2).x)
    y, final = layer._scan(layer.system(), x, state, None, None)
    system = layer.to_state_space()
    truth, end = system.simulate(x.mT[..., None], torch.view_as_real(state).flatten(-2))
    torch.testing.assert_close(y, truth[..., 0].mT)
    torch.testing.assert_close(torch.view_as_real(final).flatten(-2), end)
    torch.testing.assert_close(layer.kernel(150), system.impulse_response(150)[:, 0, 0])
    after = LTIState(state)
    for u_t in x.unbind(1):
        _, after = layer.step(u_t, after)
    torch.testing.assert_close(after.x, final)


class KernelOf(torch.nn.Module):
    """A layer's kernel as a function of its parameters."""

    def __init__(self, layer: S4) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, length: int) -> Tensor:
        return self.layer.kernel(length)


@pytest.mark.parametrize("rank", [1, 2])
def test_gradients_of_the_kernel(rank: int) -> None:
    """Around the longest table of powers, 64 positions."""
    torch.manual_seed(0)
    layer = S4(2, 4, dt_min=0.02, dt_max=0.2, output=None).double()
    layer.P = torch.nn.Parameter(torch.randn(2, 2, rank, 2, dtype=torch.float64))
    module = KernelOf(layer)
    names, values = zip(*module.named_parameters(), strict=True)

    def kernel(*xs: Tensor) -> Tensor:
        return torch.func.functional_call(module, dict(zip(names, xs, strict=True)), (150,))

    assert torch.autograd.gradcheck(kernel, tuple(x.detach().requires_grad_() for x in values), fast_mode=True)


@torch.no_grad()
def test_is_stable_whatever_the_parameters() -> None:
    torch.manual_seed(0)
    layer = S4(8, 4).double()
    for parameter in layer.parameters():
        parameter.uniform_(-5, 5)
    assert layer.to_state_space().poles().abs().max() < 1


@pytest.mark.parametrize("span", [1, 2, 63, 64, 65, 128, 200])
@torch.no_grad()
def test_resets_and_lengths_around_the_size_of_a_block(span: int) -> None:
    torch.manual_seed(0)
    layer, x = S4(3, 6).double().eval(), torch.randn(2, 400, 3, dtype=torch.float64)
    reset, lengths = torch.zeros(2, 400, dtype=torch.bool), torch.tensor([span + 130, span])
    reset[0, span] = reset[1, 0] = reset[0, 399] = True
    start = LTIState(torch.randn_like(layer.initial_state(2).x))
    y, state = layer.prefill(x, start, lengths=lengths, reset=reset)
    for row, begin, end in ((0, span, span + 130), (1, 0, span)):
        alone, final = layer.prefill(x[row : row + 1, begin:end])
        torch.testing.assert_close(y[row, begin:end], alone[0])
        torch.testing.assert_close(state[0][row], final[0][0])
    before, _ = layer.prefill(x[:1, :span], LTIState(start.x[:1]))
    torch.testing.assert_close(y[0, :span], before[0])


@pytest.mark.parametrize("length", [0, 1, 2, 3, 17])
@torch.no_grad()
def test_kernel_of_any_length(length: int) -> None:
    layer = hippo_layer(0.1, 4)
    torch.testing.assert_close(layer.kernel(length), layer.kernel(100)[:, :length])


@pytest.mark.parametrize("dt", [1e-12, 1e4])
def test_extreme_steps_stay_finite(dt: float) -> None:
    layer = S4(3, 64, dt_min=dt, dt_max=dt)
    layer(torch.randn(1, 300, 3)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
    assert layer.kernel(300).isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"), [({"d_state": 5}, "even"), ({"B_clip": 0.0}, "B_clip=0.0"), ({"measure": "leg"}, "'legs'")]
)
def test_mistakes(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        S4(4, **options)


@torch.no_grad()
@pytest.mark.parametrize("measure", NPLR_FORMS)
def test_every_measure_has_a_kernel_of_its_dense_powers(measure: str) -> None:
    torch.manual_seed(0)
    layer = S4(3, 16, measure=measure).double()
    system = layer.to_state_space()
    truth = system.impulse_response(1000)[:, 0, 0]
    assert (layer.kernel(1000) - truth).abs().max() <= 1e-12 * truth.abs().max()
    assert torch.linalg.eigvals(system.A).abs().max() < 1
