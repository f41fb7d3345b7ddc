"""The user's arrays: what y is says what is learned, and every likely mistake is one line that names the file."""

import numpy as np
import pytest

from longwave.data import arrays, read_array
from longwave.errors import ConfigError, DataError

X = np.random.default_rng(0).standard_normal((10, 6, 2))


@pytest.fixture
def save(tmp_path):
    def save(name="own.npz", **fields):
        path = tmp_path / name
        if path.suffix == ".npy":
            np.save(path, fields["x"], allow_pickle=True)
        else:
            np.savez(path, **fields)
        return path

    return save


@pytest.mark.parametrize(
    ("y", "objective", "classes"),
    (
        (np.array([7, 3] * 5), "classify", ("3", "7")),
        (np.array([10, 9] * 5, np.uint8), "classify", ("9", "10")),
        (np.array(["run", "walk"] * 5), "classify", ("run", "walk")),
        (np.array([b"run", b"walk"] * 5), "classify", ("run", "walk")),
        (np.array([True, False] * 5), "classify", ("False", "True")),
        (np.linspace(0, 1, 10), "regress", ()),
        (np.zeros((10, 3)), "regress", ()),
        (np.tile([-100, 4, 4, 2, 2, 2], (10, 1)), "label", ("2", "4")),
        (np.zeros((10, 6, 1), np.float32), "track", ()),
    ),
)
def test_what_y_is_says_what_is_learned(save, y, objective, classes):
    train, test = arrays(save(x=X, y=y))
    assert (len(train), len(test)) == (8, 2)
    assert (train.objective, train.classes) == (test.objective, test.classes) == (objective, classes)


def test_values_and_classes_stay_together(save):
    x = np.arange(10.0)[:, None] * np.ones(3)
    train, test = arrays(save(x=x, y=np.array([f"sample {i % 2}" for i in range(10)])), seed=4)
    for part in (train, test):
        assert [part.classes[y] for y in part.y] == [f"sample {int(v) % 2}" for v in part.x[:, 0, 0]]
    assert test.y.tolist() == [0, 1]
    assert abs(train[:].x.mean().item()) < 1e-6
    assert test.standardisation == train.standardisation


def test_labels_at_each_position_keep_their_gaps(save):
    train, _ = arrays(save(x=X, y=np.tile([-100, 4, 4, 2, 2, 2], (10, 1))))
    assert train.y[0].tolist() == [-100, 1, 1, 0, 0, 0]


def test_lengths_drop_the_padding(save):
    train, _ = arrays(save(x=X, y=np.arange(10) % 2, lengths=np.array([6, 2] * 5)))
    assert sorted(train.lengths.tolist()) == [2] * 4 + [6] * 4
    assert len(train.x) == 4 * 8


def test_two_files_number_their_classes_together(save, tmp_path):
    save("train.npz", x=X, y=np.array(["b", "c"] * 5))
    save("test.npz", x=X[:2, :3], y=np.array(["c", "b"]))
    train, test = arrays(tmp_path)
    assert (train.classes, test.classes) == (("b", "c"), ("b", "c"))
    assert test.y.tolist() == [1, 0]
    assert (train.longest, test.longest) == (6, 3)


@pytest.mark.parametrize("dtype", (">f8", "f2", "i8", "u2", "i2", "u1", "?"))
@pytest.mark.parametrize("shape", ((5, 4), (5, 4, 1)))
def test_arrays_to_predict_from(save, dtype, shape):
    x = (np.arange(20) % 2).astype(dtype).reshape(shape)
    samples = read_array(save("own.npy", x=x))
    assert samples.objective is None
    assert samples[:].x.flatten().tolist() == [0, 1] * 10
    assert samples[:].x.shape == (5, 4, 1)


def test_an_npz_with_or_without_targets_can_be_predicted_from(save):
    samples = read_array(save(x=X, y=np.zeros(10), lengths=np.full(10, 3)))
    assert (samples.objective, samples.lengths.tolist()) == (None, [3] * 10)


