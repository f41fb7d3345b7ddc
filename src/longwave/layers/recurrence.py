"""A recurrence run as it is written, one position after the other, on padded and packed batches."""

from collections.abc import Callable

import torch

from longwave.layers.padding import real_positions
from longwave.shapes import Bool, Int, Tensor


def recur(
    advance: Callable[..., tuple[Tensor, ...]],
    x: Tensor,
    state: tuple[Tensor, ...],
    lengths: Int[Tensor, " batch"] | None = None,
    reset: Bool[Tensor, "batch time"] | None = None,
) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """Every y_t of (y_t, *state) = advance(x_t, *state), and the state of each row after its own length.

    Args:
        advance: the recurrence; all its tensors are batch-first.
        x: its inputs, (batch, time, …).
        state: the state before the first of them.
        lengths: as in `Mixer.forward`.
        reset: as in `Mixer.forward`.
    """
    real = None if lengths is None else real_positions(lengths, x.shape[1])
    fresh = reset if reset is None or real is None else reset & real
    ys = []
    for t, x_t in enumerate(x.unbind(1)):
        if fresh is not None:
            state = tuple(_where(fresh[:, t], torch.zeros_like(s), s) for s in state)
        y_t, *after = advance(x_t, *state)
        if real is not None:
            after = (_where(real[:, t], new, old) for new, old in zip(after, state, strict=True))
        state = tuple(after)
        ys.append(y_t)
    return ys, state


def _where(rows: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Choose row by row."""
    return torch.where(rows.view(-1, *(1,) * (yes.ndim - 1)), yes, no)
