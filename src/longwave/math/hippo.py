"""HiPPO operators: the linear systems whose states are the coefficients of the input's past in a polynomial basis.

A measure says which past matters; it fixes the matrices A, B of x' = A x + B u. Each measure is one function here,
and its normal-plus-low-rank form, which makes A diagonal up to a term of rank 1 or 2, is another. Every A is stable:
published matrices with the opposite sign belong to x' = −A x + B u. A window, or time constant, of θ instead of 1 is
x' = (A x + B u) / θ.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch

from longwave.errors import ConfigError
from longwave.shapes import Complex, Float, Tensor


class HiPPO(NamedTuple):
    """The continuous-time operator of a measure, x' = A x + B u, dense and in float64."""

    A: Float[Tensor, "state state"]
    B: Float[Tensor, " state"]


class NPLR(NamedTuple):
    """A normal-plus-low-rank operator in its eigenbasis: A = V (diag(Λ) − P Pᴴ) Vᴴ, and Vᴴ B for B.

    With one eigenvector of each conjugate pair (``half``) the other's terms are the conjugates, hence
    A = 2 Re(V diag(Λ) Vᴴ) − (2 Re V P)(2 Re V P)ᵀ, the real B is 2 Re(V B), and an output is y = 2 Re(C x).
    """

    Lambda: Complex[Tensor, " modes"]
    P: Complex[Tensor, "modes rank"]
    B: Complex[Tensor, " modes"]
    V: Complex[Tensor, "state modes"]


def legs(N: int) -> HiPPO:
    """HiPPO-LegS: the whole past on Legendre polynomials, older input ever more compressed.

    With r_n = √(2n+1):  A_nk = −r_n r_k for n > k,  −(n+1) for n = k,  0 for n < k;  B_n = r_n.
    The basis functions of the time-invariant system are e^{tA} B = r_n e^{−t} P_n(2e^{−t} − 1), P_n the Legendre
    polynomials: warped exponentially in time. The time-varying system x' = (A x + B u) / t, with the same A and B,
    weighs the past [0, t] uniformly.

    Args:
        N: state size, the number of polynomials.

    Returns:
        HiPPO(A, B).

    Raises:
        ConfigError: N is not positive.

    Numerics: float64; every entry is correctly rounded up to two square roots and one product.

    Source: Gu et al. 2020, "HiPPO: Recurrent Memory with Optimal Polynomial Projections", Theorem 2; the sign is
    that of Gu et al. 2022 (S4), equation 2. The factor 2 on B in appendix D of the LSSL paper is a slip.

    Not to be confused with `legt`, Legendre polynomials on a window that slides.

    Example:
        >>> legs(2).A
        tensor([[-1.0000,  0.0000],
                [-1.7321, -2.0000]], dtype=torch.float64)
    """
    r = _legendre_norms("legs", N)
    n = torch.arange(N, dtype=torch.float64)
    A = torch.diag(-(n + 1)) - torch.outer(r, r).tril(-1)
    return HiPPO(A, B=r)


def legt(N: int) -> HiPPO:
    """HiPPO-LegT: the last unit of time on Legendre polynomials, forgotten sharply at its end.

    With r_n = √(2n+1):  A_nk = −r_n r_k for n ≥ k,  −(−1)^{n−k} r_n r_k for n < k;  B_n = r_n.
    The state approaches c_n = ∫₀¹ u(t−s) r_n P_n(1−2s) ds, and is equal to it while u is a polynomial of degree
    below N: the derivative of c_n needs u(t−1), for which the system takes Σ_k (−1)^k r_k x_k.

    Args:
        N: state size, the number of polynomials.

    Returns:
        HiPPO(A, B).

    Raises:
        ConfigError: N is not positive.

    Numerics: float64; every entry is correctly rounded up to two square roots and one product.

    Source: Gu et al. 2020 (HiPPO), Theorem 1. S4's code has half of A and of B: a window of length 2.

    Not to be confused with `legs`, the whole past; nor with `lmu`, the same system in coordinates that are not
    orthonormal: T A T⁻¹ and T B, T = diag((−1)^n r_n).

    Example:
        >>> legt(2).A
        tensor([[-1.0000,  1.7321],
                [-1.7321, -3.0000]], dtype=torch.float64)
    """
    r = _legendre_norms("legt", N)
    rr = torch.outer(r, r)
    sign = _alternating(N)
    return HiPPO(-rr.tril() - (rr * torch.outer(sign, sign)).triu(1), B=r)


