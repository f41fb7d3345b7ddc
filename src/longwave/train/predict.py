"""What a trained model says of sequences, and how right it is."""

from __future__ import annotations

from typing import Any

import torch

from longwave.data.order import Batches, BatchOrder
from longwave.data.sequences import Batch, Sequences
from longwave.layers.options import choose
from longwave.models import Head
from longwave.shapes import Float, Tensor
from longwave.train.objectives import OBJECTIVES

__all__ = ["evaluate", "predict"]

CHUNK = 16384  # longer sequences are taken in by chunks, from state to state: their memory is that of one chunk


@torch.no_grad()
def predict(
    model: Head[Any], samples: Sequences, batch_size: int = 100, *, rate: float = 1.0
) -> Float[Tensor, "samples *positions outputs"]:
    """The outputs of every sequence, in the order of the set, the model in evaluation mode.

    Args:
        model: any model of `longwave.models`, on any device.
        samples: the sequences; they are not augmented.
        batch_size: sequences at a time.
        rate: their sampling interval in units of that of training.

    Returns:
        On the CPU: one row of outputs per sequence; or one per position, NaN beyond a sequence's end.
    """
    batches = BatchOrder(len(samples), batch_size, None, samples.lengths).batches(epoch=0)
    parts = []
    for rows in batches:
        batch = samples.fetch(rows, None)
        parts.append(_without_padding(_forward(model, batch, rate).cpu(), batch.lengths))
    positions = (samples.longest,) if parts[0].ndim == 3 else ()
    outputs = parts[0].new_full((len(samples), *positions, parts[0].shape[-1]), torch.nan)
    for rows, part in zip(batches, parts, strict=True):
        outputs[rows, : part.shape[1]] = part
    return outputs


@torch.no_grad()
def evaluate(
    model: Head[Any], samples: Sequences, objective: str, *, batch_size: int = 100, rate: float = 1.0
) -> dict[str, float]:
    """The loss and the metrics of a model on a set, exact means over its targets; the model in evaluation mode.

    Args:
        model: any model of `longwave.models`, on any device.
        samples: the sequences and targets; they are not augmented.
        objective: a name of ``OBJECTIVES``.
        batch_size: sequences at a time.
        rate: their sampling interval in units of that of training.

    Returns:
        "loss" and what the objective measures: "accuracy", or "mse", "mae" and "r2".

    Raises:
        ConfigError: there is no such objective.
    """
    measure = choose("objective", objective, OBJECTIVES)
    batches = Batches(samples, BatchOrder(len(samples), batch_size, None, samples.lengths))
    unit = None if model.output_std is None else model.output_std.cpu()
    parts = (measure.sums(_forward(model, batch, rate).cpu(), batch.y, unit).totals for batch in batches)
    return measure.figures(torch.stack(list(parts)).sum(0))


def _forward(model: Head[Any], batch: Batch, rate: float) -> Tensor:
    model.eval()
    device = next(model.parameters()).device
    lengths = None if batch.lengths is None else batch.lengths.to(device)
    if batch.x.shape[1] <= CHUNK or not model.backbone.causal:
        return model(batch.x.to(device), lengths=lengths, rate=rate)
    outputs, state = [], None
    for start in range(0, batch.x.shape[1], CHUNK):
        here = None if lengths is None else (lengths - start).clamp(0, min(CHUNK, batch.x.shape[1] - start))
        chunk, state = model.prefill(batch.x[:, start : start + CHUNK].to(device), state, lengths=here, rate=rate)
        outputs.append(chunk)
    return outputs[-1] if outputs[-1].ndim == 2 else torch.cat(outputs, 1)


def _without_padding(outputs: Tensor, lengths: Tensor | None) -> Tensor:
    """Outputs with NaN beyond each row's end, if there is one at every position."""
    if lengths is None or outputs.ndim == 2:
        return outputs
    beyond = torch.arange(outputs.shape[1]) >= lengths[:, None]
    return outputs.masked_fill(beyond[:, :, None], torch.nan)
