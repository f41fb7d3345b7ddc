"""HiPPO operators: the linear systems whose states are the coefficients of the input's past in a polynomial basis.

A measure says which past matters; it fixes the matrices A, B of x' = A x + B u. Each measure is one function here,
and its normal-plus-low-rank form, which makes A diagonal up to a term of rank 1 or 2, is another.
"""

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

    Example:
        >>> legs(2).A
        tensor([[-1.0000,  0.0000],
                [-1.7321, -2.0000]], dtype=torch.float64)
    """
    if N < 1:
        raise ConfigError(f"legs: N is {N}, and a state needs at least one polynomial: give N ≥ 1")
    n = torch.arange(N, dtype=torch.float64)
    r = (2 * n + 1).sqrt()
    A = torch.diag(-(n + 1)) - torch.outer(r, r).tril(-1)
    return HiPPO(A, B=r)


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
    # No B̃_n is zero: its v_n, orthogonal to B and so to P, would be an eigenvector of A to the eigenvalue Λ_n.
    V = V * torch.sgn(V.mH @ B.to(V.dtype))
    V, Lambda = (V[:, : N // 2], Lambda[: N // 2]) if half else (V, Lambda)
    return NPLR(Lambda, V.mH @ P.to(V.dtype), V.mH @ B.to(V.dtype), V)
