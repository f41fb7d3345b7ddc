"""The selective scan and the short convolution against other mathematics, and at the ends of the number range."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv1d, silu, softplus

from longwave.ops import _native, linear_scan, selective_scan, short_conv
from longwave.testing import make_inputs

IMPLEMENTATIONS = pytest.mark.parametrize("impl", ("reference", "cpu"))
PRECISIONS = pytest.mark.parametrize("dtype", (torch.float64, torch.float32), ids=str)
ISAS = pytest.mark.parametrize(
    "native_isa", _native.kernels().available() if _native.available() else [None], indirect=True
)


def exponentials(x: Tensor, native_isa: str | None = None, is_complex: bool = False) -> Tensor:
    """exp(x) as the scan computes it: the state after one position with dt = 1 and no input."""
    A, one = x[:, None], torch.ones(1, len(x), 1, dtype=x.dtype)
    zero = torch.zeros(1, 1, len(x), dtype=x.real.dtype)
    weights = torch.zeros(1, 1, 1, 1, dtype=x.dtype)
    return selective_scan(zero, zero + 1, A, weights, weights, None, None, None, one, impl="cpu").final_state[0, :, 0]


@ISAS
@PRECISIONS
def test_exponentials_are_right_to_a_unit_in_the_last_place(native_isa: str | None, dtype: torch.dtype) -> None:
    top = math.log(torch.finfo(dtype).max) - 1
    x = torch.cat(
        [torch.linspace(-top + 4, top, 20_001), torch.linspace(-1.5, 1.5, 20_001), -(10.0 ** -torch.arange(1, 20))]
    )
    x = x.to(dtype)
    truth = x.double().exp()
    error = (exponentials(x, native_isa).double() / truth - 1).abs() / torch.finfo(dtype).eps
    # One rounding of x log2(e) in x's own units in the last place, the polynomial, and the last one.
    assert bool((error <= 1.5 + 2 * x.double().abs()).all())
    assert float(error[x.abs() <= 1].max()) <= (1.5 if dtype == torch.float32 else 2.5)


@ISAS
@PRECISIONS
def test_phases_are_right_to_units_in_the_last_place(native_isa: str | None, dtype: torch.dtype) -> None:
    x = torch.cat([torch.linspace(-4000, 4000, 20_001), torch.linspace(-4, 4, 20_001)]).to(dtype)
    turned = exponentials(torch.complex(torch.zeros_like(x), x), native_isa)
    error = (turned.to(torch.complex128) - torch.polar(torch.ones_like(x).double(), x.double())).abs()
    assert float(error.max()) <= 3 * torch.finfo(dtype).eps


@ISAS
@PRECISIONS
def test_exponents_beyond_the_numbers(native_isa: str | None, dtype: torch.dtype) -> None:
    x = torch.tensor([-1e4, -torch.inf, 1e4, torch.inf, torch.nan, 0.0], dtype=dtype)
    assert torch.equal(exponentials(x, native_isa)[:4], torch.tensor([0, 0, torch.inf, torch.inf], dtype=dtype))
    assert exponentials(x, native_isa)[4].isnan()
    assert exponentials(x, native_isa)[5] == 1


def softplus_slope(x: Tensor) -> Tensor:
    return torch.where(x > 20, 1, x.sigmoid())


def silu_slope(x: Tensor) -> Tensor:
    return x.sigmoid() * (1 + x * (-x).sigmoid())  # torch's own takes 1 − σ, which cancels


@ISAS
@PRECISIONS
def test_gates_and_steps_everywhere(native_isa: str | None, dtype: torch.dtype) -> None:
    x = torch.cat([torch.linspace(-90, 90, 4001), torch.tensor([20.0, 20.000002, -0.0, 1e30, -1e30, torch.inf])]).to(
        dtype
    )
    leaf = x[None, None].clone().requires_grad_()
    one = torch.ones(len(x), 1, dtype=dtype)
    still = torch.zeros_like(one)
    # With A = 0 and B = C = 1 the output for u = 1 is dt; with D = 1 and dt = 0 it is the gate.
    for actual, exact, derivative in (
        (
            selective_scan(torch.ones_like(leaf), leaf, still, one, one, delta_softplus=True, impl="cpu").y,
            softplus,
            softplus_slope,
        ),
        (
            selective_scan(torch.ones_like(leaf), still.mT[None], still, one, one, one[:, 0], leaf, impl="cpu").y,
            silu,
            silu_slope,
        ),
    ):
        (slope,) = torch.autograd.grad(actual.nan_to_num().sum(), leaf)
        wide = x.double()
        truth, want = exact(wide), derivative(wide)
        actual, ends = actual.detach(), x.isfinite()
        error = (actual[0, 0].double() - truth).abs()[ends] / (truth.abs()[ends] + torch.finfo(dtype).tiny)
        # Where the result is e^x, |x| units in the last place are a rounding of x.
        tame = (x.abs() <= 20)[ends]
        assert float(error[tame].max()) <= 4 * torch.finfo(dtype).eps
        assert float((actual[0, 0].double() - truth).abs()[ends & (x < -20)].max()) <= torch.finfo(dtype).eps * 1e-6
        assert float((slope[0, 0].double() - want).abs()[ends].max()) <= 4 * torch.finfo(dtype).eps


@IMPLEMENTATIONS
@pytest.mark.parametrize("states", (1, 16, 256))
def test_constant_weights_are_a_geometric_sum(impl: str, states: int) -> None:
    """h[t] = dt b Σ_k e^(k dt A) at every position up to 4,096."""
    time, dt = 4096 if impl == "cpu" else 300, 0.01
    A = -torch.linspace(0.01, 50, states, dtype=torch.float64)[None]
    b = torch.randn(1, states, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    u = torch.ones(1, time, 1, dtype=torch.float64)
    y = selective_scan(u, dt * u, A, b, torch.ones_like(b), impl=impl).y[0, :, 0]
    t = torch.arange(1, time + 1, dtype=torch.float64)[:, None]
    want = (dt * b * torch.expm1(t * dt * A) / torch.expm1(dt * A)).sum(1)
    # the sum's condition: the smallest exponent, 1e-4, is known to ε / 1e-4
    assert float((y - want).abs().max()) <= 4e4 * torch.finfo(torch.float64).eps * float(want.abs().max())


@IMPLEMENTATIONS
def test_equals_the_linear_scan_of_its_exponentials(impl: str) -> None:
    u, delta, A, B, C, *_ = make_inputs("selective_scan", batch=2, time=200, dim=6, modes=4, groups=2).tensors.values()
    a = torch.exp(delta[..., None] * A)
    B, C = (x.repeat_interleave(3, 2) for x in (B, C))
    b = (delta * u)[..., None] * B
    h = linear_scan(a.flatten(2), b.flatten(2)).states.unflatten(2, (6, 4))
    got = selective_scan(u, delta, A, B[:, :, ::3], C[:, :, ::3], impl=impl)
    torch.testing.assert_close(got.y, 2 * (h * C).sum(-1).real)
    torch.testing.assert_close(got.final_state, h[:, -1])


@IMPLEMENTATIONS
@pytest.mark.parametrize("op", ("selective_scan", "short_conv"))
def test_what_stands_in_padding_is_never_seen(op: str, impl: str) -> None:
    tensors, _ = make_inputs(op, batch=2, time=70, dim=5, modes=4, is_complex=False)
    function = selective_scan if op == "selective_scan" else short_conv
    sequences = [n for n, x in tensors.items() if x.ndim >= 3 and x.shape[1] == 70]
    seq_idx = torch.zeros(2, 70, dtype=torch.int32)
    seq_idx[0, 40:] = 1
    seq_idx[:, [0, 7, 39, 40, 69]] = -1
    results = []
    for filling in (0.0, math.nan):
        leaves = {n: x.clone() for n, x in tensors.items()}
        for name in sequences:
            leaves[name][seq_idx < 0] = filling
        leaves = {n: x.requires_grad_() for n, x in leaves.items()}
        y, final = function(*leaves.values(), seq_idx=seq_idx, impl=impl)
        grads = torch.autograd.grad(y.square().sum() + final.square().sum(), list(leaves.values()))
        results.append([y, final, *grads])
        assert all(not g[seq_idx < 0].any() for n, g in zip(leaves, grads, strict=True) if n in sequences)
    assert not results[0][0][seq_idx < 0].any()
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


@IMPLEMENTATIONS
@pytest.mark.parametrize("width", (1, 2, 3, 4, 7))
def test_short_convolution_equals_torch(impl: str, width: int) -> None:
    x, weight, bias, state = make_inputs("short_conv", batch=2, time=150, dim=9, modes=width).tensors.values()
    line = torch.cat([state, x.mT], 2)
    y, final = short_conv(x, weight, bias, state, impl=impl)
    torch.testing.assert_close(y.mT, conv1d(line, weight[:, None], bias, groups=9))
    assert torch.equal(final, line[..., 150:])


@IMPLEMENTATIONS
@pytest.mark.parametrize("op", ("selective_scan", "short_conv"))
def test_optional_arguments_left_out_are_zeros_and_ones(op: str, impl: str) -> None:
    tensors, _ = make_inputs(op, batch=2, time=9, dim=5, modes=3, is_complex=False)
    function = selective_scan if op == "selective_scan" else short_conv
    needed = 5 if op == "selective_scan" else 2
    for present in tuple(tensors)[needed:]:
        given = {n: x.requires_grad_() for n, x in tensors.items() if n in (*tuple(tensors)[:needed], present)}
        neutral = {n: x.detach() if n in given else 0 * x.detach() for n, x in tensors.items()}
        if "z" in neutral and present != "z":
            neutral["z"] = torch.full_like(neutral["z"], 1e9)  # silu(z) = z there
        scale = 1e9 if "z" in neutral and present != "z" else 1
        y, final = function(**given, impl=impl)
        want, want_final = function(*neutral.values(), impl=impl)
        torch.testing.assert_close(y * scale, want)
        torch.testing.assert_close(final, want_final)
        grads = torch.autograd.grad(y.sum() + final.sum(), list(given.values()))
        assert all(g.shape == x.shape for g, x in zip(grads, given.values(), strict=True))


def test_transformers_plain_scan_gives_the_same() -> None:
    from transformers.models.mamba import modeling_mamba

    given = make_inputs("selective_scan", batch=2, time=50, dim=8, modes=4, is_complex=False).tensors
    u, delta, A, B, C, D, z, bias, _ = (x.float().double() for x in given.values())  # it rounds B to single precision
    sequences = [x.mT for x in (u, delta)], [x[:, :, 0].mT for x in (B, C)]
    y, final = modeling_mamba.mamba_selective_scan(
        *sequences[0], A, *sequences[1], D, z.mT, bias, delta_softplus=True, return_last_state=True
    )
    got = selective_scan(u, delta, A, B, C, D, z, bias, delta_softplus=True)
    torch.testing.assert_close(got.y, y.mT)
    torch.testing.assert_close(got.final_state, final)
