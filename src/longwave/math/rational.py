"""Rational transfer functions: H(z) = D + Σ b_k z⁻ᵏ / (1 + Σ a_k z⁻ᵏ), k = 1 … n, one for each channel, in float64.

The impulse response is D at lag 0 and q[l−1] at lag l ≥ 1, where q is the power series of b(z)/(1, a)(z), with
b(z) = Σ b_k z^−(k−1). A training works with a circular form of it, of length L: at the L-th roots of unity
q̃ = b̃ / (1, a), whose inverse Fourier transform costs one FFT, whatever n. q̃ is a power series cut at L lags too, that
of the deployed numerator b: the same system, if b̃ is understood together with its L.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F

from longwave.errors import ConfigError, ShapeError
from longwave.math.statespace import StateSpace
from longwave.shapes import Float, Tensor

_BLOCK = 16  # values of a power series that are made at once


class Rational(NamedTuple):
    """H(z) = D + Σ b_k z⁻ᵏ / (1 + Σ a_k z⁻ᵏ), for every channel."""

    a: Float[Tensor, "dim state"]
    b: Float[Tensor, "dim state"]
    D: Float[Tensor, " dim"]


def circular_response(
    a: Float[Tensor, "dim state"], b: Float[Tensor, "dim state"], length: int
) -> Float[Tensor, "dim length"]:
    """q̃ = IDFT(DFT(b̃) / DFT(1, a)), the impulse response from lag 1 on, of a circular numerator.

    Args:
        a: denominator, a_1 first; the 1 before it is implied.
        b: circular numerator b̃, b̃_1 first.
        length: L, the length of the transforms, above n.

    Returns:
        q̃, q̃[l−1] at lag l = 1 … L.

    Raises:
        ConfigError: L ≤ n.

    Numerics: float64. Infinite if a pole is one of the L-th roots of unity.

    Source: Parnichkun et al., 2024, State-Free Inference of State-Space Models: The Transfer Function Approach,
        arXiv:2405.06147. There b̃_1 belongs to z⁻¹, so that lag L falls on lag 0; here no lag is aliased.

    Example:
        >>> circular_response(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]), 4)
        tensor([[3., 4., 0., 0.]], dtype=torch.float64)
    """
    if length <= a.shape[-1]:
        raise ConfigError(f"length={length} must exceed the state size {a.shape[-1]}: all coefficients enter the FFT")
    numerator, denominator = (torch.fft.rfft(x.double(), length) for x in (b, _monic(a)))
    return torch.fft.irfft(numerator / denominator, length)


def deployed_numerator(a: Float[Tensor, "dim state"], q: Float[Tensor, "dim length"]) -> Float[Tensor, "dim state"]:
    """b of the system whose impulse response from lag 1 on begins with q: the first n coefficients of (1, a) ∗ q.

    Args:
        a: denominator.
        q: at least n values, as `circular_response` or `response` return them.

    Returns:
        b, with `response` (a, b, L) = q.

    Numerics: float64; no linear system is solved, so poles near the unit circle do no harm.
    """
    n = a.shape[-1]
    return _product(_monic(a), q.double()[:, :n], n)


def circular_numerator(
    a: Float[Tensor, "dim state"], b: Float[Tensor, "dim state"], length: int
) -> Float[Tensor, "dim state"]:
    """b̃ for transforms of this length: the inverse of `deployed_numerator` after `circular_response`.

    Args:
        a: denominator.
        b: deployed numerator.
        length: L > n.

    Returns:
        b̃, n values: b, and what the product (1, a) ∗ q, q cut at L, has from its coefficient L on, wrapped around.

    Numerics: float64; q, cut at L, must be finite, which an unstable system may not be.
    """
    product = _product(_monic(a), response(a, b, length), length + a.shape[-1])
    return b.double() + product[:, length:]


def response(a: Float[Tensor, "dim state"], b: Float[Tensor, "dim state"], length: int) -> Float[Tensor, "dim length"]:
    """q, the first values of the power series b(z) / (1, a)(z): the impulse response from lag 1 on.

    It obeys q[t] + Σ a_k q[t−k] = b[t], with b beginning at t = 0: for a block of values L q = b − H q_before, where
    L is a triangular Toeplitz matrix, and H has the coefficients that reach back to the n values before.

    Args:
        a: denominator.
        b: deployed numerator.
        length: number of lags, any.

    Numerics: float64, by forward substitution, with the roundings of the recurrence itself, ε Σ|a| max|q| in each
        value, which live on as the system does. Newton's iteration for power series multiplies them by the series
        whenever it doubles, and an inverse of L does so once: of many slow poles they leave nothing right.

    Example:
        >>> response(torch.tensor([[-0.5]]), torch.tensor([[2.0]]), 4)
        tensor([[2.0000, 1.0000, 0.5000, 0.2500]], dtype=torch.float64)
    """
    n, blocks = a.shape[-1], -(-length // _BLOCK)
    back = torch.arange(_BLOCK, device=a.device)[:, None] - torch.arange(-n, _BLOCK, device=a.device)
    reach = torch.where((back >= 0) & (back <= n), _monic(a)[:, back.clamp(0, n)], 0)
    H, L = reach[:, :, :n], reach[:, :, n:]
    driven = _fit(b.double(), blocks * _BLOCK).unflatten(1, (blocks, _BLOCK))[..., None]
    before, q = reach.new_zeros(len(a), n, 1), [reach.new_zeros(len(a), 0, 1)]
    for b_block in driven.unbind(1):
        q.append(torch.linalg.solve_triangular(L, b_block - H @ before, upper=False, unitriangular=True))
        before = torch.cat([before, q[-1]], 1)[:, -n:]
    return torch.cat(q, 1)[:, :length, 0]


def reciprocal(a: Float[Tensor, "dim state"], length: int) -> Float[Tensor, "dim length"]:
    """φ, the first values of the power series 1 / (1 + Σ a_k z⁻ᵏ); a `response`.

    Args:
        a: denominator.
        length: number of values.

    Example:
        >>> reciprocal(torch.tensor([[-0.5]]), 4)
        tensor([[1.0000, 0.5000, 0.2500, 0.1250]], dtype=torch.float64)
    """
    return response(a, F.pad(torch.ones_like(a[:, :1]), (0, a.shape[-1] - 1)), length)


def spectral_radius(a: Float[Tensor, "dim state"]) -> Float[Tensor, " dim"]:
    """max|p| over the poles p of every channel; the system is stable if it is below 1.

    Args:
        a: denominator.

    Numerics: eigenvalues of the companion matrix in float64; a pole of multiplicity m is right to about ε^(1/m).
    """
    return torch.linalg.eigvals(companion(a)).abs().amax(-1)


def companion(a: Float[Tensor, "dim state"]) -> Float[Tensor, "dim state state"]:
    """The matrix of w[t] = −Σ a_k w[t−k] on the state (w[t], w[t−1], …), −a in its first row."""
    n = a.shape[-1]
    shift = torch.diag(a.new_ones(n - 1, dtype=torch.float64), -1)
    first = (torch.arange(n, device=a.device) == 0)[:, None]
    return torch.where(first, -a.double()[:, None, :], shift)


def to_rational(system: StateSpace) -> Rational:
    """The transfer functions of a bank of single-input single-output systems.

    a are the coefficients of Π (1 − p z⁻¹) over the eigenvalues p of A; b follows from n + 1 values of the impulse
    response k, as (1, a) ∗ k has no further coefficients.

    Args:
        system: matrices with one leading axis, or none.

    Returns:
        Rational(a, b, D) with as many coefficients as there are states.

    Raises:
        ShapeError: the system has several inputs or outputs, or several leading axes.

    Numerics: float64. The coefficients of many slow poles, near z = 1, are large, alternating, and determine the poles
    badly: compare the impulse responses of both sides.
    """
    *channels, outputs, inputs = system.D.shape
    if (outputs, inputs) != (1, 1) or len(channels) > 1:
        raise ShapeError(f"to_rational: D is {tuple(system.D.shape)}; give a bank (dim, 1, 1) of scalar systems")
    poles = system.poles().reshape(-1, system.A.shape[-1])
    polynomial = torch.ones_like(poles[:, :1])
    for p in poles.unbind(-1):
        polynomial = F.pad(polynomial, (0, 1)) - p[:, None] * F.pad(polynomial, (1, 0))
    a, lags = polynomial.real[:, 1:], poles.shape[-1] + 1
    k = system.impulse_response(lags).reshape(-1, lags)
    return Rational(a, deployed_numerator(a, k[:, 1:]), k[:, 0])


def _monic(a: Tensor) -> Tensor:
    """(1, a) in float64."""
    return F.pad(a.double(), (1, 0), value=1.0)


def _fit(x: Tensor, length: int) -> Tensor:
    """x, cut or continued by zeros to this length."""
    return F.pad(x[:, :length], (0, max(0, length - x.shape[1])))


def _product(p: Tensor, q: Tensor, length: int) -> Tensor:
    """The first coefficients of the product of two power series."""
    p, q = p[:, :length], q[:, :length]
    n = p.shape[-1] + q.shape[-1]
    return _fit(torch.fft.irfft(torch.fft.rfft(p, n) * torch.fft.rfft(q, n), n), length)
