"""Discretisation: from x' = A x + B u to x[t] = Ā x[t−1] + B̄ u[t], for banks of diagonal systems and for matrices.

Ā and B̄ are computed in float64 whatever the dtype of the arguments; the caller rounds them once, and every view of
the system (convolution, recurrence, dense matrices) then uses that rounded system. By zero-order hold
and the bilinear rule, Re A ≤ 0 gives |Ā| ≤ 1.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from longwave.errors import ConfigError
from longwave.shapes import Float, Inexact, Tensor


class Discrete(NamedTuple):
    """The discrete-time system x[t] = A x[t−1] + B u[t], elementwise; float64, or complex128 if complex."""

    A: Inexact[Tensor, "dim modes"]
    B: Inexact[Tensor, "dim modes"]


class DenseDiscrete(NamedTuple):
    """The discrete-time system x[t] = A x[t−1] + B u[t] with matrices; float64, or complex128 if complex."""

    A: Inexact[Tensor, "*channels state state"]
    B: Inexact[Tensor, "*channels state in"]


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


def gbt(
    dt: Float[Tensor, " dim"], A: Inexact[Tensor, "dim modes"], B: Inexact[Tensor, "dim modes"], *, alpha: float
) -> Discrete:
    """The generalised bilinear rule: Ā = (1 + (1−α) dt A)/(1 − α dt A),  B̄ = dt B/(1 − α dt A).

    Args:
        dt: step size of each channel, > 0.
        A: continuous-time eigenvalues.
        B: input weights.
        alpha: the weight of the step's end: 0 is forward Euler, 1/2 `bilinear`, 1 backward Euler.

    Returns:
        Discrete(A=Ā, B=B̄).

    Raises:
        ConfigError: alpha is not in [0, 1].

    Numerics: for α ≥ 1/2 a stable A stays stable at every dt; below, only at small ones.

    Source: Gu et al. 2021 (LSSL), the generalized bilinear transform.

    Example:
        >>> gbt(torch.ones(1), torch.tensor([[-1.0]]), torch.ones(1, 1), alpha=1.0).A
        tensor([[0.5000]], dtype=torch.float64)
    """
    _check_alpha(alpha)
    dt, A, B = _double(dt)[:, None], _double(A), _double(B)
    denominator = 1 - alpha * dt * A
    return Discrete((1 + (1 - alpha) * dt * A) / denominator, dt * B / denominator)


def bilinear(dt: Float[Tensor, " dim"], A: Inexact[Tensor, "dim modes"], B: Inexact[Tensor, "dim modes"]) -> Discrete:
    """The bilinear (trapezoidal, Tustin) rule, `gbt` at α = 1/2: Ā = (1 + dt A/2)/(1 − dt A/2),  B̄ = dt B/(1 − dt A/2).

    Args:
        dt: step size of each channel, > 0.
        A: continuous-time eigenvalues.
        B: input weights.

    Returns:
        Discrete(A=Ā, B=B̄).

    Numerics: for |dt A| ≫ 2 the rule sends Ā towards −1, a slow alternating mode where the true one is fast.

    Source: Gu et al. 2022 (S4), equation 3; Tustin 1947.
    """
    return gbt(dt, A, B, alpha=0.5)


# name -> rule
DISCRETIZATIONS: Mapping[str, Callable[[Tensor, Tensor, Tensor], Discrete]] = MappingProxyType(
    {"zoh": zoh, "bilinear": bilinear}
)


def dense_gbt(
    dt: Float[Tensor, "*channels"],
    A: Inexact[Tensor, "*channels state state"],
    B: Inexact[Tensor, "*channels state in"],
    *,
    alpha: float,
) -> DenseDiscrete:
    """The generalised bilinear rule for matrices: Ā = (I − α dt A)⁻¹ (I + (1−α) dt A),  B̄ = (I − α dt A)⁻¹ dt B.

    Args:
        dt: step size of each system, > 0.
        A: continuous-time matrices.
        B: input matrices.
        alpha: the weight of the step's end: 0 is forward Euler, 1/2 the bilinear rule, 1 backward Euler.

    Returns:
        DenseDiscrete(A=Ā, B=B̄).

    Raises:
        ConfigError: alpha is not in [0, 1].

    Numerics: one LU factorisation in float64 serves both.

    Source: as `gbt`, its diagonal form.

    Example:
        >>> dense_gbt(torch.tensor(1.0), -torch.eye(2), torch.ones(2, 1), alpha=0.0).A
        tensor([[0., 0.],
                [0., 0.]], dtype=torch.float64)
    """
    _check_alpha(alpha)
    dt, A, B = _double(dt)[..., None, None], _double(A), _double(B)
    identity = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    both = torch.cat([identity + (1 - alpha) * dt * A, (dt * B).to(A.dtype)], -1)
    return DenseDiscrete(*_split(torch.linalg.solve(identity - alpha * dt * A, both)))


def dense_zoh(
    dt: Float[Tensor, "*channels"],
    A: Inexact[Tensor, "*channels state state"],
    B: Inexact[Tensor, "*channels state in"],
) -> DenseDiscrete:
    """Zero-order hold for matrices: Ā = e^{dt A},  B̄ = ∫₀^dt e^{sA} ds B, singular A allowed.

    Args:
        dt: step size of each system, > 0.
        A: continuous-time matrices.
        B: input matrices.

    Returns:
        DenseDiscrete(A=Ā, B=B̄).

    Numerics: both are blocks of one matrix exponential in float64, that of dt [[A, B], [0, 0]]. A gradient for dt alone
    costs one matrix product.

    Source: Van Loan 1978, "Computing Integrals Involving the Matrix Exponential".

    Example:
        >>> dense_zoh(torch.tensor(2.0), torch.zeros(1, 1), torch.ones(1, 1)).B
        tensor([[2.]], dtype=torch.float64)
    """
    A, B = _double(A), _double(B).to(_double(A).dtype)
    held = A.new_zeros(*A.shape[:-2], B.shape[-1], A.shape[-1] + B.shape[-1])
    generator = torch.cat([torch.cat([A, B], -1), held], -2)
    dt = _double(dt)[..., None, None]
    # Tracing a function with a derivative of its own warns.
    general = generator.requires_grad or torch.compiler.is_compiling()
    flow = torch.linalg.matrix_exp(dt * generator) if general else _Flow.apply(dt, generator)
    return DenseDiscrete(*_split(flow[..., : A.shape[-1], :]))


class _Flow(torch.autograd.Function):
    """e^{tM} of a fixed M, with the derivative M e^{tM}: one product, where that of a matrix exponential in general is
    another exponential, of twice the size."""

    @staticmethod
    def forward(ctx: Any, t: Tensor, M: Tensor) -> Tensor:
        flow = torch.linalg.matrix_exp(t * M)
        ctx.save_for_backward(M, flow)
        return flow

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        M, flow = ctx.saved_tensors
        return (grads[0] * (M @ flow).conj()).sum((-2, -1), keepdim=True).real, None


def _split(both: Tensor) -> tuple[Tensor, Tensor]:
    """Ā and B̄ out of [Ā, B̄]."""
    state = both.shape[-2]
    return both[..., :state], both[..., state:]


# name -> rule for matrices
DENSE_DISCRETIZATIONS: Mapping[str, Callable[[Tensor, Tensor, Tensor], DenseDiscrete]] = MappingProxyType(
    {
        "forward": partial(dense_gbt, alpha=0.0),
        "backward": partial(dense_gbt, alpha=1.0),
        "bilinear": partial(dense_gbt, alpha=0.5),
        "zoh": dense_zoh,
    }
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


def _check_alpha(alpha: float) -> None:
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha={alpha} must lie in [0, 1]: 0 is forward Euler, 0.5 bilinear, 1 backward Euler")
