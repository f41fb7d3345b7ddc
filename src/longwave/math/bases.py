"""The orthonormal functions on which the HiPPO measures project: values of all N of them at once, in float64."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch

from longwave.shapes import Float, Tensor


def legendre_basis(N: int, x: Float[Tensor, "*points"]) -> Float[Tensor, "*points state"]:
    """Shifted Legendre polynomials √(2n+1) P_n(2x − 1), orthonormal on [0, 1].

    Args:
        N: how many, n = 0 to N − 1.
        x: where; outside [0, 1] they grow like x^n.

    Returns:
        Their values, the polynomials in the last axis.

    Numerics: (n+1) P_{n+1}(z) = (2n+1) z P_n(z) − n P_{n−1}(z), stable on [0, 1].

    Source: any text on orthogonal polynomials, such as Szegő's.

    Example:
        >>> legendre_basis(3, torch.tensor(1.0))
        tensor([1.0000, 1.7321, 2.2361], dtype=torch.float64)
    """
    z = 2 * x.double() - 1
    P = [torch.ones_like(z), z]
    for n in range(1, N - 1):
        P.append(((2 * n + 1) * z * P[n] - n * P[n - 1]) / (n + 1))
    return torch.stack(P[:N], -1) * (2 * torch.arange(N, dtype=z.dtype, device=z.device) + 1).sqrt()


def laguerre_basis(N: int, x: Float[Tensor, "*points"]) -> Float[Tensor, "*points state"]:
    """Laguerre functions e^{−x/2} L_n(x), orthonormal on [0, ∞).

    Args:
        N: how many, n = 0 to N − 1.
        x: where, ≥ 0.

    Returns:
        Their values, the functions in the last axis; all at most 1.

    Numerics: (n+1) L_{n+1}(x) = (2n+1−x) L_n(x) − n L_{n−1}(x), begun at e^{−x/2}, so that nothing overflows; beyond
    x ≈ 1,400 that is zero, and so is all the rest.

    Source: any text on orthogonal polynomials, such as Szegő's.

    Example:
        >>> laguerre_basis(3, torch.tensor(0.0))
        tensor([1., 1., 1.], dtype=torch.float64)
    """
    x = x.double()
    L = [torch.exp(-x / 2), (1 - x) * torch.exp(-x / 2)]
    for n in range(1, N - 1):
        L.append(((2 * n + 1 - x) * L[n] - n * L[n - 1]) / (n + 1))
    return torch.stack(L[:N], -1)


def fourier_basis(N: int, x: Float[Tensor, "*points"]) -> Float[Tensor, "*points state"]:
    """The Fourier series 1, 0, √2 cos 2πx, √2 sin 2πx, √2 cos 4πx, …, orthonormal on [0, 1] but for its zero.

    Args:
        N: how many, even; the second is sin 0.
        x: where.

    Returns:
        Their values, the functions in the last axis, cosine before sine.

    Numerics: each angle is reduced to a fraction of a turn before it is multiplied by 2π.

    Source: Gu et al. 2023, "How to Train Your HiPPO", the system FouT, on a window of length 1.

    Example:
        >>> fourier_basis(4, torch.tensor(0.0))
        tensor([1.0000, 0.0000, 1.4142, 0.0000], dtype=torch.float64)
    """
    turns = x.double()[..., None] * torch.arange(N // 2, device=x.device)
    angle = 2 * math.pi * (turns - turns.round())
    norm = torch.full((N // 2,), math.sqrt(2), dtype=angle.dtype, device=x.device)
    norm[:1] = 1
    return torch.stack([norm * angle.cos(), norm * angle.sin()], -1).flatten(-2)


# measure -> its functions, of time as a fraction of the past for LegS, of the lag in windows for the others
BASES: Mapping[str, Callable[[int, Tensor], Tensor]] = MappingProxyType(
    {
        "legs": legendre_basis,
        "legt": lambda N, lag: legendre_basis(N, 1 - lag),
        "lagt": laguerre_basis,
        "fourier": fourier_basis,
    }
)
