"""Cauchy sums next to their poles and far from them, in rational arithmetic; gradients and threads."""

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from cases import Case
from longwave.ops import cauchy

PLACES = (  # Re w, Im w, ω
    (-1e-9, 40.0, 40.0 + 1e-9),
    (-1e-9, 40.0, -40.0),
    (-1e-12, 1e4, 1e4),
    (-3.0, 4.0, 5.0),  # |w| = |ω|
    (-1e6, 1e-3, 0.0),
    (-1e-12, 3e-12, 1e-12),
    (-0.5, 7.0, 1e8),
    (-1e19, 1e19, 1e-19),
)


class Rational:
    """A complex number of fractions; of arithmetic, what a fraction of a pair needs."""

    def __init__(self, x: complex | tuple[Fraction, Fraction]) -> None:
        self.re, self.im = x if isinstance(x, tuple) else (Fraction(x.real), Fraction(x.imag))

    def __mul__(self, other: "Rational") -> "Rational":
        return Rational((self.re * other.re - self.im * other.im, self.re * other.im + self.im * other.re))

    def over(self, other: "Rational") -> "Rational":
        size = other.re**2 + other.im**2
        return self * Rational((other.re / size, -other.im / size))

    def near(self, actual: complex, scale: float) -> bool:
        error = complex(Fraction(actual.real) - self.re, Fraction(actual.imag) - self.im)
        return abs(error) <= 16 * torch.finfo(torch.float64).eps * scale


def exact(v: complex, w: complex, omega: float) -> tuple[list[Rational], list[float]]:
    """The sum and the gradients of its real part (of v, w and ω), and the sizes that roundings may have."""
    d = [Rational((-Fraction(w.real), Fraction(omega) - sign * Fraction(w.imag))) for sign in (1, -1)]
    u, V = [Rational(1 + 0j).over(z) for z in d], [Rational(v), Rational(v.conjugate())]
    a, b = (V[i] * u[i] for i in (0, 1))
    x, y = (V[i] * u[i] * u[i] for i in (0, 1))
    of_v, of_w = (Rational((x.re + y.re, y.im - x.im)) for x, y in (u, (x, y)))  # conj ∂/∂v + ∂/∂v̄
    sizes = [abs(complex(float(z.re), float(z.im))) for z in d]
    one, two = sum(1 / s for s in sizes), sum(abs(v) / s**2 for s in sizes)
    truths = [Rational((a.re + b.re, a.im + b.im)), of_v, of_w, Rational((x.im + y.im, Fraction(0)))]
    return truths, [abs(v) * one, one, two, two]


@pytest.mark.parametrize("impl", ("reference", "cpu"))
@pytest.mark.parametrize(("alpha", "beta", "omega"), PLACES)
def test_keeps_its_digits_next_to_a_pole_and_far_from_it(impl: str, alpha: float, beta: float, omega: float) -> None:
    w, node = torch.tensor([[complex(alpha, beta)]], dtype=torch.complex128), torch.tensor([omega], dtype=torch.float64)
    for number in (1 + 0j, 1j, -0.3 + 2j):
        leaves = [x.clone().requires_grad_() for x in (torch.full_like(w, number)[None], w, node)]
        value = cauchy(leaves[0], leaves[2], leaves[1], impl=impl).values
        results = (value, *torch.autograd.grad(value.real.sum(), leaves))
        for actual, truth, size in zip(results, *exact(number, complex(alpha, beta), omega), strict=True):
            assert truth.near(complex(actual.item()), size)


def backward(leaves: dict[str, Tensor], threads: int = 1) -> tuple[Tensor, ...]:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        loss = cauchy(**leaves, impl="cpu").values.abs().sum()
        return torch.autograd.grad(loss, [x for x in leaves.values() if x.requires_grad])
    finally:
        torch.set_num_threads(before)


def test_gradients_depend_neither_on_the_threads_nor_on_who_wants_one() -> None:
    tensors, _ = Case("", {"batch": 5, "time": 300, "dim": 7, "modes": 4}).inputs("cauchy")
    leaves = {name: x.requires_grad_() for name, x in tensors.items()}
    of_v, of_omega, of_w = one = backward(leaves)
    for threads in (2, 3):
        assert all(torch.equal(a, b) for a, b in zip(one, backward(leaves, threads), strict=True))
    without = backward({**leaves, "omega": leaves["omega"].detach()})
    assert torch.equal(without[0], of_v)
    assert torch.equal(without[1], of_w)
    (alone,) = backward({name: x if name == "omega" else x.detach() for name, x in leaves.items()})
    assert torch.equal(alone, of_omega)
