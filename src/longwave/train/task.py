"""What Lightning trains: a model, its objective, its optimiser; nothing in it depends on what was drawn before."""

from __future__ import annotations

import math
from typing import Any, Literal, final

import torch

from longwave.data.order import Batches, derive_seed
from longwave.data.sequences import Batch
from longwave.errors import RunError
from longwave.models import Head
from longwave.shapes import Float, Tensor
from longwave.train._lightning import LightningModule
from longwave.train.config import OptimConfig
from longwave.train.objectives import Objective
from longwave.train.optim import gather, group_names, schedule

__all__ = ["Task"]

# What a seed is derived for, beside the streams of data/order.py.
_DROPOUT = 2
# On a GPU a look at the loss waits for all that was asked of it; once in a while is enough, for no NaN goes away.
_STEPS_UNSEEN = 20

Part = Literal["train", "held_out"]


@final
class Task(LightningModule):
    """A model with the loss and metrics of an objective, as means over all targets of an epoch.

    With several processes the loss of each is scaled so that the average of their gradients is that of the mean over
    the targets of the whole batch, however the batch divides.

    Args:
        model: what is trained, in place.
        objective: the loss and the metrics.
        optim: the optimiser's settings.
        steps: how many of them all epochs have, for the schedule.
        seed: what dropout is drawn by, anew for each batch.

    Raises:
        ConfigError: a pattern of the optimiser's overrides fits no parameter.
    """

    def __init__(self, model: Head[Any], objective: Objective, optim: OptimConfig, *, steps: int, seed: int) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.optim = optim
        self.seed = seed
        # The factor of a plateau on all learning rates.
        self.scale = 1.0
        self._factor = schedule(optim, steps)
        self._last_factor = 1.0
        self._groups = group_names(model, model.slow_parameters(), optim)
        self._totals: dict[str, Tensor] = {}
        self._unseen_loss = torch.zeros((), dtype=torch.float64)

    def training_step(self, batch: Batch, index: int) -> Float[Tensor, ""]:
        """The mean loss of a batch's targets, or this process's part in it."""
        loss, totals = self._measure("train", batch)
        targets, whole_loss, *_ = self._over_processes(totals.sum(1))
        self._look_for_nan(index, whole_loss)
        return loss * (self.trainer.world_size / targets.clamp(min=1).to(loss.dtype))

    def validation_step(self, batch: Batch, index: int) -> None:
        """Measure a batch that is not trained on."""
        self._measure("held_out", batch)

    def figures(self) -> dict[str, float]:
        """The epoch's loss and metrics of each part, over all processes; the count begins anew."""
        found = {}
        for part, totals in sorted(self._totals.items()):
            figures = self.objective.figures(self._over_processes(totals).cpu())
            found |= {f"{part}_{name}": value for name, value in figures.items()}
        self._totals = {}
        return found

    def require_finite(self) -> None:
        """Refuse to go on, or to write anything, with weights that are no numbers."""
        if not all(bool(parameter.isfinite().all()) for parameter in self.model.parameters()):
            raise self._diverged("a weight")

    @property
    def lr(self) -> float:
        """The learning rate of most parameters in the last step."""
        return self.optim.lr * self._last_factor

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over the parameter groups."""
        optimizer = torch.optim.AdamW(gather(self.model, self._groups, self.optim))
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
        return optimizer

    def on_train_epoch_start(self) -> None:
        """Say which epoch's order comes; in the middle of an epoch the batches know."""
        assert isinstance(self.trainer.train_dataloader, Batches)
        self.trainer.train_dataloader.set_epoch(self.current_epoch)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set what this step depends on, its learning rates and the seed of dropout."""
        self._last_factor = self._factor(self.global_step) * self.scale
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = group["peak_lr"] * self._last_factor
        seed = derive_seed(self.seed, _DROPOUT, self.current_epoch, batch_idx, self.global_rank)
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what was measured so far, over all processes, and the factor of a plateau."""
        totals = {part: self._over_processes(totals) for part, totals in self._totals.items()}
        checkpoint["task"] = {"scale": self.scale, "totals": totals}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up what was measured; the first process has it all."""
        self.scale = checkpoint["task"]["scale"]
        totals = checkpoint["task"]["totals"]
        self._totals = {part: total if self.global_rank == 0 else 0 * total for part, total in totals.items()}

    def _measure(self, part: Part, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss of a batch, summed, and what it adds to the totals."""
        outputs = self.model(batch.x, lengths=batch.lengths)
        smoothing = self.optim.label_smoothing if part == "train" else 0.0
        loss, totals = self.objective.sums(outputs, batch.y, self.model.output_std, smoothing)
        before = self._totals.get(part)
        self._totals[part] = totals if before is None else before.to(totals.device) + totals
        return loss, totals

    def _over_processes(self, totals: Tensor) -> Tensor:
        if self.trainer.world_size == 1:
            return totals
        # Lightning's own reduction would wait for all processes once more, at every step.
        whole = totals.to(self.device, copy=True)
        torch.distributed.all_reduce(whole)
        return whole

    def _look_for_nan(self, index: int, loss: Tensor) -> None:
        """Stop every process at the same step: the loss is that of all of them."""
        self._unseen_loss = self._unseen_loss + loss
        if self.device.type != "cpu" and index % _STEPS_UNSEEN:
            return
        if not math.isfinite(self._unseen_loss.item()):
            raise self._diverged("the loss")

    def _diverged(self, what: str) -> RunError:
        where = f"epoch {self.current_epoch + 1}, step {self.global_step + 1}"
        return RunError(
            f"{what} is not finite at {where}: lower optim.lr or optim.slow_lr, lengthen optim.warmup, or clip the "
            f"gradient (optim.clip={self.optim.clip:g})"
        )
