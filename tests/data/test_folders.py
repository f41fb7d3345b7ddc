"""Folders of recordings: samples of every width as fractions of full scale, one class a folder."""

import io
import wave

import numpy as np
import pytest
import scipy.io.wavfile
import torch

from longwave.data import wavs
from longwave.data.wav import WavError, read_wav
from longwave.errors import DataError


def recording(content: bytes, *, width: int = 2, channels: int = 1, rate: int = 8000) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as opened:
        opened.setnchannels(channels)
        opened.setsampwidth(width)
        opened.setframerate(rate)
        opened.writeframes(content)
    return file.getvalue()


def level(value: int, length: int = 4, **form) -> bytes:
    return recording(np.full(length, value, "<i2").tobytes(), **form)


@pytest.mark.parametrize(
    ("width", "lowest", "zero", "highest"),
    (
        (1, b"\x00", b"\x80", b"\xff"),
        (2, b"\x00\x80", b"\x00\x00", b"\xff\x7f"),
        (3, b"\x00\x00\x80", b"\x00\x00\x00", b"\xff\xff\x7f"),
        (4, b"\x00\x00\x00\x80", b"\x00\x00\x00\x00", b"\xff\xff\xff\x7f"),
    ),
)
def test_every_width_fills_the_scale(width, lowest, zero, highest):
    samples, rate = read_wav(recording(lowest + zero + highest, width=width, rate=16000))
    step = 2.0 ** (1 - 8 * width)
    torch.testing.assert_close(samples, torch.tensor([[-1.0], [0.0], [1 - step]]), rtol=0, atol=0)
    assert (samples.dtype, rate) == (torch.float32, 16000)


@pytest.mark.parametrize(("dtype", "scale"), (("u1", 7), ("<i2", 15), ("<i4", 31)))
def test_the_samples_are_those_that_scipy_reads(tmp_path, dtype, scale):
    values = np.random.default_rng(0).integers(0, 256, (50, 2 * np.dtype(dtype).itemsize), np.uint8).view(dtype)
    scipy.io.wavfile.write(tmp_path / "a.wav", 22050, values)
    _, expected = scipy.io.wavfile.read(tmp_path / "a.wav")
    samples, _ = read_wav((tmp_path / "a.wav").read_bytes())
    expected = (expected.astype(np.float64) - (128 if dtype == "u1" else 0)) / 2.0**scale
    assert torch.equal(samples, torch.from_numpy(expected.astype(np.float32)))


def test_24_bits_against_integers():
    values = [-8388608, -65537, -1, 0, 1, 255, 65536, 8388607]
    content = b"".join(value.to_bytes(3, "little", signed=True) for value in values)
    assert (read_wav(recording(content, width=3))[0][:, 0] * 2**23).tolist() == values


@pytest.mark.parametrize(
    ("content", "message"),
    (
        (b"", "not PCM in a .wav file .it breaks off"),
        (b"ID3\x04 music", "not PCM in a .wav file"),
        (level(1, 100)[:-50], "breaks off after 150 of 200"),
        (level(1)[:20] + b"\x03\x00" + level(1)[22:], "unknown format: 3"),
    ),
)
def test_what_is_no_recording(content, message):
    with pytest.raises(WavError, match=message):
        read_wav(content)


@pytest.fixture
def folder(tmp_path):
    """Ten recordings of two classes, all of different lengths."""
    for name, value in (("yes", 1000), ("no", -1000)):
        (tmp_path / name).mkdir()
        for i in range(5):
            (tmp_path / name / f"{i}.wav").write_bytes(level(value, 3 + i))
    return tmp_path


def test_a_folder_for_each_class(folder):
    (folder / ".hidden").mkdir()
    (folder / "yes" / "notes.txt").write_text("not a recording")
    train, test = wavs(folder, test=0.4, seed=1)
    assert train.classes == test.classes == ("no", "yes")
    assert train.y.tolist() == [0, 0, 0, 1, 1, 1]
    assert test.y.tolist() == [0, 0, 1, 1]
    assert sorted(torch.cat([train.lengths, test.lengths]).tolist()) == sorted([3, 4, 5, 6, 7] * 2)
    assert (train[[0]].x < 0).all()
    assert (train[[5]].x > 0).all()


def test_train_and_test_folders(folder):
    for part, n in (("train", 4), ("test", 1)):
        for name in ("yes", "no"):
            (folder / part / name).mkdir(parents=True)
            for _ in range(n):
                path = sorted((folder / name).iterdir())[0]
                path.rename(folder / part / name / path.name)
    for name in ("yes", "no"):
        (folder / name).rmdir()
    train, test = wavs(folder)
    assert (train.y.tolist(), test.y.tolist()) == ([0] * 4 + [1] * 4, [0, 1])
    assert test.longest == 7
    (folder / "test" / "maybe").mkdir()
    with pytest.raises(DataError, match=r"has classes that .*train has not: \['maybe'\]"):
        wavs(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    (
        (level(1, rate=16000), "has 16000 Hz and 1 channels, but .*has 8000 Hz and 1 channels"),
        (level(1, channels=2), "has 8000 Hz and 2 channels, but"),
        (b"text", "cannot read .*not PCM"),
        (level(1, 0), "has no samples; drop the file"),
    ),
)
def test_a_recording_that_does_not_fit_is_named(folder, content, message):
    (folder / "yes" / "9.wav").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        wavs(folder)
    assert "9.wav" in str(caught.value)


def test_folders_that_are_arranged_otherwise(folder):
    (folder / "maybe").mkdir()
    with pytest.raises(DataError, match=r"maybe has no \.wav files"):
        wavs(folder)
    with pytest.raises(DataError, match="has no sub-folders"):
        wavs(folder / "yes")
    with pytest.raises(DataError, match=r"cannot read .*none: No such file"):
        wavs(folder / "none")
