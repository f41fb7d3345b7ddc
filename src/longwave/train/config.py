"""How to train: the optimiser's settings and the loop's, as frozen dataclasses that the command line reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from longwave.errors import ConfigError

__all__ = ["GroupConfig", "OptimConfig", "TrainerConfig"]


@dataclass(frozen=True)
class GroupConfig:
    """The settings of the parameters that a name pattern picks out.

    Args:
        lr: peak learning rate; None: ``lr_factor`` times ``lr`` of the `OptimConfig`.
        weight_decay: decoupled weight decay; None: that of the matrices.
        lr_factor: see ``lr``.

    Raises:
        ConfigError: a value is out of its range, or lr_factor stands beside an lr.

    Example:
        >>> GroupConfig(lr_factor=0.25).resolved(OptimConfig(lr=4e-3, weight_decay=0.05))
        (0.001, 0.0)
    """

    lr: float | None = None
    weight_decay: float | None = 0.0
    lr_factor: float = 1.0

    def __post_init__(self) -> None:
        for name in ("lr", "weight_decay", "lr_factor"):
            value = getattr(self, name)
            zero = "" if name == "weight_decay" else " (0: not trained)"
            _require(value is None or value >= 0, f"{name} must not be negative{zero}, got {value}")
        one = self.lr is None or self.lr_factor == 1
        _require(one, f"lr_factor is of the general lr: give lr={self.lr} or lr_factor={self.lr_factor}, not both")

    def resolved(self, optim: OptimConfig) -> tuple[float, float]:
        """The learning rate and the weight decay, beside those of most parameters."""
        lr = self.lr_factor * optim.lr if self.lr is None else self.lr
        return lr, optim.weight_decay if self.weight_decay is None else self.weight_decay


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with linear warm-up and a schedule of the learning rates.

    Args:
        lr: peak learning rate of all but the slow parameters.
        slow_lr: peak learning rate of the slow parameters (time scales, eigenvalues, ...), which are never decayed.
        weight_decay: decoupled weight decay of matrices; vectors (biases, gains, skips) have none.
        warmup: fraction of all steps over which the learning rates rise from zero.
        clip: largest norm of the gradient of all parameters together; 0 leaves it as it is.
        schedule: what follows the warm-up. "cosine" falls to zero over the remaining steps; "constant" stays;
            "plateau" multiplies by ``plateau_factor`` whenever the held-out figure that the trainer's ``monitor``
            names has not improved for more than ``plateau_patience`` epochs.
        plateau_factor: by how much the learning rates shrink on a plateau, between 0 and 1.
        plateau_patience: epochs without improvement that are waited for.
        label_smoothing: share of every target, in training, that is spread over all classes, between 0 and 1: a model
            that is sure enough then still learns to be equally sure everywhere. The training loss is that of the
            smoothed targets. For classes only.
        overrides: other settings for some parameters, {name pattern: {lr or lr_factor, weight_decay}}, as
            {"*.log_dt": {"lr": 1e-4}}. ``*`` stands for anything; the first pattern that fits a name holds.

    Raises:
        ConfigError: a value is out of its range.
    """

    lr: float = 4e-3
    slow_lr: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    clip: float = 1.0
    schedule: Literal["cosine", "plateau", "constant"] = "cosine"
    plateau_factor: float = 0.2
    plateau_patience: int = 5
    label_smoothing: float = 0.0
    overrides: dict[str, GroupConfig] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require(self.lr > 0, f"lr must be positive, got {self.lr}")
        _require(self.slow_lr > 0, f"slow_lr must be positive, got {self.slow_lr}")
        _require(self.weight_decay >= 0, f"weight_decay must not be negative, got {self.weight_decay}")
        _require(0 <= self.warmup < 1, f"warmup is a fraction of all steps, 0 ≤ warmup < 1, got {self.warmup}")
        _require(self.clip >= 0, f"clip must not be negative (0: no clipping), got {self.clip}")
        _require(0 < self.plateau_factor < 1, f"plateau_factor must lie between 0 and 1, got {self.plateau_factor}")
        _require(self.plateau_patience >= 0, f"plateau_patience must not be negative, got {self.plateau_patience}")
        _require(0 <= self.label_smoothing < 1, f"label_smoothing must lie between 0 and 1, got {self.label_smoothing}")


@dataclass(frozen=True)
class TrainerConfig:
    """The loop around the optimiser.

    Args:
        epochs: passes over the training set.
        batch_size: sequences per batch, of all processes together.
        gradient_accumulation: batches whose gradients are averaged for one step of the optimiser.
        accelerator: Lightning's name of the device; "auto" takes a GPU where there is one.
        devices: processes on each machine, one for each GPU. Their gradients are those of one process on the whole
            batch; only batch norm sees each share by itself.
        num_nodes: machines; each runs the same command, with Lightning's or torchrun's environment variables (such as
            MASTER_ADDR and NODE_RANK) set. They must share the run folder.
        strategy: how processes work together: "ddp" copies the model to each, "fsdp" splits it among GPUs; "auto" is
            one process, or ddp for several.
        precision: Lightning's name of the arithmetic; the state space part runs in at least float32 in any case.
        monitor: the held-out figure by which weights are the best, training stops early, and a plateau is found:
            the loss, or a metric of the objective.
        best: keep the weights of the best epoch instead of those of the last.
        early_stopping: epochs without improvement after which training stops; 0: never.
        checkpoint_minutes: how often the state of a long epoch is written to go on from; 0: only at the end of each.

    Raises:
        ConfigError: a value is out of its range.
    """

    epochs: int = 10
    batch_size: int = 50
    gradient_accumulation: int = 1
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    monitor: Literal["loss", "accuracy", "mse", "mae", "r2"] = "loss"
    best: bool = False
    early_stopping: int = 0
    checkpoint_minutes: float = 10.0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "gradient_accumulation", "devices", "num_nodes"):
            _require(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("early_stopping", "checkpoint_minutes"):
            _require(getattr(self, name) >= 0, f"{name} must not be negative (0: off), got {getattr(self, name)}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)
