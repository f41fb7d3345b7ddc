"""Rational transfer functions against SciPy's filters and dense matrices."""

import math

import pytest
import torch
from scipy import signal

from longwave.errors import ConfigError, ShapeError
from longwave.math import StateSpace, rational


def coefficients(n: int, dim: int = 3, total: float = 0.95) -> tuple[torch.Tensor, torch.Tensor]:
    """Stable a, Σ|a| = total, and any b."""
    g = torch.Generator().manual_seed(n)
    a, b = torch.randn(2, dim, n, dtype=torch.float64, generator=g)
    return total * a / a.abs().sum(-1, keepdim=True), b


def filtered(a: torch.Tensor, b: torch.Tensor, length: int) -> torch.Tensor:
    impulse = [1.0] + [0.0] * (length - 1)
    rows = zip(a.tolist(), b.tolist(), strict=True)
    return torch.stack([torch.tensor(signal.lfilter(b_h, [1.0, *a_h], impulse)) for a_h, b_h in rows])


@pytest.mark.parametrize(("n", "length"), [(1, 1), (1, 2), (4, 3), (5, 100), (64, 1000)])
def test_response_is_scipys_filter(n: int, length: int) -> None:
    a, b = coefficients(n)
    torch.testing.assert_close(rational.response(a, b, length), filtered(a, b, length))


@pytest.mark.parametrize("n", [1, 2, 4, 6])
@pytest.mark.parametrize("length", [15, 16, 17, 1000])
def test_response_of_a_slow_multiple_pole_is_its_closed_form(n: int, length: int) -> None:
    """1/(1 − r z⁻¹)ⁿ = Σ C(t+n−1, n−1) rᵗ z⁻ᵗ."""
    r = 31 / 32
    a = torch.tensor([[math.comb(n, k) * (-r) ** k for k in range(1, n + 1)]], dtype=torch.float64)
    phi = torch.tensor([[math.comb(t + n - 1, n - 1) * r**t for t in range(length)]], dtype=torch.float64)
    # Each of n + 1 roundings, of a term of at most max|a| max φ, lives on as φ does.
    budget = (n + 1) * torch.finfo(torch.float64).eps * (1 + a.abs().sum()) * phi.sum() * phi.max()
    assert (rational.reciprocal(a, length) - phi).abs().max() <= budget
    assert n == 6 or budget <= 1e-4 * phi.max()


def test_response_is_differentiable() -> None:
    a, b = coefficients(3, dim=2)
    inputs = [x.requires_grad_() for x in (a, b)]
    assert torch.autograd.gradcheck(lambda a, b: rational.response(a, b, 37), inputs)


@pytest.mark.parametrize(("n", "length"), [(1, 2), (5, 6), (5, 17), (5, 64), (64, 65)])
def test_a_circular_numerator_is_a_system(n: int, length: int) -> None:
    a, b = coefficients(n)
    q = rational.circular_response(a, b, length)
    deployed = rational.deployed_numerator(a, q)
    torch.testing.assert_close(filtered(a, deployed, length), q)
    torch.testing.assert_close(rational.circular_numerator(a, deployed, length), b)
    # Row vectors: b̃ = b (I − Aᴸ), with the companion matrix that has −a in its first row and b on its state.
    A = torch.linalg.matrix_power(rational.companion(a), length)
    torch.testing.assert_close((deployed[:, None] @ (torch.eye(n, dtype=torch.float64) - A))[:, 0], b)
    untransposed = torch.linalg.solve(torch.eye(n, dtype=torch.float64) - A, b[..., None])[..., 0]
    if n > 1 and length < 20:
        assert (filtered(a, untransposed, length) - q).abs().max() > 1e-5 * q.abs().max()


def test_poles_are_roots() -> None:
    a = torch.tensor([[-1.5, 0.5 + 0.06], [0.0, 4.0]], dtype=torch.float64)
    torch.testing.assert_close(rational.spectral_radius(a), torch.tensor([0.8, 2.0], dtype=torch.float64))


def test_state_spaces_are_rational() -> None:
    g = torch.Generator().manual_seed(0)
    A = 0.3 * torch.randn(3, 5, 5, dtype=torch.float64, generator=g)
    B, C, D = (torch.randn(shape, dtype=torch.float64, generator=g) for shape in ((3, 5, 1), (3, 1, 5), (3, 1, 1)))
    system = StateSpace(A, B, C, D)
    a, b, D = rational.to_rational(system)
    k = torch.cat([D[:, None], rational.response(a, b, 59)], 1)
    torch.testing.assert_close(k, system.impulse_response(60)[:, 0, 0])


def test_mistakes_are_named() -> None:
    a, b = coefficients(4)
    with pytest.raises(ConfigError, match="length=4 must exceed the state size 4"):
        rational.circular_response(a, b, 4)
    with pytest.raises(ShapeError, match="scalar systems"):
        rational.to_rational(StateSpace(*(torch.zeros(2, 2, dtype=torch.float64) for _ in range(4))))
