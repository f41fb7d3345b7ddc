"""The .ts format of the UCR and UEA archives: a header of @tags, then one sample per line.

::

    # a comment
    @problemName Example
    @dimensions 2
    @classLabel true walk run
    @data
    0.1,0.2,0.3:1.0,1.1,1.2:walk
    0.4,?:1.3,1.4:run

A line holds the dimensions of a sample, separated by colons, and last its class or its number; ``?`` is a value that is
missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from longwave.data.sequences import Sequences
from longwave.errors import DataError

__all__ = ["Fill", "parse_ts", "read_ts"]

Fill = Literal["refuse", "linear"]
# The spellings found in the archives; capitals do not matter.
_FLAGS = ("timestamps", "missing", "univariate", "equallength")
_NUMBERS = {"dimension": "dimensions", "dimensions": "dimensions", "serieslength": "serieslength"}


@dataclass
class _Header:
    flags: dict[str, bool] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    target: Literal["class", "number"] | None = None
    classes: tuple[str, ...] = ()


def read_ts(path: str | Path, *, fill: Fill = "refuse") -> Sequences:
    """The samples of a .ts file, not standardised.

    Args:
        path: the file.
        fill: what becomes of missing values: "refuse" is an error, "linear" interpolates between the neighbours in
            time and takes the nearest value at the ends.

    Returns:
        The sequences, in 32 bits; their targets are classes, named and numbered in the header's order, one number
        each (``@targetLabel``), or none.

    Raises:
        DataError: the file is missing, or a line of it is malformed or contradicts the header: names file and line.

    Source: the file format specification of sktime and aeon; ``@timeStamps true`` is not read.
    """
    path = Path(path)
    try:
        # Comments may be in any encoding; a character that is none in a number is found as such.
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    return parse_ts(text, str(path), fill=fill)


def parse_ts(text: str, source: str, *, fill: Fill = "refuse") -> Sequences:
    """The samples in the text of a .ts file; ``source`` is what errors call it. As :func:`read_ts`."""
    header = _Header()
    samples: list[npt.NDArray[np.float32]] = []
    targets: list[int | float] = []
    in_data = False
    for number, line in enumerate(map(str.strip, text.lstrip("\ufeff").splitlines()), start=1):
        if not line or line.startswith(("#", "%")):
            continue
        try:
            if in_data:
                *dimensions, target = line.split(":") if header.target else (*line.split(":"), "")
                samples.append(_values(dimensions, header, fill))
                targets.append(_target(target.strip(), header))
                _check_shape(samples, header)
            elif line.lower() == "@data":
                in_data = True
                _check_header(header)
            else:
                _read_tag(line, header)
        except ValueError as error:
            raise DataError(f"{source}, line {number}: {error}") from error
    if not samples:
        raise DataError(f"{source} has no samples after @data" if in_data else f"{source} has no line @data")
    return _as_sequences(samples, targets, header)


def _read_tag(line: str, header: _Header) -> None:
    tag, *words = line.split()
    name = tag.lower().removeprefix("@")
    if not tag.startswith("@"):
        raise ValueError(f"expected a tag such as @classLabel before @data, found {_short(line)}")
    if name in _FLAGS and len(words) == 1:
        header.flags[name] = _flag(words[0])
    elif name in _NUMBERS and len(words) == 1 and words[0].isdigit():
        header.numbers[_NUMBERS[name]] = int(words[0])
    elif name in ("classlabel", "targetlabel") and words:
        if _flag(words[0]):
            header.target = "class" if name == "classlabel" else "number"
            header.classes = tuple(words[1:])
    elif name != "problemname":
        raise ValueError(f"{_short(line)} is not a tag of the format, or not what its tag takes")


def _flag(word: str) -> bool:
    if word.lower() not in ("true", "false"):
        raise ValueError(f"expected true or false, found {_short(word)}")
    return word.lower() == "true"


def _check_header(header: _Header) -> None:
    if header.flags.get("timestamps"):
        raise ValueError("the samples have time stamps, which are not read: resample them to equal intervals")
    if header.target == "class" and not header.classes:
        raise ValueError("@classLabel true must name the classes")
    if len(set(header.classes)) < len(header.classes):
        raise ValueError(f"@classLabel names a class twice: {' '.join(header.classes)}")


def _values(dimensions: list[str], header: _Header, fill: Fill) -> npt.NDArray[np.float32]:
    """One sample, (time, channels), with missing values filled."""
    if not dimensions:
        raise ValueError("a sample needs values before its target, separated by a colon")
    channels = [_channel(text, i) for i, text in enumerate(dimensions)]
    lengths = sorted({len(channel) for channel in channels})
    if len(lengths) > 1:
        raise ValueError(f"the dimensions of a sample must be equally long, found lengths {lengths}")
    values = np.stack(channels, axis=1)
    missing = np.isnan(values)
    if missing.any():
        if fill == "refuse":
            where = np.argwhere(missing)[0]
            raise ValueError(
                f"the value of dimension {where[1]} at position {where[0]} is missing; fill='linear' fills"
            )
        _interpolate(values, missing)
    return values.astype(np.float32)


def _channel(text: str, dimension: int) -> npt.NDArray[np.float64]:
    try:
        values = np.array([float("nan" if value.strip() == "?" else value) for value in text.split(",")])
    except ValueError:
        raise ValueError(f"dimension {dimension} is not numbers separated by commas: {_short(text)}") from None
    if np.isinf(values).any():
        raise ValueError(f"dimension {dimension} has an infinite value")
    return values


def _interpolate(values: npt.NDArray[np.float64], missing: npt.NDArray[np.bool_]) -> None:
    time = np.arange(len(values))
    for i, gaps in enumerate(missing.T):
        if gaps.all():
            raise ValueError(f"every value of dimension {i} is missing: there is nothing to fill it from")
        values[gaps, i] = np.interp(time[gaps], time[~gaps], values[~gaps, i])


def _target(text: str, header: _Header) -> int | float:
    if header.target == "class":
        if text not in header.classes:
            raise ValueError(f"class {_short(text)} is not among those of @classLabel: {' '.join(header.classes)}")
        return header.classes.index(text)
    if header.target == "number":
        try:
            return float(text)
        except ValueError:
            raise ValueError(f"the target must be a number, found {_short(text)}") from None
    return 0.0


def _check_shape(samples: list[npt.NDArray[np.float32]], header: _Header) -> None:
    """The last sample against the header, and against the first."""
    length, channels = samples[-1].shape
    expected = 1 if header.flags.get("univariate") else header.numbers.get("dimensions", samples[0].shape[1])
    if channels != expected:
        raise ValueError(f"expected {expected} dimensions, found {channels}")
    if header.flags.get("equallength"):
        expected = header.numbers.get("serieslength") or len(samples[0])
        if length != expected:
            raise ValueError(f"expected {expected} values in each dimension, by @equalLength true, found {length}")


def _as_sequences(samples: list[npt.NDArray[np.float32]], targets: Iterable[int | float], header: _Header) -> Sequences:
    y = torch.tensor(list(targets))
    if header.target != "class":
        y = y[:, None] if header.target else y[:, None][:, :0]
    return Sequences.of([torch.from_numpy(sample) for sample in samples], y, classes=header.classes)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
