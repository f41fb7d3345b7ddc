"""Train a model with Lightning, from the beginning or from where a killed process left off."""

from __future__ import annotations

import copy
import logging
import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from longwave.data.order import Batches, BatchOrder
from longwave.data.sequences import Sequences
from longwave.errors import ConfigError
from longwave.layers.options import choose
from longwave.models import Head, PooledHead, load
from longwave.train.config import OptimConfig, TrainerConfig
from longwave.train.objectives import OBJECTIVES, Objective
from longwave.train.run import Run

__all__ = ["fit"]

_log = logging.getLogger(__name__)


def fit(
    model: Head[Any],
    samples: Sequences,
    held_out: Sequences | None = None,
    *,
    objective: str = "classify",
    optim: OptimConfig,
    trainer: TrainerConfig,
    seed: int,
    run: Run | None = None,
) -> list[dict[str, int | float]]:
    """Train a model in place.

    Args:
        model: any model of `longwave.models` whose outputs fit the objective; in evaluation mode afterwards, on the
            CPU.
        samples: what it is trained on, in an order drawn anew for each epoch.
        held_out: measured after each epoch, never trained on.
        objective: a name of ``OBJECTIVES``.
        optim: the optimiser's settings.
        trainer: the loop's settings.
        seed: determines the order, dropout and augmentation of every epoch and batch, whatever was drawn before; on a
            CPU the same seed gives the same weights, bit by bit, however often training was interrupted.
        run: an opened run folder, which gets metrics.csv, tensorboard/ and checkpoints/last.ckpt after each epoch, and
            the model at the end. Where a training was interrupted it goes on; where it is finished its model and
            history are read.

    Returns:
        One row per epoch: epoch, step, seconds, lr, train_loss, the objective's metrics (train_accuracy, or train_mse,
        train_mae and train_r2) and, with ``held_out``, the same for it.

    Raises:
        ConfigError: settings contradict one another, the model or the data.
        RunError: the run folder cannot be written, its state is damaged, another process trains in it, or the loss is
            no number any more.
        MissingExtraError: Lightning or TensorBoard is not installed.
        KeyboardInterrupt: the user stopped the training; no model is written then.
    """
    measure = choose("objective", objective, OBJECTIVES)
    for part in (samples, held_out):
        if part is not None:
            _check(model, part, objective, measure)
    if run is None:
        return _train(model, samples, held_out, measure, optim, trainer, seed, None)
    with run.lock():
        if run.finished:
            _log.info("%s is finished: its model and its history are taken as they are", run.folder)
            model.load_state_dict(load(run.model).state_dict())
            model.cpu().eval()
            return run.read(run.folder).metrics
        return _train(model, samples, held_out, measure, optim, trainer, seed, run)


def _train(
    model: Head[Any],
    samples: Sequences,
    held_out: Sequences | None,
    objective: Objective,
    optim: OptimConfig,
    trainer: TrainerConfig,
    seed: int,
    run: Run | None,
) -> list[dict[str, int | float]]:
    from longwave.train.history import History
    from longwave.train.task import Task
    from longwave.train.watch import Watch

    history = History(run)
    watch = Watch(history, objective, optim, trainer, held_out=held_out is not None)
    order = BatchOrder(len(samples), trainer.batch_size, seed, samples.lengths)
    # Lightning would count them too, but by asking for the first batch of an epoch before it knows which.
    steps = trainer.epochs * math.ceil(len(order) / trainer.gradient_accumulation)
    # FSDP takes a model's parameters apart for good.
    task = Task(copy.deepcopy(model) if trainer.strategy == "fsdp" else model, objective, optim, steps=steps, seed=seed)
    task.train()
    with _quiet(), _interruptible():
        loop = _trainer(trainer, optim, [history, watch], run)
        share = {"rank": loop.global_rank, "world": loop.world_size}
        loaders = [Batches(samples, order, **share)]
        if held_out is not None:
            by_length = BatchOrder(len(held_out), trainer.batch_size, None, held_out.lengths)
            loaders.append(Batches(held_out, by_length, **share))
        state = run.state if run is not None and run.state.exists() else None
        if state is not None:
            _log.info("going on from %s", state)
        loop.fit(task, *loaders, ckpt_path=state, weights_only=True)
    model.cpu().eval()
    model.load_state_dict({name.removeprefix("model."): weight for name, weight in watch.weights.items()})
    if run is not None and loop.is_global_zero:
        model.save(run.model)
    return history.rows


def _trainer(trainer: TrainerConfig, optim: OptimConfig, callbacks: list[Any], run: Run | None) -> Any:
    """Lightning's Trainer with these settings, silent and without any files but ours."""
    from longwave.train._lightning import MisconfigurationException, RichProgressBar, Trainer
    from longwave.train.resume import SaveState, StateFile

    bar = sys.stdout.isatty()
    callbacks = [*callbacks, RichProgressBar(leave=False)] if bar else callbacks
    if run is not None:
        callbacks = [*callbacks, SaveState(run, trainer.checkpoint_minutes)]
    try:
        return Trainer(
            max_epochs=trainer.epochs,
            accelerator=trainer.accelerator,
            devices=trainer.devices,
            num_nodes=trainer.num_nodes,
            strategy=trainer.strategy,
            precision=trainer.precision,
            gradient_clip_val=optim.clip or None,
            accumulate_grad_batches=trainer.gradient_accumulation,
            callbacks=callbacks,
            plugins=[StateFile()],
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=run is not None,
            enable_model_summary=False,
            enable_progress_bar=bar,
        )
    except (MisconfigurationException, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"trainer: this machine cannot train so ({reason}); choose other devices") from error


def _check(model: Head[Any], samples: Sequences, objective: str, measure: Objective) -> None:
    """Refuse data or a model that another objective is for."""
    if samples.objective != objective:
        raise ConfigError(f"objective {objective!r} does not fit the targets, which are for {samples.objective!r}")
    if isinstance(model, PooledHead) != measure.pooled:
        wanted = "one output per sequence" if measure.pooled else "an output at every position"
        raise ConfigError(f"objective {objective!r} wants {wanted}, which a {type(model).__name__} does not have")
    outputs = model.decoder.out_features
    needed = samples.y.shape[-1] if samples.y.is_floating_point() else int(samples.y.max()) + 1
    if needed > outputs or (samples.y.is_floating_point() and needed < outputs):
        raise ConfigError(f"the model has {outputs} outputs, but the targets need {needed}: set d_output accordingly")


# What Lightning and torch say that is no news here: the data lies in memory and needs no processes to fetch it; nothing
# need be held out; a notice of torch's to Lightning's developers.
_NO_NEWS = (
    r"The '\w+' does not have many workers",
    r"You defined a `validation_step` but have no `val_dataloader`",
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
)
_ADVERTISERS = (
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric.utilities.rank_zero",
    "lightning.fabric.utilities.distributed",
)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's advertisements and what is no news; every other warning passes."""
    loggers = [logging.getLogger(name) for name in _ADVERTISERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in _NO_NEWS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Make Ctrl-C what it is elsewhere: Lightning turns it into SystemExit."""
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
