"""Operations against independent mathematics: closed forms, SciPy, dense powers."""

import math

import numpy as np
import pytest
import scipy.signal
import torch
from torch import Tensor

from longwave.math import zoh
from longwave.ops import (
    _native,
    cauchy,
    dense_step,
    diagonal_ssm,
    gated_linear,
    gated_norm,
    linear,
    linear_scan,
    long_conv,
    vandermonde,
)

IMPLEMENTATIONS = pytest.mark.parametrize("impl", ("reference", "cpu"))


def ulps(dtype: torch.dtype, n: float) -> float:
    return n * torch.finfo(dtype).eps


@IMPLEMENTATIONS
@pytest.mark.parametrize("size", (0.5, 0.9, 1 - 1e-4, 1.0))
def test_scan_of_a_constant_is_a_geometric_sum(impl: str, size: float) -> None:
    a = torch.polar(torch.tensor([size], dtype=torch.float64), torch.tensor([0.7], dtype=torch.float64))
    t = torch.arange(1, 16385)
    want = (1 - a**t) / (1 - a)
    got = linear_scan(a, torch.ones(1, 16384, 1, dtype=torch.complex128), impl=impl).states[0, :, 0]
    # |a| = 1: every one of t steps rounds a state of size |h| ≤ 2 / |1 − a| once, and t phases of a were rounded once
    assert float((got - want).abs().max()) <= ulps(torch.float64, 16384) * float(want.abs().max())


@IMPLEMENTATIONS
@pytest.mark.parametrize("pole", (0.5, 0.99, -0.999))
def test_scan_equals_lfilter_with_initial_state(impl: str, pole: float) -> None:
    rng = np.random.default_rng(0)
    b, h0 = rng.standard_normal((3, 500)), rng.standard_normal(3)
    want, final = scipy.signal.lfilter([1], [1, -pole], b, zi=pole * h0[:, None])
    got = linear_scan(
        torch.tensor([pole], dtype=torch.float64), torch.tensor(b)[..., None], torch.tensor(h0)[:, None], impl=impl
    )
    scale = float(np.abs(want).max())
    np.testing.assert_allclose(got.states[..., 0], want, rtol=0, atol=500 * 2e-16 * scale)
    np.testing.assert_allclose(pole * got.final_state, final, rtol=0, atol=500 * 2e-16 * scale)


@IMPLEMENTATIONS
def test_bank_equals_scipy_dlsim(impl: str) -> None:
    """A continuous system discretised by SciPy, as dense real matrices; its output reads the state one step later."""
    rng = np.random.default_rng(1)
    A = -0.5 + 1j * rng.uniform(1, 20, 3)
    B, C = rng.standard_normal((2, 3)) + 1j * rng.standard_normal((2, 3))
    dense = np.zeros((6, 6))
    for i, z in enumerate(A):
        dense[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[z.real, -z.imag], [z.imag, z.real]]
    b = np.stack([B.real, B.imag], 1).reshape(6, 1)
    c = 2 * np.stack([C.real, -C.imag], 1).reshape(1, 6)
    a_d, b_d, *_ = scipy.signal.cont2discrete((dense, b, c, 0), 0.03, "zoh")
    u = rng.standard_normal(400)
    _, want, _ = scipy.signal.dlsim((a_d, b_d, c @ a_d, c @ b_d, 0.03), u)
    got = diagonal_ssm(
        torch.tensor(u).reshape(1, -1, 1),
        torch.tensor([0.03], dtype=torch.float64),
        *(torch.tensor(x)[None] for x in (A, B, C)),
        impl=impl,
    ).y
    np.testing.assert_allclose(got[0], want, rtol=0, atol=1e-13 * np.abs(want).max())


@IMPLEMENTATIONS
@pytest.mark.parametrize("dt", (1e-4, 1e-2, 0.5))
def test_vandermonde_equals_sampled_exponentials(impl: str, dt: float) -> None:
    """With zero-order hold, k[l] = 2 Re C B e^{λ dt l} (e^{λ dt} − 1) / λ."""
    A = torch.complex(
        torch.full((1, 8), -0.5, dtype=torch.float64), math.pi * torch.arange(8.0, dtype=torch.float64)[None]
    )
    B = torch.ones_like(A)
    a, b = zoh(torch.tensor([dt], dtype=torch.float64), A, B)
    l = torch.arange(16384, dtype=torch.float64)[:, None]
    want = 2 * (torch.exp(A * dt * l) * torch.tensor(np.expm1(A.numpy() * dt)) / A).sum(1).real
    got = vandermonde(a, b, 16384, impl=impl).kernel[0]
    # the power l of a rounded a carries its rounding l times, and each of l products rounds once
    assert float((got - want).abs().max()) <= ulps(torch.float64, 2 * 16384) * float(B.abs().sum()) * dt


