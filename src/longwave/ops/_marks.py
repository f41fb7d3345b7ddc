"""What each position is to a recurrence: the one form in which the selective operations hand packing and padding on."""

import torch
from torch import Tensor

from longwave.errors import ShapeError
from longwave.ops import _checks as check

GOES_ON, BEGINS, PADDING = 0, 1, 2  # native/kernels.hpp has the same


def position_marks(
    op: str,
    batch: int,
    time: int,
    reset: Tensor | None = None,
    lengths: Tensor | None = None,
    seq_idx: Tensor | None = None,
) -> Tensor | None:
    """Mark every position, (batch, time) uint8, or None where all go on.

    A position that ``BEGINS`` finds the zero state; one that is ``PADDING`` leaves the state as it is, and its output
    is zero. A row that begins with ``GOES_ON`` carries the initial state on.

    Args:
        op: the operation's name, for errors.
        batch: rows.
        time: positions.
        reset: True where a sequence begins.
        lengths: row i is padding from lengths[i] on.
        seq_idx: the number of the sequence that a position belongs to, −1 for padding; the first sequence of a row
            goes on from the initial state. In place of the other two.

    Returns:
        The marks.

    Raises:
        ShapeError: shapes or dtypes do not fit, or seq_idx comes beside reset or lengths.
    """
    if seq_idx is None:
        check.sequence_ends(op, batch, time, reset, lengths)
        if reset is None and lengths is None:
            return None
        return _of_ends(batch, time, reset, lengths)
    if reset is not None or lengths is not None:
        raise ShapeError(f"{op}: seq_idx says where sequences begin and end; leave out reset and lengths.")
    check.shape(op, "seq_idx", seq_idx, (batch, time), "(batch, time)")
    if seq_idx.dtype.is_floating_point or seq_idx.dtype == torch.bool:
        raise ShapeError(f"{op}: seq_idx is {seq_idx.dtype}; expected an integer dtype, −1 for padding.")
    return _of_indices(seq_idx)


def _of_ends(batch: int, time: int, reset: Tensor | None, lengths: Tensor | None) -> Tensor:
    if lengths is None:
        assert reset is not None
        return reset.to(torch.uint8)
    marks = lengths.new_zeros(batch, time, dtype=torch.uint8) if reset is None else reset.to(torch.uint8)
    return marks.masked_fill(torch.arange(time, device=lengths.device) >= lengths[:, None], PADDING)


def _of_indices(seq_idx: Tensor) -> Tensor:
    """A position begins a sequence if the last position before it that is not padding belongs to another."""
    valid, place = seq_idx >= 0, torch.arange(seq_idx.shape[1], device=seq_idx.device)
    last = torch.where(valid, place, -1).cummax(1).values  # the last valid place so far
    before = torch.cat([last.new_full((len(last), min(1, last.shape[1])), -1), last[:, :-1]], 1)
    begins = valid & (before >= 0) & (seq_idx.gather(1, before.clamp(min=0)) != seq_idx)
    return begins.to(torch.uint8).masked_fill(~valid, PADDING)
