"""Discretisation: from x' = A x + B u to x[t] = Ā x[t−1] + B̄ u[t], for banks of diagonal systems.

Ā and B̄ are computed in float64 whatever the dtype of the arguments; the caller rounds them once, and every view of
the system (convolution, recurrence, dense matrices) then uses that rounded system. By either rule, Re A ≤ 0 gives
|Ā| ≤ 1.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch

from longwave.shapes import Float, Inexact, Tensor


class Discrete(NamedTuple):
    """The discrete-time system x[t] = A x[t−1] + B u[t], elementwise; float64, or complex128 if complex."""

    A: Inexact[Tensor, "dim modes"]
    B: Inexact[Tensor, "dim modes"]


def zoh(dt: Float[Tensor, " dim"], A: Inexact[Tensor, "dim modes"], B: Inexact[Tensor, "dim modes"]) -> Discrete:
    """Zero-order hold, exact for an input that is constant over each step: Ā = e^{dt A},  B̄ = A⁻¹(e^{dt A} − 1) B.

    Args:
        dt: step size of each channel, > 0.
        A: continuous-time eigenvalues; zero is allowed, B̄ is then dt B.
        B: input weights.

    Returns:
        Discrete(A=Ā, B=B̄).

    Numerics: B̄ = dt · `exprel` (dt A) · B, within a few ε of the true value at every dt A, and so are its gradients.

    Source: Gu et al. 2022 (S4D), §3.1; any text on sampled systems, such as Franklin, Powell and Workman.

    Example:
        >>> zoh(torch.ones(1), torch.tensor([[0.0, -1.0]]), torch.ones(1, 2))
        Discrete(A=tensor([[1.0000, 0.3679]], dtype=torch.float64), B=tensor([[1.0000, 0.6321]], dtype=torch.float64))
    """
    dt, A, B = _double(dt)[:, None], _double(A), _double(B)
    return Discrete(torch.exp(dt * A), dt * exprel(dt * A) * B)


def bilinear(dt: Float[Tensor, " dim"], A: Inexact[Tensor, "dim modes"], B: Inexact[Tensor, "dim modes"]) -> Discrete:
    """The bilinear (trapezoidal, Tustin) rule: Ā = (1 + dt A/2)/(1 − dt A/2),  B̄ = dt B/(1 − dt A/2).

    Args:
        dt: step size of each channel, > 0.
        A: continuous-time eigenvalues.
        B: input weights.

    Returns:
        Discrete(A=Ā, B=B̄).

    Numerics: for |dt A| ≫ 2 the rule sends Ā towards −1, a slow alternating mode where the true one is fast.

    Source: Gu et al. 2022 (S4), equation 3; Tustin 1947.
    """
    dt, A, B = _double(dt)[:, None], _double(A), _double(B)
    denominator = 1 - dt * A / 2
    return Discrete((1 + dt * A / 2) / denominator, dt * B / denominator)


# name -> rule
DISCRETIZATIONS: Mapping[str, Callable[[Tensor, Tensor, Tensor], Discrete]] = MappingProxyType(
    {"zoh": zoh, "bilinear": bilinear}
)


def expm1(z: Inexact[Tensor, "..."]) -> Inexact[Tensor, "..."]:
    """e^z − 1 for real or complex z, without the cancellation near z = 0.

    With z = a + ib:  Re = expm1(a) cos b − 2 sin²(b/2),  Im = e^a sin b.

    Args:
        z: real or complex numbers.

    Returns:
        e^z − 1 in the dtype of z.

    Numerics: the error is a few ε of |e^z − 1|; where the two terms of the real part cancel, on the curve
    |e^z| cos b = 1, the real part alone has no relative accuracy.
    """
    if not z.is_complex():
        return torch.expm1(z)
    a, b = z.real, z.imag
    return torch.complex(torch.expm1(a) * b.cos() - 2 * (b / 2).sin().square(), a.exp() * b.sin())


def exprel(z: Inexact[Tensor, "..."]) -> Inexact[Tensor, "..."]:
    """The relative exponential (e^z − 1)/z, also known as φ₁, with its limit 1 at z = 0; smooth everywhere.

    Args:
        z: real or complex numbers, float64 or complex128.

    Returns:
        (e^z − 1)/z in the dtype of z.

    Numerics: `expm1` (z)/z, and for |z| < 0.1 the Taylor series Σ z^k/(k+1)! to k = 10, whose remainder is below
    1e-20: the quotient's value would do there, but its derivative loses ε/|z|.
    """
    near_zero = z.abs() < 0.1
    # Each branch gets arguments on which its gradient is finite, since `where` multiplies the other by zero.
    near, far = torch.where(near_zero, z, 0), torch.where(near_zero, 1, z)
    series = one = torch.ones_like(z)
    for k in range(11, 1, -1):
        series = torch.addcmul(one, near, series, value=1 / k)
    return torch.where(near_zero, series, expm1(far) / far)


def _double(x: Inexact[Tensor, "..."]) -> Inexact[Tensor, "..."]:
    """x in float64, or complex128."""
    return x.to(torch.complex128 if x.is_complex() else torch.float64)
