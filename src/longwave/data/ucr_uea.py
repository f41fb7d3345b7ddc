"""Problems of the UCR and UEA archives of time series classification and regression, by name."""

from __future__ import annotations

import hashlib
import logging
import re
import zipfile
import zlib
from pathlib import Path

from longwave.data.download import RemoteFile
from longwave.data.roots import find
from longwave.data.sequences import Sequences
from longwave.data.ts_format import Fill, parse_ts
from longwave.errors import ConfigError, DataError

__all__ = ["ucr"]

_log = logging.getLogger(__name__)
_ADDRESS = "https://timeseriesclassification.com/aeon-toolkit/{problem}.zip"
_PARTS = ("TRAIN", "TEST")
# SHA-256 of the samples, the lines after @data, of the training and the test file: the archive publishes no checksums.
_DIGESTS: dict[str, tuple[str, str]] = {
    "BasicMotions": (
        "e45fd2f102b1c51bb7dac341fe650eb04deda689095e33f09c7a56a370f0fc42",
        "376154794f568aa201d3931c5ad49d20efcf4ca673a120ef3e672f7998e694bc",
    ),
    "GunPoint": (
        "1c2d34805931c13dd1c89e954362862a5afd25ac76edc94ba612c520bcce956f",
        "4b1e9278f80488067fed9f8705880684fefb0d1b67009a2c9849a62ee75a6ce9",
    ),
    "ItalyPowerDemand": (
        "002c1cbc95fc7ec418766e7c5f806a4076f00ac19b83ec771cb2b9c33228670e",
        "726c2b421db6f0d7cafd575f621da200b5c4bbcabeec95f43a9bd4b3e19bba0e",
    ),
    "JapaneseVowels": (
        "46876cd24e85076b3ab0ac733506adc3bcffe04e28a851571a4aec9492a2bc10",
        "0109e716915f3b1d4ec8ab3a5a5e152688dda1cd5fdb312868f9876eebed941e",
    ),
}


def ucr(problem: str, data_root: str | Path | None = None, *, fill: Fill = "refuse") -> tuple[Sequences, Sequences]:
    """A problem of the UCR (one channel) or UEA (several) archive, in its own split.

    Args:
        problem: the problem's name in the archive, for example ``"JapaneseVowels"``.
        data_root: the folder with ``ucr-uea/PROBLEM/`` in it, see :func:`longwave.data.find`: PROBLEM_TRAIN.ts and
            PROBLEM_TEST.ts, or PROBLEM.zip with the two.
        fill: what becomes of missing values, see :func:`longwave.data.read_ts`.

    Returns:
        The training and the test set, standardised channel by channel by the training set; classes in the order of
        the header.

    Raises:
        DataError: the files are missing, damaged or malformed, their classes differ, or the download failed. Where
            no checksum is known for a problem, its files are taken as they are, and the log says so.
        ConfigError: the name cannot be that of a problem.

    Source: Dau et al., "The UCR time series archive" (2019); Bagnall et al., "The UEA multivariate time series
    classification archive" (2018).
    """
    if not re.fullmatch(r"\w+", problem, re.ASCII):
        raise ConfigError(f"a problem's name has letters, digits and underscores only, got {problem!r}")
    address = _ADDRESS.format(problem=problem)
    file = RemoteFile(f"{problem}.zip", address, inspect=lambda path: _fault(path, problem))
    folder = find(f"ucr-uea/{problem}", data_root, [file])
    if problem not in _DIGESTS:
        _log.warning("%s: no checksum is known for this problem, %s is read as it is", problem, folder)
    train, test = (
        parse_ts(_verified(folder, problem, part), f"{folder / problem}_{part}.ts", fill=fill) for part in _PARTS
    )
    if (train.classes, train.channels) != (test.classes, test.channels):
        raise DataError(f"{folder}: the training and the test file differ in their classes or their dimensions")
    return train.standardised(), test.standardised(train)


def _verified(folder: Path, problem: str, part: str) -> str:
    """The text of one file of a problem, from the folder or from the archive in it."""
    path = folder / f"{problem}_{part}.ts"
    if not path.is_file():
        path = folder / f"{problem}.zip"
    if not path.is_file():
        raise DataError(
            f"{folder} has neither {problem}_{part}.ts nor {path.name}; fetch {_ADDRESS.format(problem=problem)}"
        )
    if fault := _fault(path, problem):
        raise DataError(f"{path} is damaged: {fault}; delete it, and fetch {_ADDRESS.format(problem=problem)} again")
    return _text(path, problem, part)


def _fault(path: Path, problem: str) -> str | None:
    """What is wrong with a .ts file, or with the two in an archive."""
    parts = [part for part in _PARTS if path.suffix != ".ts" or path.stem.endswith(f"_{part}")]
    try:
        found = {part: _digest(_text(path, problem, part)) for part in parts}
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        return f"it cannot be unpacked ({error})"
    except KeyError as error:
        return f"it does not hold {error.args[0]}"
    for part, expected in zip(_PARTS, _DIGESTS.get(problem, ()), strict=False):
        if found.get(part, expected) != expected:
            return f"the SHA-256 of its {part} samples is {found[part]}, expected {expected}"
    return None


def _text(path: Path, problem: str, part: str) -> str:
    """The text of one file, which may lie in a folder of the archive."""
    if path.suffix == ".ts":
        return path.read_text(encoding="utf-8", errors="replace")
    name = f"{problem}_{part}.ts"
    with zipfile.ZipFile(path) as archive:
        member = next((member for member in archive.namelist() if member.split("/")[-1] == name), None)
        if member is None:
            raise KeyError(name)
        return archive.read(member).decode("utf-8", errors="replace")


def _digest(text: str) -> str:
    """SHA-256 of the samples, which neither line ends nor comments change."""
    lines = (line.strip() for line in text.splitlines())
    samples = "\n".join(line for line in lines if line and line[0] not in "#%@")
    return hashlib.sha256(samples.encode()).hexdigest()
