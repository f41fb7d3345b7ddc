"""Time scales: how the step sizes dt, one for each channel, are drawn and stored."""

import math
from collections.abc import Sequence

import torch

from longwave.errors import ConfigError
from longwave.shapes import Float, Tensor


def log_uniform(
    shape: Sequence[int], low: float, high: float, generator: torch.Generator | None = None
) -> Float[Tensor, "..."]:
    """Step sizes whose logarithm is uniform: log dt ~ U[log low, log high).

    A channel remembers about 1/dt positions, so every order of magnitude between 1/high and 1/low gets equally many.

    Args:
        shape: shape of the result.
        low: smallest dt, > 0; S4D's default is 1e-3.
        high: largest dt; S4D's default is 1e-1.
        generator: source of randomness; None takes PyTorch's global one.

    Returns:
        dt in float64.

    Raises:
        ConfigError: not 0 < low ≤ high.

    Source: Gu et al. 2022 (S4), experimental details; S4D, DSS and S5 keep it.
    """
    if not 0 < low <= high:
        raise ConfigError(f"log_uniform: low is {low} and high is {high}: give 0 < low ≤ high")
    u = torch.rand(tuple(shape), dtype=torch.float64, generator=generator)
    return torch.exp(math.log(low) + (math.log(high) - math.log(low)) * u)


def softplus_inverse(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The y with softplus(y) = log(1 + e^y) = x:  y = log(e^x − 1) = x + log(−expm1(−x)).

    Args:
        x: positive values.

    Returns:
        y, in the dtype of x.

    Raises:
        ConfigError: a value is not positive.

    Numerics: neither overflows at large x nor cancels at small x, unlike log(exp(x) − 1).

    Example:
        >>> softplus_inverse(torch.tensor([0.001, 1.0, 100.0]))
        tensor([ -6.9073,   0.5413, 100.0000])
    """
    if not x.is_meta and not (x > 0).all():
        raise ConfigError(f"softplus_inverse: the smallest value is {x.min():g}, and softplus is positive: give x > 0")
    return x + torch.log(-torch.expm1(-x))
