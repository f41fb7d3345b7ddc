"""Sequences that stand one after the other in a row."""

from itertools import pairwise

import torch

from longwave.errors import ShapeError
from longwave.shapes import Bool, Int, Tensor


def sequences(cu_seqlens: Int[Tensor, " ends"], x: Tensor) -> list[slice]:
    """Where the sequences in the one row of x (1, time, …) stand; cu_seqlens are their beginnings and the last end.

    Raises:
        ShapeError: x has several rows, or the ends do not rise from 0 to its time.

    Example:
        >>> sequences(torch.tensor([0, 2, 5]), torch.zeros(1, 5, 1))
        [slice(0, 2, None), slice(2, 5, None)]
    """
    ends = cu_seqlens.tolist()
    if len(x) != 1 or not ends or ends[0] != 0 or ends[-1] != x.shape[1] or ends != sorted(ends):
        raise ShapeError(
            f"cu_seqlens must rise from 0 to the {x.shape[1]} positions of one row, got {ends} for {len(x)} rows"
        )
    return [slice(begin, end) for begin, end in pairwise(ends)]


def beginnings(
    x: Tensor, seq_idx: Int[Tensor, "batch time"] | None, cu_seqlens: Int[Tensor, " ends"] | None
) -> Bool[Tensor, "batch time"] | None:
    """Where in x (batch, time, …) a sequence begins whose state is not that of the one before; None: nowhere."""
    reset = None
    if seq_idx is not None:
        reset = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
        reset[:, 1:] = seq_idx[:, 1:] != seq_idx[:, :-1]
    if cu_seqlens is not None:
        begins = [part.start for part in sequences(cu_seqlens, x) if part.start < part.stop]
        reset = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device) if reset is None else reset
        reset[0, begins] = True
    return reset
