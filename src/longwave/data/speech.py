"""The Free Spoken Digit Dataset: ten digits from six speakers, as the raw samples of the recordings."""

from __future__ import annotations

import hashlib
import re
import tarfile
import zlib
from lzma import LZMAError
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from longwave.data.download import RemoteFile
from longwave.data.roots import find
from longwave.data.sequences import Sequences
from longwave.data.wav import read_wav
from longwave.errors import ConfigError, DataError
from longwave.shapes import Float, Tensor

__all__ = ["SAMPLING_RATE", "fsdd", "low_passed"]

SAMPLING_RATE = 8000
_TEST_NUMBERS = range(5)  # by the data set's README
_NAME = re.compile(r"(?:.*/)?recordings/((\d)_([a-z]+)_(\d+)\.wav)")
# SHA-256 over the lines "<name> <SHA-256 of the file>", sorted by name: it knows the recordings of version 1.0.10
# however they are packed, as an archive that a server compresses on demand has no checksum of its own.
_MANIFEST = "dbd573d7cafe79c4b49f65718115e1304e24e067fa39eff18a660dc6cb9c360f"


def fsdd(
    data_root: str | Path | None = None, *, split: str = "official", decimate: int = 1, equal_loudness: bool = False
) -> tuple[Sequences, Sequences]:
    """The 3,000 recordings, 50 of each digit by each of six speakers: 8 kHz, 16 bits, one channel, untrimmed.

    Args:
        data_root: the folder with ``fsdd/`` in it, see :func:`longwave.data.find`: an archive of the data set's
            repository (.tar.gz, .tar.xz), or the repository itself.
        split: "official": of each fifty, recordings 0 to 4 are the test set (300) and 5 to 49 the training set
            (2,700). A speaker's name: that speaker's 500 recordings are the test set, the others' the training set.
        decimate: keep every ``decimate``-th sample of the signals, ``low_passed`` first: 2 is the same speech at
            4 kHz. The standardisation stays that of 8 kHz, as a model trained there expects it.
        equal_loudness: scale each recording to the same root mean square. As recorded, the speakers' medians
            differ by a factor of 13. A whole recording must be heard before it can be scaled.

    Returns:
        The training and the test set, standardised by one mean and deviation of the training set; the class is the
        digit.

    Raises:
        DataError: the recordings are missing, damaged, or not those of version 1.0.10, or the download failed.
        ConfigError: no speaker has that name, or ``decimate`` is not positive.

    Source: Z. Jackson et al., https://github.com/Jakobovski/free-spoken-digit-dataset, version 1.0.10, CC BY-SA 4.0.
    """
    if decimate < 1:
        raise ConfigError(f"decimate must be 1 or more, got {decimate}")
    recordings = _parse(_load(find("fsdd", data_root, [_FILE])))
    speakers = sorted({recording.speaker for recording in recordings})
    if split != "official" and split not in speakers:
        raise ConfigError(f"split must be 'official' or the speaker to leave out, of {speakers}, got {split!r}")
    if equal_loudness:
        recordings = [r._replace(signal=_unit_power(r.signal)) for r in recordings]
    tested = [r.number in _TEST_NUMBERS if split == "official" else r.speaker == split for r in recordings]
    train = [r for r, held in zip(recordings, tested, strict=True) if not held]
    test = [r for r, held in zip(recordings, tested, strict=True) if held]
    by = _as_sequences(train)
    return _as_sequences(train, decimate).standardised(by), _as_sequences(test, decimate).standardised(by)


def low_passed(signal: Float[Tensor, " time"], decimate: int) -> Float[Tensor, " time_kept"]:
    """Every ``decimate``-th sample of a signal without what the lower sampling rate cannot carry.

    A sinc that ends at the new Nyquist frequency, within a Kaiser window (β = 8, 32 samples of the new rate on each
    side), symmetric, hence without delay; beyond its ends the signal is taken as zero. In units of the new sampling
    rate, frequencies below 0.46 pass unchanged to 1e-4, and those above 0.54 are attenuated by 80 dB.
    """
    if decimate == 1:
        return signal
    offsets = np.arange(-32 * decimate, 32 * decimate + 1)
    taps = np.sinc(offsets / decimate) * np.kaiser(len(offsets), 8.0)
    filtered = np.convolve(signal.double().numpy(), taps / taps.sum())
    kept = filtered[32 * decimate : 32 * decimate + len(signal) : decimate]
    return torch.from_numpy(kept.copy()).to(signal.dtype)


class _Recording(NamedTuple):
    digit: int
    speaker: str
    number: int
    signal: Float[Tensor, " time"]


def _as_sequences(recordings: list[_Recording], decimate: int = 1) -> Sequences:
    signals = [low_passed(r.signal, decimate)[:, None] for r in recordings]
    return Sequences.of(signals, torch.tensor([r.digit for r in recordings]), classes=tuple("0123456789"))


def _unit_power(signal: Tensor) -> Tensor:
    return signal / signal.square().mean().sqrt().clamp(min=2.0**-15)  # one step of 16 bits: silence stays silence


def _parse(files: dict[str, bytes]) -> list[_Recording]:
    """The recordings in the order of digit, speaker and number."""
    recordings = []
    for name, content in files.items():
        digit, speaker, number = name.removesuffix(".wav").split("_")
        samples, _ = read_wav(content)
        recordings.append(_Recording(int(digit), speaker, int(number), samples[:, 0]))
    return sorted(recordings, key=lambda r: r[:3])


def _load(folder: Path) -> dict[str, bytes]:
    """The verified wav files of a folder: of an archive in it, or of an unpacked repository."""
    archives = sorted(path for path in folder.iterdir() if path.name.endswith((".tar.gz", ".tar.xz", ".tgz")))
    source = archives[0] if archives else folder
    files, fault = _read(source)
    if fault:
        raise DataError(f"{source} is damaged: {fault}; delete it, and fetch it again from {_FILE.address}")
    return files


def _read(source: Path) -> tuple[dict[str, bytes], str | None]:
    """The wav files by name, and what is wrong with them."""
    files: dict[str, bytes] = {}
    try:
        if source.is_dir():
            files = {path.name: path.read_bytes() for path in source.rglob("*.wav") if _NAME.fullmatch(path.as_posix())}
        else:
            with tarfile.open(source) as archive:
                for member in archive:
                    if member.isfile() and (match := _NAME.fullmatch(member.name)):
                        files[match[1]] = archive.extractfile(member).read()  # pyright: ignore[reportOptionalMemberAccess]
    except (tarfile.TarError, EOFError, OSError, LZMAError, zlib.error) as error:
        return {}, f"it cannot be unpacked ({error})"
    lines = "".join(f"{name} {hashlib.sha256(files[name]).hexdigest()}\n" for name in sorted(files))
    if hashlib.sha256(lines.encode()).hexdigest() == _MANIFEST:
        return files, None
    return {}, f"its {len(files)} recordings are not the 3000 of version 1.0.10"


_FILE = RemoteFile(
    "free-spoken-digit-dataset-1.0.10.tar.gz",
    "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz",
    inspect=lambda path: _read(path)[1],
)
