"""Spectra: the eigenvalues with which diagonal state space models begin.

Every function of `SPECTRA` takes the number of complex modes and returns that many continuous-time eigenvalues, one
of each conjugate pair, with Im ≥ 0: ``modes`` = N/2 for a real state of size N.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch

from longwave.errors import ConfigError
from longwave.math.hippo import legs_nplr
from longwave.shapes import Complex, Float, Tensor


def s4d_legs(modes: int) -> Complex[Tensor, " modes"]:
    """S4D-LegS: the eigenvalues of HiPPO-LegS without its low-rank term, Re = −1/2.

    With B/2 (S4D itself keeps the whole B) the transfer functions of the diagonal system tend to those of LegS as N
    grows, at s = iω with an error of the order 1/N; the kernels, as functions of time, keep a fast ripple.

    Args:
        modes: N/2.

    Returns:
        Λ, by falling imaginary part.

    Raises:
        ConfigError: modes is not positive.

    Source: Gu et al. 2022, "On the Parameterization and Initialization of Diagonal State Space Models" (S4D), §4 and
    Theorem 3.
    """
    return legs_nplr(2 * _positive(modes)).Lambda


def s4d_inv(modes: int) -> Complex[Tensor, " modes"]:
    """S4D-Inv: Λ_n = −1/2 + i (N/π) (N/(2n+1) − 1), N = 2·modes, close to S4D-LegS in closed form.

    Args:
        modes: N/2.

    Returns:
        Λ, by falling imaginary part.

    Raises:
        ConfigError: modes is not positive.

    Numerics: as the paper has it; of the imaginary parts the largest agree with S4D-LegS to 2/N, the smallest is 23 %
    off at N = 64 and 50 % at N = 256.

    Source: Gu et al. 2022 (S4D), §4, S4D-Inv.
    """
    N = 2 * modes
    return _left_of_axis(N / math.pi * (N / (2 * _orders(modes) + 1) - 1))


def s4d_lin(modes: int) -> Complex[Tensor, " modes"]:
    """S4D-Lin: Λ_n = −1/2 + iπn, the Fourier series on a window of length 2, damped.

    Args:
        modes: N/2.

    Returns:
        Λ, by rising imaginary part; the first is real.

    Raises:
        ConfigError: modes is not positive.

    Source: Gu et al. 2022 (S4D), §4, S4D-Lin.

    Example:
        >>> s4d_lin(2)
        tensor([-0.5000+0.0000j, -0.5000+3.1416j], dtype=torch.complex128)
    """
    return _left_of_axis(math.pi * _orders(modes))


def s4d_real(modes: int) -> Complex[Tensor, " modes"]:
    """S4D-Real: Λ_n = −(n+1), the eigenvalues of HiPPO-LegS itself, with imaginary part zero.

    Args:
        modes: number of eigenvalues. As the other spectra's, each is used as a pair, whose halves here coincide.

    Returns:
        Λ, complex, by falling real part.

    Raises:
        ConfigError: modes is not positive.

    Source: Gu et al. 2022 (S4D), §4, S4D-Real.
    """
    n = _orders(modes)
    return torch.complex(-(n + 1), torch.zeros_like(n))


def s4d_random(modes: int, generator: torch.Generator | None = None) -> Complex[Tensor, " modes"]:
    """Random A: the eigenvalues of a real N×N Gaussian matrix, N = 2·modes, made stable; the control for HiPPO.

    G_ij ~ N(0, 1/N);  Λ = (N/2)(μ(G) − max Re μ(G)) − 1/2.  By the circular law the μ(G) fill the unit disc evenly,
    so the Λ fill one whose diameter reaches from −1/2 to about −N − 1/2: the length of axis on which HiPPO-LegS has
    its eigenvalues −1, …, −N. The rightmost part, −1/2, is that of S4D. So the draw has HiPPO's scale and its slowest
    decay and is stable, and only the arrangement of the eigenvalues is left to chance.

    Args:
        modes: N/2.
        generator: source of randomness; None takes PyTorch's global one.

    Returns:
        Λ, by falling imaginary part: one of each conjugate pair, and every other one of the real eigenvalues, whose
        number is even.

    Raises:
        ConfigError: modes is not positive.

    Source: the random Gaussian A with which Gu et al. 2022 (S4), §4.4, compare HiPPO. Scale and shift are this
    library's, since the unscaled matrix is half unstable. Circular law: Ginibre 1965; Edelman 1997.
    """
    N = 2 * _positive(modes)
    G = torch.randn(N, N, dtype=torch.float64, generator=generator) / math.sqrt(N)
    mu = torch.linalg.eigvals(G)
    upper = mu[mu.imag > 0]
    paired_real = mu[mu.imag == 0]
    paired_real = paired_real[paired_real.real.argsort(descending=True)][::2]
    kept = torch.cat([upper[upper.imag.argsort(descending=True)], paired_real])
    return (kept - mu.real.max()) * (N / 2) - 0.5


# name -> spectrum
SPECTRA: Mapping[str, Callable[[int], Tensor]] = MappingProxyType(
    {"legs": s4d_legs, "inv": s4d_inv, "lin": s4d_lin, "real": s4d_real, "random": s4d_random}
)


def ring(
    modes: int,
    r_min: float = 0.0,
    r_max: float = 1.0,
    max_phase: float = 2 * math.pi,
    generator: torch.Generator | None = None,
) -> Complex[Tensor, " modes"]:
    """Discrete-time eigenvalues drawn evenly from a ring, or a sector of it: λ = r e^{iθ}.

    r² ~ U[r_min², r_max²),  θ ~ U[0, max_phase): uniform in area.

    Args:
        modes: number of eigenvalues; no conjugates are implied, y = Re(C x) without a factor 2.
        r_min: inner radius, ≥ 0.
        r_max: outer radius, ≤ 1 for a stable system.
        max_phase: largest phase in radians per step; small ones make slow modes.
        generator: source of randomness; None takes PyTorch's global one.

    Returns:
        λ, in the order drawn.

    Raises:
        ConfigError: modes is not positive, or not 0 ≤ r_min ≤ r_max ≤ 1.

    Source: Orvieto et al. 2023, "Resurrecting Recurrent Neural Networks for Long Sequences" (LRU), Lemma 3.2.

    Not to be confused with the functions of `SPECTRA`, whose eigenvalues are continuous-time ones.
    """
    if not 0 <= r_min <= r_max <= 1:
        raise ConfigError(f"ring: r_min is {r_min} and r_max is {r_max}: give 0 ≤ r_min ≤ r_max ≤ 1")
    area, phase = torch.rand(2, _positive(modes), dtype=torch.float64, generator=generator)
    return torch.polar((r_min**2 + (r_max**2 - r_min**2) * area).sqrt(), max_phase * phase)


def _positive(modes: int) -> int:
    """The number of modes, checked."""
    if modes < 1:
        raise ConfigError(f"modes is {modes}, and a system needs at least one: give modes ≥ 1")
    return modes


def _orders(modes: int) -> Float[Tensor, " modes"]:
    """n = 0, …, modes − 1 in float64."""
    return torch.arange(_positive(modes), dtype=torch.float64)


def _left_of_axis(omega: Float[Tensor, " modes"]) -> Complex[Tensor, " modes"]:
    """−1/2 + iω."""
    return torch.complex(torch.full_like(omega, -0.5), omega)
