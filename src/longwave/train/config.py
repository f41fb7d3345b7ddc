"""How to train: the optimiser's settings and the loop's, as frozen dataclasses that the command line reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from longwave.errors import ConfigError

__all__ = ["OptimConfig", "TrainerConfig"]


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with linear warm-up and cosine decay, per step.

    Args:
        lr: peak learning rate of all but the slow parameters.
        slow_lr: peak learning rate of the slow parameters (time scales, eigenvalues, ...), which are never decayed.
        weight_decay: decoupled weight decay of matrices; vectors (biases, gains, skips) have none.
        warmup: fraction of all steps over which the learning rates rise from zero.
        clip: largest norm of the gradient of all parameters together; 0 leaves it as it is.

    Raises:
        ConfigError: a value is out of its range.
    """

    lr: float = 4e-3
    slow_lr: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    clip: float = 1.0

    def __post_init__(self) -> None:
        _require(self.lr > 0, f"lr must be positive, got {self.lr}")
        _require(self.slow_lr > 0, f"slow_lr must be positive, got {self.slow_lr}")
        _require(self.weight_decay >= 0, f"weight_decay must not be negative, got {self.weight_decay}")
        _require(0 <= self.warmup < 1, f"warmup is a fraction of all steps, 0 ≤ warmup < 1, got {self.warmup}")
        _require(self.clip >= 0, f"clip must not be negative (0: no clipping), got {self.clip}")


@dataclass(frozen=True)
class TrainerConfig:
    """The loop around the optimiser.

    Args:
        epochs: passes over the training set.
        batch_size: sequences per step.
        accelerator: Lightning's name of the device; "auto" takes a GPU where there is one.
        precision: Lightning's name of the arithmetic; the state space part runs in at least float32 in any case.

    Raises:
        ConfigError: a value is out of its range.
    """

    epochs: int = 10
    batch_size: int = 50
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    precision: Literal["32-true", "bf16-mixed"] = "32-true"

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, f"epochs must be at least 1, got {self.epochs}")
        _require(self.batch_size >= 1, f"batch_size must be at least 1, got {self.batch_size}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)
