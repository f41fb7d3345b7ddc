"""Parameter groups and the learning-rate schedule of state space models."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import nn

from longwave.train.config import OptimConfig

__all__ = ["parameter_groups", "warmup_cosine"]


def parameter_groups(model: nn.Module, slow: tuple[str, ...], optim: OptimConfig) -> list[dict[str, Any]]:
    """The optimiser's parameter groups: slow parameters, matrices, and all other vectors.

    Args:
        model: the module whose trainable parameters are grouped.
        slow: names of parameters that want a small learning rate and no decay: ``model.slow_parameters()``.
        optim: the learning rates and the decay.

    Returns:
        Groups named "slow" (``slow_lr``, no decay), "matrices" (``lr``, ``weight_decay``) and "vectors" (``lr``, no
        decay: a bias or a gain has no scale for decay to control). Empty groups are left out.

    Source: Gu et al., "Efficiently Modeling Long Sequences with Structured State Spaces" (ICLR 2022), App. D.2, and
    "On the Parameterization and Initialization of Diagonal State Space Models" (NeurIPS 2022), App. C: at most 1e-3
    and no decay for the state space parameters.
    """
    groups: dict[str, list[nn.Parameter]] = {"slow": [], "matrices": [], "vectors": []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            kind = "slow" if name in slow else "matrices" if parameter.ndim > 1 else "vectors"
            groups[kind].append(parameter)
    settings = {
        "slow": {"lr": optim.slow_lr, "weight_decay": 0.0},
        "matrices": {"lr": optim.lr, "weight_decay": optim.weight_decay},
        "vectors": {"lr": optim.lr, "weight_decay": 0.0},
    }
    return [{"name": kind, "params": group, **settings[kind]} for kind, group in groups.items() if group]


def warmup_cosine(steps: int, warmup: float) -> Callable[[int], float]:
    """The factor on the learning rates at each step: a linear rise to 1, then half a cosine down to 0.

    With S = ``steps`` and W = round(``warmup`` · S): (t + 1) / W for t < W, then ½ (1 + cos(π (t − W) / (S − W))).

    Example:
        >>> factor = warmup_cosine(steps=10, warmup=0.2)
        >>> [round(factor(step), 3) for step in (0, 1, 2, 6, 10)]
        [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    rise = round(warmup * steps)

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise))))

    return factor
