"""The state of a training on disk: written whole, at epochs' ends and between, and read without running any code."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from typing import Any, final

import torch

from longwave.errors import RunError
from longwave.pretrained.files import write_whole
from longwave.train._lightning import Checkpoint, LightningModule, TorchCheckpointIO, Trainer
from longwave.train.run import Run
from longwave.train.task import Task

__all__ = ["SaveState", "StateFile"]


@final
class StateFile(TorchCheckpointIO):
    """Writes the state whole or not at all, and reads only tensors and plain values, never code."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write a state; the directory must exist."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_whole(Path(path), content.getvalue())

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = "cpu", weights_only: bool | None = True
    ) -> Any:
        """Read a state.

        Raises:
            RunError: it is damaged, or holds more than tensors and plain values.
        """
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            missing = {"state_dict", "loops", "callbacks", "optimizer_states", "task"} - state.keys()
        # Bytes that are no state fail in as many ways as there are bytes.
        except Exception as error:
            raise RunError(f"{path} cannot be read ({_first_line(error)}): {_REMEDY}") from error
        if missing:
            raise RunError(f"{path} is not the state of a training, it lacks {sorted(missing)}: {_REMEDY}")
        return state


@final
class SaveState(Checkpoint):
    """Writes the state of a training at the end of each epoch, and every so many minutes within long ones.

    Args:
        run: where to.
        minutes: between two states; 0: only at the ends of epochs.
    """

    def __init__(self, run: Run, minutes: float) -> None:
        self.run = run
        self.minutes = minutes
        self._written = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the state if it is due; not within a step, and not where the epoch's end will."""
        is_step = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if self.minutes == 0 or not is_step or batch_idx + 1 == trainer.num_training_batches:
            return
        due = time.monotonic() - self._written >= 60 * self.minutes
        if trainer.strategy.reduce_boolean_decision(due, all=False):
            self._write(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the state; all other callbacks have had their turn."""
        self._write(trainer, pl_module)

    def _write(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Task)
        pl_module.require_finite()
        with self.run.writing():
            trainer.save_checkpoint(self.run.state, weights_only=False)
        self._written = time.monotonic()


_REMEDY = "delete it, and the same command starts from the beginning"


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
