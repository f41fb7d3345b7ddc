"""Parameter groups and learning-rate schedules of state space models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from longwave.errors import ConfigError
from longwave.train.config import OptimConfig

__all__ = ["group_names", "parameter_groups", "schedule", "warmup_constant", "warmup_cosine"]


def parameter_groups(model: nn.Module, slow: tuple[str, ...], optim: OptimConfig) -> list[dict[str, Any]]:
    """The optimiser's parameter groups: those of the overrides, slow parameters, matrices, and all other vectors.

    Args:
        model: the module whose trainable parameters are grouped.
        slow: names of parameters that want a small learning rate and no decay: ``model.slow_parameters()``.
        optim: the learning rates, the decay and the overrides.

    Returns:
        Groups named by their pattern, then "slow" (``slow_lr``, no decay), "matrices" (``lr``, ``weight_decay``) and
        "vectors" (``lr``, no decay: a bias or a gain has no scale for decay to control). Empty groups are left out.

    Raises:
        ConfigError: a pattern of the overrides fits no parameter.

    Source: Gu et al., "Efficiently Modeling Long Sequences with Structured State Spaces" (ICLR 2022), App. D.2, and
    "On the Parameterization and Initialization of Diagonal State Space Models" (NeurIPS 2022), App. C: at most 1e-3
    and no decay for the state space parameters.
    """
    return gather(model, group_names(model, slow, optim), optim)


def group_names(model: nn.Module, slow: tuple[str, ...], optim: OptimConfig) -> dict[str, str]:
    """The group of each trainable parameter, by name; arguments and errors as in :func:`parameter_groups`."""
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    for pattern in optim.overrides:
        if not any(fnmatchcase(name, pattern) for name in trainable):
            raise ConfigError(f"overrides: {pattern!r} fits no parameter of the model{_nearest(pattern, trainable)}")
    groups = {}
    for name, parameter in trainable.items():
        patterns = (pattern for pattern in optim.overrides if fnmatchcase(name, pattern))
        kind = "slow" if name in slow else "matrices" if parameter.ndim > 1 else "vectors"
        groups[name] = next(patterns, kind)
    return groups


def gather(model: nn.Module, groups: dict[str, str], optim: OptimConfig) -> list[dict[str, Any]]:
    """The parameters of groups that :func:`group_names` made, perhaps before the model was split among processes."""
    settings = {
        **{pattern: group.resolved(optim) for pattern, group in optim.overrides.items()},
        "slow": (optim.slow_lr, 0.0),
        "matrices": (optim.lr, optim.weight_decay),
        "vectors": (optim.lr, 0.0),
    }
    named = dict(model.named_parameters())
    members = {kind: [named[name] for name, group in groups.items() if group == kind] for kind in settings}
    return [
        {"name": kind, "params": members[kind], "lr": lr, "weight_decay": decay}
        for kind, (lr, decay) in settings.items()
        if members[kind]
    ]


def schedule(optim: OptimConfig, steps: int) -> Callable[[int], float]:
    """The factor on the learning rates at each of ``steps`` steps; a plateau's own factor comes on top of it."""
    return (warmup_cosine if optim.schedule == "cosine" else warmup_constant)(steps, optim.warmup)


def warmup_cosine(steps: int, warmup: float) -> Callable[[int], float]:
    """The factor on the learning rates at each step: a linear rise to 1, then half a cosine down to 0.

    With S = ``steps`` and W = round(``warmup`` · S): (t + 1) / W for t < W, then ½ (1 + cos(π (t − W) / (S − W))).

    Example:
        >>> factor = warmup_cosine(steps=10, warmup=0.2)
        >>> [round(factor(step), 3) for step in (0, 1, 2, 6, 10)]
        [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    rise = round(warmup * steps)
    constant = warmup_constant(steps, warmup)

    def factor(step: int) -> float:
        if step < rise:
            return constant(step)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise))))

    return factor


def warmup_constant(steps: int, warmup: float) -> Callable[[int], float]:
    """The factor on the learning rates at each step: (t + 1) / W for t < W = round(``warmup`` · ``steps``), then 1."""
    rise = round(warmup * steps)
    return lambda step: min(1.0, (step + 1) / max(1, rise))


def _nearest(pattern: str, names: Iterable[str]) -> str:
    """The parameter that was perhaps meant, by the last part of its name."""
    tails = {name.rpartition(".")[2]: name for name in names}
    close = get_close_matches(pattern.rpartition(".")[2], tails, n=1, cutoff=0.3)
    return f"; did you mean {tails[close[0]]!r}?" if close else ""