def lmu(N: int) -> HiPPO:
    """The LMU's delay memory: `legt` in the coordinates in which the Legendre polynomials themselves read it.

    A_ij = −(2i+1) for i < j,  (2i+1)(−1)^{i−j+1} for i ≥ j;  B_i = (2i+1)(−1)^i. With P̃_i(s) = P_i(2s − 1),
    u(t − s) ≈ Σ_i P̃_i(s) x_i for 0 ≤ s ≤ 1, and the whole delay, s = 1, has as its transfer function the Padé
    approximant of e^{−z} of degrees N − 1 and N.

    Args:
        N: state size, the number of polynomials.

    Returns:
        HiPPO(A, B).

    Raises:
        ConfigError: N is not positive.

    Numerics: every entry is exact.

    Source: Voelker, Kajić and Eliasmith 2019, "Legendre Memory Units: Continuous-Time Representation in Recurrent
    Neural Networks", equations 1 and 2 at θ = 1.

    Not to be confused with `legt`, whose functions are orthonormal.

    Example:
        >>> lmu(2).A
        tensor([[-1., -1.],
                [ 3., -3.]], dtype=torch.float64)
    """
    _check("lmu", N)
    scale, sign = 2 * torch.arange(N, dtype=torch.float64) + 1, _alternating(N)
    signs = torch.outer(sign, sign).tril() + torch.ones(N, N, dtype=torch.float64).triu(1)
    return HiPPO(-scale[:, None] * signs, B=scale * sign)


def lagt(N: int) -> HiPPO:
    """HiPPO-LagT: the whole past on Laguerre functions, which fade over a unit of time.

    A_nk = −1 for n > k,  −1/2 for n = k,  0 for n < k;  B_n = 1. The state is exactly
    c_n = ∫₀^∞ u(t−s) e^{−s/2} L_n(s) ds, L_n the Laguerre polynomials: e^{sA} B = e^{−s/2} L_n(s), functions
    orthonormal on [0, ∞).

    Args:
        N: state size, the number of functions.

    Returns:
        HiPPO(A, B).

    Raises:
        ConfigError: N is not positive.

    Numerics: every entry is exact. The one eigenvalue, −1/2, has one eigenvector: A cannot be diagonalised.

    Source: Gu et al. 2020 (HiPPO), Theorem 1, in the tilted form of its code. With −1 on the diagonal
    instead the response is e^{−s} L_n(s), whose reconstruction wants L_n, not the same functions.

    Example:
        >>> lagt(2).A
        tensor([[-0.5000,  0.0000],
                [-1.0000, -0.5000]], dtype=torch.float64)
    """
    _check("lagt", N)
    B = torch.ones(N, dtype=torch.float64)
    return HiPPO(torch.diag(B / 2) - torch.outer(B, B).tril(), B)


