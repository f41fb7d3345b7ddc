"""What follows from the held-out figures: the best weights, lower rates on a plateau, an early stop."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, final

from longwave.errors import ConfigError
from longwave.shapes import Tensor
from longwave.train._lightning import Callback, LightningModule, Trainer
from longwave.train.config import OptimConfig, TrainerConfig
from longwave.train.history import History
from longwave.train.objectives import Objective
from longwave.train.task import Task

__all__ = ["Watch"]

_log = logging.getLogger(__name__)


@final
class Watch(Callback):
    """Compares each epoch's held-out figure with the best before.

    Args:
        history: the rows to read.
        objective: says which direction is better.
        optim: ``schedule`` and its plateau.
        trainer: ``monitor``, ``best`` and ``early_stopping``.
        held_out: whether there is held-out data.

    Raises:
        ConfigError: a setting needs held-out data and there is none, or the objective has no such figure or targets.
    """

    def __init__(
        self, history: History, objective: Objective, optim: OptimConfig, trainer: TrainerConfig, *, held_out: bool
    ) -> None:
        if trainer.monitor not in ("loss", *objective.metrics):
            figures = ", ".join(("loss", *objective.metrics))
            raise ConfigError(f"monitor {trainer.monitor!r} is no figure of this objective: choose from {figures}")
        if optim.label_smoothing and "accuracy" not in objective.metrics:
            raise ConfigError("label_smoothing is for classes, and these targets are numbers: leave it at 0")
        wants = {
            "best": trainer.best,
            "early_stopping": trainer.early_stopping,
            "schedule": optim.schedule == "plateau",
        }
        for name, wanted in wants.items():
            if wanted and not held_out:
                raise ConfigError(f"{name} looks at held-out data and there is none: hold some out, or leave it off")
        self.history = history
        self.sign = 1 if objective.higher_is_better(trainer.monitor) else -1
        self.optim, self.trainer = optim, trainer
        self.active = held_out
        self.best: float | None = None
        self.since_best = 0
        self.since_cut = 0
        self.weights: Mapping[str, Tensor] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A run that was interrupted after its early stop does not go on."""
        trainer.should_stop = self._is_over()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judge the epoch."""
        assert isinstance(pl_module, Task)
        if not self.active:
            return
        figure = self.history.rows[-1][f"held_out_{self.trainer.monitor}"]
        if self.best is None or self.sign * figure > self.sign * self.best:
            self.best, self.since_best, self.since_cut = figure, 0, 0
            if self.trainer.best:
                weights = trainer.strategy.lightning_module_state_dict()
                self.weights = {name: weight.detach().cpu().clone() for name, weight in weights.items()}
        else:
            self.since_best, self.since_cut = self.since_best + 1, self.since_cut + 1
        if self.optim.schedule == "plateau" and self.since_cut > self.optim.plateau_patience:
            pl_module.scale, self.since_cut = pl_module.scale * self.optim.plateau_factor, 0
        if self._is_over():
            epochs = self.since_best
            _log.info("stopped early: no better %s for %d epochs", self.trainer.monitor, epochs)
            trainer.should_stop = True

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the weights that training was for, as whole tensors in every process."""
        assert isinstance(pl_module, Task)
        pl_module.require_finite()
        if not self.trainer.best:
            self.weights = trainer.strategy.lightning_module_state_dict()
        # FSDP gives them to the first process alone.
        self.weights = trainer.strategy.broadcast(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {name: getattr(self, name) for name in ("best", "since_best", "since_cut", "weights")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        for name in ("best", "since_best", "since_cut", "weights"):
            setattr(self, name, state_dict[name])

    def _is_over(self) -> bool:
        return 0 < self.trainer.early_stopping <= self.since_best
