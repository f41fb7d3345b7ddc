"""The user's own arrays: .npy and .npz files with sequences and, to learn from, their targets."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from longwave.data.sequences import NO_TARGET, Sequences
from longwave.data.splits import split
from longwave.errors import DataError
from longwave.shapes import Tensor

__all__ = ["arrays", "read_array"]

_KEYS = ("x", "y", "lengths")


def arrays(path: str | Path, *, test: float = 0.2, seed: int = 0) -> tuple[Sequences, Sequences]:
    """Sequences and targets to learn from, in .npz files.

    An .npz file (``numpy.savez(file, x=x, y=y)``) holds x, the values, (samples, length[, channels]); y, the targets;
    and, if sequences are padded, lengths, (samples,). What y is says what is learned:

    - integers or strings, (samples,): a class each; the classes are numbered in the order of their values;
    - floating point numbers, (samples,) or (samples, outputs): numbers;
    - integers, (samples, length): a class at each position, −100 where there is none;
    - floating point numbers, (samples, length, outputs): numbers at each position, NaN where there are none.

    Args:
        path: one .npz file, or a folder with train.npz and test.npz.
        test: of one file, the share that becomes the test set, see :func:`longwave.data.split`.
        seed: of that split.

    Returns:
        The training and the test set, standardised channel by channel by the training set.

    Raises:
        DataError: a file is missing, of another type, without y, or what it holds does not fit.
        ConfigError: ``test`` is not between 0 and 1.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        parts = [_read(path / f"{name}.npz") for name in ("train", "test")]
        train, test_set = _labelled(parts, path)
    else:
        train, test_set = split(_labelled([_read(path)], path)[0], test, seed)
    return train.standardised(), test_set.standardised(train)


def read_array(path: str | Path) -> Sequences:
    """Sequences without targets, to predict from: the array in an .npy file, or x (and lengths) of an .npz file.

    Args:
        path: the file; the array is (samples, length[, channels]).

    Returns:
        The sequences, not standardised, in at most 32 bits; their ``objective`` is None.

    Raises:
        DataError: the file is missing, empty, of another type, holds no such array, or a value is NaN or infinite.
    """
    read = _read(Path(path).expanduser())
    return _explained(path, read.x, torch.empty(len(read.x), 0), read.lengths)


class _Read(NamedTuple):
    path: Path
    x: Tensor
    y: np.ndarray | None
    lengths: Tensor | None


def _read(path: Path) -> _Read:
    found = load_arrays(path)
    if "x" not in found:
        raise DataError(f"{path} holds {sorted(found)}, but no x: save it with numpy.savez(file, x=..., y=...)")
    if unknown := sorted(set(found) - set(_KEYS)):
        raise DataError(f"{path} holds {unknown} beside x, y and lengths; name the arrays x, y and lengths")
    lengths = found.get("lengths")
    if lengths is not None and (lengths.dtype.kind not in "iu" or lengths.ndim != 1):
        raise DataError(f"{path}: lengths must be integers, (samples,), got {lengths.dtype} {lengths.shape}")
    whole = None if lengths is None else torch.from_numpy(lengths.astype(np.int64))
    return _Read(path, _values(path, found["x"]), found.get("y"), whole)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name; the one of an .npy file is x. Nothing is ever unpickled."""
    if path.suffix not in (".npy", ".npz"):
        raise DataError(f"{path} is not an .npy or .npz file; save the array with numpy.save or numpy.savez")
    try:
        with path.open("rb") as opened:
            loaded = np.load(opened, allow_pickle=False)
            return {"x": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        what = "is empty" if path.stat().st_size == 0 else f"cannot be read as arrays of numbers ({error})"
        raise DataError(f"{path} {what}; save plain arrays with numpy.save or numpy.savez") from error


def _values(path: Path, x: np.ndarray) -> Tensor:
    """The values as a tensor, (samples, length, channels), in a type that torch computes with."""
    if x.dtype.kind not in "fiub":
        raise DataError(f"{path}: the sequences must be real numbers, got {x.dtype}")
    if x.ndim not in (2, 3):
        raise DataError(f"{path}: the array must be (samples, length) or (samples, length, channels), got {x.shape}")
    kept = x.dtype.newbyteorder("=") in (np.uint8, np.int8, np.int16)
    tensor = torch.from_numpy(np.ascontiguousarray(x, x.dtype.newbyteorder("="))) if kept else _floats(x)
    return tensor[:, :, None] if tensor.ndim == 2 else tensor


def _floats(values: np.ndarray) -> Tensor:
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as such
        return torch.from_numpy(np.ascontiguousarray(values, np.float32))


def _labelled(parts: list[_Read], path: Path) -> list[Sequences]:
    """The sets of some files whose classes are numbered together."""
    ys: list[np.ndarray] = []
    for part in parts:
        if part.y is None:
            raise DataError(f"{part.path} holds no y to learn from: save it with numpy.savez(file, x=..., y=...)")
        if part.y.dtype.kind not in "fiubUS":
            raise DataError(f"{part.path}: y must be numbers or strings, got {part.y.dtype}")
        ys.append(part.y.astype(str) if part.y.dtype.kind == "S" else part.y)
    if len({_form(y) for y in ys}) > 1:
        raise DataError(f"{path}: y differs in kind between its files: {[f'{y.dtype} {y.shape}' for y in ys]}")
    if ys[0].dtype.kind == "f":
        targets = [_floats(y) for y in ys]
        classes: tuple[str, ...] = ()
    else:
        targets, classes = _numbered(ys)
    targets = [y[:, None] if y.is_floating_point() and y.ndim == 1 else y for y in targets]
    return [_explained(part.path, part.x, y, part.lengths, classes) for part, y in zip(parts, targets, strict=True)]


def _form(y: np.ndarray) -> tuple[str, int, int]:
    """What kind of target y is: only targets of the same form go together."""
    kind = {"f": "numbers", "U": "strings"}.get(y.dtype.kind, "integers")
    return kind, y.ndim, y.shape[-1] if kind == "numbers" and y.ndim > 1 else 0


def _numbered(ys: list[np.ndarray]) -> tuple[list[Tensor], tuple[str, ...]]:
    """Classes as numbers in the order of their values, and their names."""
    absent = [y == NO_TARGET if y.ndim == 2 else np.zeros(y.shape, bool) for y in ys]
    values = np.unique(np.concatenate([y[~none].reshape(-1) for y, none in zip(ys, absent, strict=True)]))
    numbered = [np.where(none, NO_TARGET, np.searchsorted(values, y)) for y, none in zip(ys, absent, strict=True)]
    return [torch.from_numpy(y) for y in numbered], tuple(str(value) for value in values.tolist())


def _explained(
    path: str | Path, x: Tensor, y: Tensor, lengths: Tensor | None, classes: tuple[str, ...] = ()
) -> Sequences:
    """The set, whose faults name the file."""
    try:
        return Sequences(x, y, lengths=lengths, classes=classes)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