class Exploit:
    """What unpickling would run."""

    def __reduce__(self):
        return exec, ("raise SystemError('unpickled')",)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    (
        ("own.npz", {"x": X, "label": X}, r"holds \['label'\] beside x, y and lengths"),
        ("own.npz", {"values": X}, r"holds \['values'\], but no x"),
        ("own.npz", {"x": X, "lengths": np.full(10, 2.5)}, "lengths must be integers"),
        ("own.npz", {"x": X, "lengths": np.full(10, 7)}, "sample 0 has length 7, but x has 6"),
        ("own.npz", {"x": X, "lengths": np.full(9, 2)}, "one row per sample"),
        ("own.npz", {"x": np.array([Exploit()], object)}, "cannot be read as arrays of numbers"),
        ("own.npy", {"x": np.array([Exploit()], object)}, "cannot be read as arrays of numbers"),
        ("own.npy", {"x": np.array(["a"])}, "must be real numbers, got <U1"),
        ("own.npy", {"x": X + 1j}, "must be real numbers, got complex128"),
        ("own.npy", {"x": X[0, 0]}, r"must be \(samples, length\) or \(samples, length, channels\), got \(2,\)"),
        ("own.npy", {"x": X[None]}, r"got \(1, 10, 6, 2\)"),
        ("own.npy", {"x": X[:0]}, "no samples"),
        ("own.npy", {"x": X[:, :0]}, "are empty"),
        ("own.npy", {"x": np.where(X[3, 4, 1] == X, np.nan, X)}, "sample 3 has NaN or infinity at position 4"),
        ("own.npy", {"x": X * 1e300}, "NaN or infinity"),
        ("own.txt", {"x": X}, r"not an \.npy or \.npz file"),
    ),
)
def test_mistakes_in_a_file(save, tmp_path, name, fields, message):
    path = save(name if name.startswith("own.n") else "own.npz", **fields)
    path = path.rename(tmp_path / name)
    with pytest.raises(DataError, match=message) as caught:
        read_array(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    (
        (None, "cannot read .*No such file"),
        (b"", "is empty"),
        (b"hello", "cannot be read"),
        (b"PK\3\4...", "cannot be"),
    ),
)
@pytest.mark.parametrize("name", ("own.npy", "own.npz"))
def test_files_that_are_no_arrays(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_array(tmp_path / name)


@pytest.mark.parametrize("name", ("own.npy", "own.npz"))
def test_truncated_files(save, name):
    path = save(name, x=X)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="cannot be read as arrays"):
        read_array(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    (
        ({}, "holds no y to learn from"),
        ({"y": np.zeros(9)}, "one row per sample"),
        ({"y": np.full(10, np.nan)}, "target of sample 0 is NaN"),
        ({"y": np.zeros(10, complex)}, "y must be numbers or strings, got complex128"),
        ({"y": np.zeros((10, 5), int)}, "targets for 5 positions, the longest sequence has 6"),
        ({"y": np.arange(10)}, "a single sample"),
    ),
)
def test_mistakes_in_targets(save, fields, message):
    with pytest.raises(DataError, match=message):
        arrays(save(x=X, **fields))


def test_parts_that_do_not_fit(save, tmp_path):
    save("train.npz", x=X, y=np.arange(10))
    with pytest.raises(DataError, match=r"cannot read .*test\.npz"):
        arrays(tmp_path)
    save("test.npz", x=X, y=np.zeros(10))
    with pytest.raises(DataError, match="y differs in kind between its files"):
        arrays(tmp_path)
    save("test.npz", x=X[:, :, :1], y=np.arange(10))
    with pytest.raises(DataError, match="have 1 channels, those they are standardised by 2"):
        arrays(tmp_path)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        arrays(tmp_path / "train.npz", test=1.0)
