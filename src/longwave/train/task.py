"""What Lightning trains: a model, its loss and metrics, its optimiser."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from longwave.data import Batch
from longwave.models import Classifier
from longwave.shapes import Float, Tensor
from longwave.train._lightning import LightningModule, MulticlassAccuracy
from longwave.train.config import OptimConfig
from longwave.train.optim import parameter_groups, warmup_cosine

__all__ = ["ClassificationTask"]


class ClassificationTask(LightningModule):
    """Cross-entropy and accuracy of a classifier, logged once per epoch as ``train_*`` and ``held_out_*``.

    Args:
        model: the classifier; it is trained in place.
        optim: the optimiser's settings.
    """

    def __init__(self, model: Classifier, optim: OptimConfig) -> None:
        super().__init__()
        self.model = model
        self.optim = optim
        self.loss = nn.CrossEntropyLoss()
        n_classes = model.config.n_classes
        self.train_accuracy = MulticlassAccuracy(n_classes, average="micro")
        self.held_out_accuracy = MulticlassAccuracy(n_classes, average="micro")

    def training_step(self, batch: Batch, index: int) -> Float[Tensor, ""]:
        """The loss of one batch."""
        return self._measure("train", batch)

    def validation_step(self, batch: Batch, index: int) -> None:
        """Loss and accuracy of one batch that is not trained on."""
        self._measure("held_out", batch)

    def _measure(self, part: str, batch: Batch) -> Float[Tensor, ""]:
        logits = self.model(batch.x, lengths=batch.lengths)
        loss = self.loss(logits, batch.y)
        accuracy = self.get_submodule(f"{part}_accuracy")
        accuracy(logits, batch.y)
        shown = {f"{part}_loss": loss, f"{part}_accuracy": accuracy}
        self.log_dict(shown, on_step=False, on_epoch=True, batch_size=len(batch.y))
        return loss

    def configure_optimizers(self) -> Any:
        """AdamW over :func:`parameter_groups`, with :func:`warmup_cosine` over all steps of the run."""
        optimizer = torch.optim.AdamW(parameter_groups(self.model, self.model.slow_parameters(), self.optim))
        factor = warmup_cosine(int(self.trainer.estimated_stepping_batches), self.optim.warmup)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