def test_cauchy_equals_scipys_rational_function() -> None:
    """Σ v/(iω − w) over pairs is the transfer function of that partial fraction expansion."""
    w = torch.tensor([[-0.5 + 3j, -2 + 0.1j, -1e-3 + 40j]], dtype=torch.complex128)
    v = torch.tensor([[[1 - 2j, 0.5j, 3.0]]], dtype=torch.complex128)
    omega = torch.linspace(-100, 100, 4001, dtype=torch.float64)
    poles, residues = (torch.cat([x.flatten(), x.conj().flatten()]).numpy() for x in (w, v))
    numerator, denominator = scipy.signal.invres(residues, poles, [])
    want = np.polyval(numerator, 1j * omega.numpy()) / np.polyval(denominator, 1j * omega.numpy())
    got = cauchy(v, omega, w).values[0, 0]
    # near its pole the polynomial, of size 40⁶, is as small as 40⁵ · 10⁻³: its evaluation loses a factor 4 · 10⁴
    np.testing.assert_allclose(got, want, rtol=0, atol=ulps(torch.float64, 4e4 * 6) * np.abs(want).max())


@IMPLEMENTATIONS
def test_long_conv_equals_scipy(impl: str) -> None:
    rng = np.random.default_rng(2)
    u, k = rng.standard_normal((2, 300, 3)), rng.standard_normal((3, 500))
    want = np.stack([scipy.signal.convolve(u[i, :, j], k[j])[:300] for i in range(2) for j in range(3)])
    got = long_conv(torch.tensor(u), torch.tensor(k), impl=impl).y.mT.reshape(6, 300)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-13 * np.abs(want).max())


@IMPLEMENTATIONS
def test_dense_steps_are_scipys_simulation(impl: str) -> None:
    """SciPy reads the state before the position: its C and D are C A and C B + D."""
    rng = np.random.default_rng(3)
    A, B, C, D = rng.standard_normal((5, 5)) / 5, *rng.standard_normal((2, 5)), rng.standard_normal()
    u = rng.standard_normal(20)
    _, want, states = scipy.signal.dlsim((A, B[:, None], (C @ A)[None], [[C @ B + D]], 1), u)
    x, system = torch.zeros(1, 1, 5, dtype=torch.float64), [torch.tensor(np.array([m])) for m in (A, B, C, D)]
    bound = ulps(torch.float64, 20 * 6)  # each of 20 steps rounds a sum of 6 products
    for t in range(20):
        np.testing.assert_allclose(x[0, 0], states[t], rtol=0, atol=bound * np.abs(states).max())
        y, x = dense_step(x, torch.tensor(u[t]).reshape(1, 1), *system, impl=impl)
        np.testing.assert_allclose(y[0], want[t], rtol=0, atol=bound * np.abs(want).max())


@IMPLEMENTATIONS
def test_zero_modes_and_zero_eigenvalues(impl: str) -> None:
    """a = 0 forgets at once: k = (w, 0, 0, …), in every view."""
    zero, w = torch.zeros(2, 1, dtype=torch.complex128), torch.full((2, 1), 1 + 1j, dtype=torch.complex128)
    assert vandermonde(zero, w, 4, impl=impl).kernel.tolist() == [[2.0, 0, 0, 0]] * 2
    u = torch.randn(1, 40, 2, dtype=torch.float64)
    assert torch.equal(diagonal_ssm(u, None, zero, w, torch.ones_like(w), impl=impl).y, 2 * u)
    none = torch.zeros(2, 0, dtype=torch.complex128)
    D = torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert torch.equal(diagonal_ssm(u, None, none, none, none, D, impl=impl).y, D * u)


@pytest.mark.parametrize("native_isa", _native.kernels().available() if _native.available() else [None], indirect=True)
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
def test_slow_modes_keep_their_decay_over_a_long_sequence(dtype: torch.dtype, native_isa: str | None) -> None:
    """An impulse through |a| close to 1: the block form does not round aᵀ once per block."""
    a = torch.tensor([[1 - 2e-5, 1 - 1e-4, 1.0]], dtype=dtype)
    u = torch.zeros(1, 16384, 1, dtype=dtype)
    u[0, 0] = 1
    one = torch.ones_like(a)
    got = diagonal_ssm(u, None, a, one, one, impl="cpu")
    want = a.double() ** 16383
    # each of 1,024 blocks rounds the state once, at random: far below 1,024 times one rounding of aᵀ
    assert float((got.final_state[0] - want).abs().max()) <= math.sqrt(16384 / 16) * torch.finfo(dtype).eps


@pytest.mark.parametrize("native_isa", _native.kernels().available() if _native.available() else [None], indirect=True)
def test_gelu_of_the_gated_linear_map_over_its_whole_range(native_isa: str | None) -> None:
    """One input, weight 1, gates wide open: y = GELU(x), from −40 to 40, and at ±0, ±∞-like sizes."""
    x = torch.cat([torch.linspace(-40, 40, 20001), torch.tensor([0.0, -0.0, 1e-30, -1e-30, 1e4, -1e4])])[:, None]
    weight, bias = torch.tensor([[1.0], [0.0]]), torch.tensor([0.0, 50.0])
    leaf = x.clone().requires_grad_()
    y = gated_linear(leaf, weight, bias, gelu=True, impl="cpu").y
    (slope,) = torch.autograd.grad(y.sum(), leaf)
    wide = x.double().requires_grad_()
    want = wide * 0.5 * torch.special.erfc(-wide / math.sqrt(2))
    (want_slope,) = torch.autograd.grad(want.sum(), wide)
    eps = torch.finfo(torch.float32).eps
    assert bool(((y - want).abs() <= 2 * eps * x.abs()).all())  # Φ within 2 ε of 1, times x
    assert float((slope - want_slope).abs().max()) <= 4 * eps


