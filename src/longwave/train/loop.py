"""Train a classifier with Lightning, and read off what a classifier predicts."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from longwave.data import Batch, Sequences
from longwave.models import Classifier
from longwave.shapes import Float, Tensor
from longwave.train.config import OptimConfig, TrainerConfig
from longwave.train.run import Run

__all__ = ["accuracy", "fit", "predict"]


def fit(
    model: Classifier,
    samples: Sequences,
    held_out: Sequences | None = None,
    *,
    optim: OptimConfig,
    trainer: TrainerConfig,
    seed: int,
    run: Run | None = None,
) -> list[dict[str, int | float]]:
    """Train a classifier in place.

    Args:
        model: the classifier; in evaluation mode afterwards, on the CPU.
        samples: what it is trained on, in an order drawn anew for each epoch.
        held_out: measured after each epoch, never trained on.
        optim: the optimiser's settings.
        trainer: the loop's settings.
        seed: determines the order, dropout and augmentation, whatever was drawn before; on a CPU the same seed gives
            the same weights.
        run: an opened run folder, which gets metrics.csv after each epoch and the model at the end.

    Returns:
        One row per epoch: epoch, step, seconds, train_loss, train_accuracy and, with ``held_out``, held_out_loss and
        held_out_accuracy.

    Raises:
        MissingExtraError: Lightning or torchmetrics is not installed.
        KeyboardInterrupt: the user stopped the training; no model is written then.
    """
    from longwave.train._lightning import Callback, RichProgressBar, Trainer, seed_everything
    from longwave.train.history import History
    from longwave.train.task import ClassificationTask

    history = History(run)
    bar = sys.stdout.isatty()
    callbacks: list[Callback] = [history, RichProgressBar(leave=False)] if bar else [history]
    with _quiet(), _interruptible():
        seed_everything(seed, verbose=False)
        loop = Trainer(
            max_epochs=trainer.epochs,
            accelerator=trainer.accelerator,
            devices=1,
            precision=trainer.precision,
            gradient_clip_val=optim.clip or None,
            callbacks=callbacks,
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=bar,
        )
        size = trainer.batch_size
        held_out_batches = None if held_out is None else _batches(held_out, size)
        loop.fit(ClassificationTask(model, optim), _batches(samples, size, shuffle=True), held_out_batches)
    model.cpu().eval()
    if run is not None:
        model.save(run.model)
    return history.rows


@torch.no_grad()
def predict(model: Classifier, samples: Sequences, batch_size: int = 100) -> Float[Tensor, "samples n_classes"]:
    """The logits of every sequence, the model in evaluation mode."""
    model.eval()
    return torch.cat([model(batch.x, lengths=batch.lengths) for batch in samples.batches(batch_size)])


def accuracy(logits: Float[Tensor, "samples n_classes"], samples: Sequences) -> float:
    """The share of sequences whose largest logit is that of their class."""
    return (logits.argmax(dim=1) == samples.y).double().mean().item()


def _batches(samples: Sequences, size: int, shuffle: bool = False) -> torch.utils.data.DataLoader[Batch]:
    # The data set fetches a batch as a whole, which leaves the loader nothing to collate.
    return torch.utils.data.DataLoader(samples, batch_size=size, shuffle=shuffle, collate_fn=_as_fetched)


def _as_fetched(batch: Any) -> Any:
    return batch


# What Lightning and torch say that is no news here: the data lies in memory and needs no processes to fetch it; nothing
# need be held out; a notice of torch's to Lightning's developers.
_NO_NEWS = (
    r"The '\w+' does not have many workers",
    r"You defined a `validation_step` but have no `val_dataloader`",
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's advertisements and what is no news; every other warning passes."""
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in _NO_NEWS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Make Ctrl-C what it is elsewhere: Lightning turns it into SystemExit."""
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