def fourier(N: int) -> HiPPO:
    """HiPPO-Fourier: the last unit of time on its Fourier series.

    The basis is φ = (1, 0, √2 cos 2πs, √2 sin 2πs, √2 cos 4πs, …), the second place being that of sin 0. With
    b = φ(0) = (1, 0, √2, 0, √2, …):  A = S − 2 b bᵀ,  B = 2 b, where S has the blocks [[0, −2πm], [2πm, 0]]. The state
    approaches c_n = ∫₀¹ u(t−s) φ_n(s) ds: at the edge of the window a Fourier series is the mean of u(t) and u(t−1),
    so the system takes 2 b·x − u(t) for the u(t−1) that the derivative of c_n needs.

    Args:
        N: state size, even; N/2 frequencies from m = 0.

    Returns:
        HiPPO(A, B). State 1 has no input and stays zero: it makes the frequencies pairs.

    Raises:
        ConfigError: N is not positive, or odd.

    Numerics: float64; every entry is correctly rounded up to one square root and one product.

    Source: Gu et al. 2023, "How to Train Your HiPPO", the system FouT. S4's code ("fout") has half of A and of B, a
    window of length 2; its "foud" is another system, diagonal with a damping of its own.

    Example:
        >>> fourier(4).B
        tensor([2.0000, 0.0000, 2.8284, 0.0000], dtype=torch.float64)
    """
    _check("fourier", N)
    if N % 2:
        raise ConfigError(f"fourier: N is {N}, and a frequency has a cosine and a sine: give an even N")
    b = torch.zeros(N, dtype=torch.float64)
    b[::2] = math.sqrt(2)
    b[0] = 1
    w = torch.zeros(N - 1, dtype=torch.float64)
    w[::2] = 2 * math.pi * torch.arange(N // 2, dtype=torch.float64)
    return HiPPO(torch.diag(w, -1) - torch.diag(w, 1) - 2 * torch.outer(b, b), 2 * b)


def legs_nplr(N: int, *, half: bool = True) -> NPLR:
    """HiPPO-LegS in normal-plus-low-rank form: A + P Pᵀ = S − I/2 with S skew-symmetric, P_n = √(n + 1/2).

    Args:
        N: state size.
        half: keep one eigenvalue of each conjugate pair, that with Im Λ > 0, so N/2 modes; otherwise all N.

    Returns:
        NPLR(Lambda, P, B, V), rank 1, by falling imaginary part. Re Λ = −1/2 exactly. Each eigenvector's phase is
        the one that makes its B real and positive (to rounding), whatever the eigensolver's choice; and P = B/√2.

    Raises:
        ConfigError: N is not positive, or is odd with ``half`` (one eigenvalue, −1/2, would have no partner).

    Numerics: `eigh` of the Hermitian iS in float64, so V is unitary to rounding and errors are of the order N·ε·‖A‖.
    The eigenvectors of A itself are no alternative: their condition grows like 2^{4N/3}.

    Source: Gu et al. 2022 (S4), Theorem 1 and appendix C.1. S4's code keeps the negative imaginary parts and clips
    the imaginary part of B at ±2; here the positive ones are kept, as in S4D, and nothing is clipped.

    Example:
        >>> legs_nplr(4).Lambda
        tensor([-0.5000+4.6033j, -0.5000+0.5565j], dtype=torch.complex128)
    """
    A, B = legs(N)
    P = (torch.arange(N, dtype=torch.float64) + 0.5).sqrt()
    return _diagonalised(A, P[:, None], B, c=-0.5, half=half)


def legt_nplr(N: int, *, half: bool = True) -> NPLR:
    """HiPPO-LegT in normal-plus-low-rank form: A + P Pᵀ = S skew-symmetric, P's two columns r_n at even and at odd n.

    Args:
        N: state size.
        half: as in `legs_nplr`.

    Returns:
        NPLR(Lambda, P, B, V), rank 2, in the order and with the phase of `legs_nplr`. Re Λ = 0 exactly.

    Raises:
        ConfigError: N is not positive, or is odd with ``half``.

    Numerics: as `legs_nplr`. A real part stored as a logarithm cannot hold Re Λ = 0.

    Source: Gu et al. 2022 (S4), Theorem 1 and appendix C.1; at a window of length 1 its P is larger by √2.

    Example:
        >>> legt_nplr(4).P.shape
        torch.Size([2, 2])
    """
    A, B = legt(N)
    P = torch.stack([B, B], 1)
    P[1::2, 0] = P[::2, 1] = 0
    return _diagonalised(A, P, B, c=0.0, half=half)


def lagt_nplr(N: int, *, half: bool = True) -> NPLR:
    """HiPPO-LagT in normal-plus-low-rank form: A + P Pᵀ = S skew-symmetric, P_n = √½.

    Args:
        N: state size.
        half: as in `legs_nplr`.

    Returns:
        NPLR(Lambda, P, B, V), rank 1, in the order and with the phase of `legs_nplr`. Re Λ = 0 exactly.

    Raises:
        ConfigError: N is not positive, or is odd with ``half``.

    Numerics: as `legs_nplr`.

    Source: Gu et al. 2022 (S4), Theorem 1 and appendix C.1.

    Example:
        >>> lagt_nplr(2).Lambda
        tensor([0.+0.5000j], dtype=torch.complex128)
    """
    A, B = lagt(N)
    return _diagonalised(A, (B * math.sqrt(0.5))[:, None], B, c=0.0, half=half)


def fourier_nplr(N: int, *, half: bool = True) -> NPLR:
    """HiPPO-Fourier in normal-plus-low-rank form: A + P Pᵀ = S, Λ = ±2πim, P = √2 b.

    The eigenvectors are (cosine ∓ i sine)/√2. The eigenvalue zero is double, on states 0 and 1, and its pair of
    conjugate eigenvectors is this one as well: an eigensolver would return any other.

    Args:
        N: state size, even.
        half: as in `legs_nplr`.

    Returns:
        NPLR(Lambda, P, B, V), rank 1, in the order and with the phase of `legs_nplr`. Re Λ = 0 exactly.

    Raises:
        ConfigError: N is not positive, or odd.

    Numerics: closed form; every entry is correctly rounded up to two square roots and a product.

    Source: Gu et al. 2023, "How to Train Your HiPPO", the system FouT.

    Example:
        >>> fourier_nplr(4).Lambda
        tensor([0.+6.2832j, 0.+0.0000j], dtype=torch.complex128)
    """
    B = fourier(N).B
    P = B / math.sqrt(2)
    m = torch.arange(N // 2).flip(0)
    mode, V = torch.arange(N // 2), torch.zeros(2, N, N // 2, dtype=torch.float64)
    V[0, 2 * m, mode] = math.sqrt(0.5)
    V[1, 2 * m + 1, mode] = -math.sqrt(0.5)
    V = torch.complex(*V)
    omega = 2 * math.pi * m.double()
    Lambda = torch.complex(torch.zeros_like(omega), omega)
    if not half:
        V, Lambda = torch.cat([V, V.conj().flip(1)], 1), torch.cat([Lambda, Lambda.conj().flip(0)])
    return NPLR(Lambda, (V.mH @ P.to(V.dtype))[:, None], V.mH @ B.to(V.dtype), V)


# name -> dense operator
MEASURES: Mapping[str, Callable[[int], HiPPO]] = MappingProxyType(
    {"legs": legs, "legt": legt, "lagt": lagt, "fourier": fourier}
)
# name -> the same in normal-plus-low-rank form
NPLR_FORMS: Mapping[str, Callable[..., NPLR]] = MappingProxyType(
    {"legs": legs_nplr, "legt": legt_nplr, "lagt": lagt_nplr, "fourier": fourier_nplr}
)


def _diagonalised(
    A: Float[Tensor, "state state"], P: Float[Tensor, "state rank"], B: Float[Tensor, " state"], *, c: float, half: bool
) -> NPLR:
    """The eigenbasis of A + P Pᵀ = S + c I, S skew-symmetric."""
    N = len(B)
    if half and N % 2:
        raise ConfigError(f"half=True keeps one of each conjugate pair, and N is {N}: give an even N or half=False")
    normal = A + P @ P.T
    S = (normal - normal.T) / 2
    # S V = V diag(iω) is (iS) V = V diag(−ω): Hermitian, and ascending −ω is descending ω.
    minus_omega, V = torch.linalg.eigh(1j * S)
    Lambda = torch.complex(torch.full_like(minus_omega, c), -minus_omega)
    # No B̃_n is zero: its v_n, orthogonal to B, would be so to P, and then an eigenvector of A to the eigenvalue Λ_n,
    # which A does not have. (P is a multiple of B; or, in LegT, its even and its odd part: there v_n is real at even n
    # and imaginary at odd n, up to a phase, so both parts of v_nᴴ B vanish.)
    V = V * torch.sgn(V.mH @ B.to(V.dtype))
    V, Lambda = (V[:, : N // 2], Lambda[: N // 2]) if half else (V, Lambda)
    return NPLR(Lambda, V.mH @ P.to(V.dtype), V.mH @ B.to(V.dtype), V)


def _legendre_norms(measure: str, N: int) -> Float[Tensor, " state"]:
    """r_n = √(2n+1), the factors that make shifted Legendre polynomials orthonormal."""
    _check(measure, N)
    return (2 * torch.arange(N, dtype=torch.float64) + 1).sqrt()


def _alternating(N: int) -> Float[Tensor, " state"]:
    """(−1)^n."""
    return 1 - 2 * (torch.arange(N, dtype=torch.float64) % 2)


def _check(measure: str, N: int) -> None:
    if N < 1:
        raise ConfigError(f"{measure}: N is {N}, and a state needs at least one polynomial: give N ≥ 1")