@pytest.mark.parametrize("native_isa", _native.kernels().available() if _native.available() else [None], indirect=True)
def test_no_bias_is_a_bias_of_zeros_whatever_was_computed_before(native_isa: str | None) -> None:
    x, weight = torch.randn(65, 5), torch.randn(6, 5)
    gated_linear(x, weight, torch.full((6,), 100.0), impl="cpu")  # leaves its bias in the kernel's memory
    assert torch.equal(
        gated_linear(x, weight, None, impl="cpu").y, gated_linear(x, weight, torch.zeros(6), impl="cpu").y
    )


@pytest.mark.parametrize("native_isa", _native.kernels().available() if _native.available() else [None], indirect=True)
@pytest.mark.parametrize("systems", (1, 3))
def test_dense_steps_do_not_read_what_was_computed_before(systems: int, native_isa: str | None) -> None:
    def arguments(state: int) -> list[Tensor]:
        A, B = torch.randn(systems, state, state), torch.randn(systems, state)
        return [torch.randn(50, 3, state), torch.randn(50, 3), A, B, torch.randn(3, state), torch.randn(3)]

    with torch.no_grad():
        small = arguments(5)
        want = dense_step(*small, impl="cpu")
        dense_step(*(x * math.nan for x in arguments(33)), impl="cpu")  # stays in the kernel's memory
        got = dense_step(*small, impl="cpu")
    assert all(map(torch.equal, got, want))
    assert all(bool(x.isfinite().all()) for x in got)


@pytest.mark.parametrize("native_isa", _native.kernels().available() if _native.available() else [None], indirect=True)
def test_gradients_of_many_rows_are_the_sums_over_parts(native_isa: str | None) -> None:
    """More rows than groups of one block each: a group adds up several blocks."""
    rows, x, dy = 3300, *torch.randn(2, 3300, 5, dtype=torch.float64)
    weight, bias = torch.randn(10, 5, dtype=torch.float64), torch.randn(10, dtype=torch.float64)

    def gradients(x: Tensor, dy: Tensor) -> tuple[Tensor, ...]:
        leaves = [weight.clone().requires_grad_(), bias.clone().requires_grad_()]
        return torch.autograd.grad(gated_linear(x, *leaves, gelu=True, impl="cpu").y, leaves, dy)

    parts = [gradients(*part) for part in zip(x.split(100), dy.split(100), strict=True)]
    for whole, *terms in zip(gradients(x, dy), *parts, strict=True):
        # each of the 3,300 additions rounds once, relative to what has been added up
        bound = rows * torch.finfo(torch.float64).eps * sum(term.abs() for term in terms)
        assert bool(((whole - sum(terms)).abs() <= bound).all())


@pytest.mark.parametrize("native_isa", _native.kernels().available() if _native.available() else [None], indirect=True)
@pytest.mark.parametrize("transposed", (False, True))
@pytest.mark.parametrize("sizes", ((64, 1, 1), (131, 770, 97), (1600, 50, 17)))
def test_linear_maps_of_small_integers_are_exact(
    native_isa: str | None, transposed: bool, sizes: tuple[int, int, int]
) -> None:
    """Every sum is an integer far below 2^24, in whatever order: the map, and both of its gradients."""
    rows, inputs, outputs = sizes

    def integers(*shape: int) -> Tensor:
        x = torch.randint(-9, 10, shape[::-1] if transposed else shape, generator=rng).float()
        return (x.mT if transposed else x).requires_grad_()

    rng = torch.Generator().manual_seed(0)
    x, weight, dy = integers(rows, inputs), integers(outputs, inputs), integers(rows, outputs)
    y = linear(x, weight, impl="cpu").y
    gradients = torch.autograd.grad(y, (x, weight), dy)
    wide = [v.detach().long() for v in (x, weight, dy)]
    for got, want in zip((y, *gradients), (wide[0] @ wide[1].T, wide[2] @ wide[1], wide[2].T @ wide[0]), strict=True):
        assert torch.equal(got.long(), want)


@IMPLEMENTATIONS
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
def test_norm_of_what_is_constant_but_for_its_sign(impl: str, dtype: torch.dtype) -> None:
    """Its mean square is its square: y = ± v / √(v² + ε), with gates wide open."""
    v = torch.logspace(-6, 6, 40, dtype=dtype)[:, None] * torch.tensor([1.0, -1, 1], dtype=dtype)
    z = torch.full_like(v, 50)
    y = gated_norm(v / 50, z, torch.ones(3, dtype=dtype), impl=impl).y  # silu(50) = 50
    want = v.double() / torch.sqrt(v.double() ** 2 + 1e-5)
    # products, squares, their mean, the root and the division: some eight roundings
    assert float(((y - want) / want).abs().max()) <= ulps(dtype, 8)
