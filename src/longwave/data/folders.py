"""The user's own recordings: .wav files in one folder for each class."""

from __future__ import annotations

from pathlib import Path

import torch

from longwave.data.sequences import Sequences
from longwave.data.splits import split
from longwave.data.wav import WavError, read_wav
from longwave.errors import DataError
from longwave.shapes import Tensor

__all__ = ["wavs"]


def wavs(folder: str | Path, *, test: float = 0.2, seed: int = 0) -> tuple[Sequences, Sequences]:
    """Recordings of some classes: ``folder/CLASS/*.wav``, or ``folder/train/CLASS/*.wav`` and ``folder/test/CLASS/…``.

    Args:
        folder: where they are. All have the same sampling rate and number of channels; they may differ in length and
            in bits (8, 16, 24, 32).
        test: without train/ and test/, the share of each class that becomes the test set, see
            :func:`longwave.data.split`.
        seed: of that split.

    Returns:
        The training and the test set, as fractions of full scale, standardised channel by channel by the training
        set; classes in alphabetical order, recordings in that of their names.

    Raises:
        DataError: the folder is missing or arranged otherwise, a file is not such a recording, or one differs from
            the first in sampling rate or channels; names the file.
        ConfigError: ``test`` is not between 0 and 1.
    """
    folder = Path(folder).expanduser()
    if [path.name for path in _folders(folder)] == ["test", "train"]:
        classes = tuple(path.name for path in _folders(folder / "train"))
        if others := [path.name for path in _folders(folder / "test") if path.name not in classes]:
            raise DataError(f"{folder / 'test'} has classes that {folder / 'train'} has not: {others}")
        train_files, test_files = (_files(folder / part, classes) for part in ("train", "test"))
        samples, y = _load(train_files + test_files)
        n = len(train_files)
        train, test_set = Sequences.of(samples[:n], y[:n], classes), Sequences.of(samples[n:], y[n:], classes)
    else:
        classes = tuple(path.name for path in _folders(folder))
        train, test_set = split(Sequences.of(*_load(_files(folder, classes)), classes), test, seed)
    return train.standardised(), test_set.standardised(train)


def _folders(folder: Path) -> list[Path]:
    """The sub-folders in the order of their names."""
    try:
        found = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror}") from error
    if not found:
        raise DataError(f"{folder} has no sub-folders; put the .wav files of each class into one of the class's name")
    return found


def _files(folder: Path, classes: tuple[str, ...]) -> list[tuple[int, Path]]:
    """The recordings and the numbers of their classes."""
    found = []
    for path in _folders(folder):
        files = sorted(file for file in path.iterdir() if file.suffix.lower() == ".wav")
        if not files:
            raise DataError(f"{path} has no .wav files; every sub-folder of {folder} is taken for a class")
        found += [(classes.index(path.name), file) for file in files]
    return found


def _load(files: list[tuple[int, Path]]) -> tuple[list[Tensor], Tensor]:
    samples, first = [], None
    for _, path in files:
        try:
            sample, rate = read_wav(path.read_bytes())
        except WavError as error:
            raise DataError(f"cannot read {path}: {error}") from error
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from error
        if len(sample) == 0:
            raise DataError(f"{path} has no samples; drop the file")
        form = f"{rate} Hz and {sample.shape[1]} channels"
        if form != (first := first or form):
            raise DataError(f"{path} has {form}, but {files[0][1]} has {first}; convert one of them")
        samples.append(sample)
    return samples, torch.tensor([label for label, _ in files])
