"""What a set of sequences must fulfil, said before anything is trained on it."""

from __future__ import annotations

import torch

from longwave.errors import DataError
from longwave.shapes import Tensor

__all__ = ["check_targets", "check_values"]


def check_values(x: Tensor, lengths: Tensor | None, samples: int) -> None:
    """Refuse stored values that are not one row of finite numbers for each of some samples."""
    if x.ndim != 3 and not (x.ndim == 2 and lengths is not None):
        raise DataError(
            f"x must be (samples, time, channels), or (positions, channels) with lengths, got shape {tuple(x.shape)}"
        )
    rows = {"y": samples} if x.ndim == 2 else {"x": len(x), "y": samples}
    rows |= {} if lengths is None else {"lengths": len(lengths)}
    if len(set(rows.values())) > 1:
        raise DataError(f"one row per sample is needed in each of x, y and lengths, got {rows} rows")
    if samples == 0:
        raise DataError("there are no samples in the set")
    if x.shape[-1] == 0:
        raise DataError("the sequences have no channels: every position needs one value or more")
    _check_lengths(x, lengths)
    if x.is_floating_point():
        _check_finite(x, lengths)


def _check_lengths(x: Tensor, lengths: Tensor | None) -> None:
    if lengths is None:
        if x.shape[1] == 0:
            raise DataError("the sequences are empty: every one needs one position or more")
        return
    if int(lengths.min()) < 1:
        raise DataError(f"sample {int(lengths.argmin())} has length {int(lengths.min())}: it needs one or more")
    if x.ndim == 3 and int(lengths.max()) > x.shape[1]:
        worst = int(lengths.argmax())
        raise DataError(f"sample {worst} has length {int(lengths[worst])}, but x has {x.shape[1]} positions")
    if x.ndim == 2 and int(lengths.sum()) != len(x):
        raise DataError(f"the lengths add up to {int(lengths.sum())} positions, but x has {len(x)}")


def _check_finite(x: Tensor, lengths: Tensor | None) -> None:
    bad = ~torch.isfinite(x).all(-1)
    if lengths is not None and x.ndim == 3:
        bad &= torch.arange(x.shape[1]) < lengths[:, None]  # padding may hold anything
    if not bad.any():
        return
    if x.ndim == 3:
        sample, position = bad.nonzero()[0].tolist()
    else:
        assert lengths is not None
        first, ends = int(bad.nonzero()[0]), lengths.cumsum(0)
        sample = int(torch.searchsorted(ends, first, right=True))
        position = first - int(ends[sample] - lengths[sample])
    raise DataError(f"sample {sample} has NaN or infinity at position {position}; clean the data or drop the sample")


def check_targets(y: Tensor, longest: int, classes: int, absent: int) -> None:
    """Refuse targets of another shape than an objective's, classes outside those named, and numbers that are none."""
    whole = not y.is_floating_point()
    if y.ndim not in ((1, 2) if whole else (2, 3)):
        raise DataError(
            f"y of {'integers' if whole else 'floating point numbers'} must be "
            f"{'(samples,) or (samples, time)' if whole else '(samples, outputs) or (samples, time, outputs)'}, "
            f"got shape {tuple(y.shape)}"
        )
    per_position = y.ndim == (2 if whole else 3)
    if per_position and y.shape[1] < longest:
        raise DataError(f"y has targets for {y.shape[1]} positions, the longest sequence has {longest}")
    if whole:
        _check_classes(y, classes, absent)
    elif (bad := y.isinf() if per_position else ~y.isfinite()).any():
        raise DataError(f"the target of sample {int(bad.flatten(1).any(1).nonzero()[0])} is NaN or infinite")


def _check_classes(y: Tensor, classes: int, absent: int) -> None:
    wrong = (y < 0) | (y >= classes) if classes else y < 0
    if y.ndim == 2:
        wrong &= y != absent
    if wrong.any():
        where = int(wrong.reshape(len(y), -1).any(1).nonzero()[0])
        known = f"there are {classes} classes, numbered from 0" if classes else "classes are numbered from 0"
        raise DataError(f"sample {where} has class {int(y[wrong][0])}, but {known}")
