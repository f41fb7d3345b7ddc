"""FSDD: the recordings themselves, in the two splits, at full and at half the sampling rate."""

import hashlib
import io
import shutil
import tarfile
import wave

import numpy as np
import pytest
import scipy.signal
import torch

import longwave.data.speech as module
from longwave.data import fsdd
from longwave.data.speech import low_passed
from longwave.errors import ConfigError, DataError

SPEAKERS = ("anna", "ben")


def recording(digit: int, speaker: str, index: int) -> bytes:
    """A wav file whose length and values tell which it is; ben is louder."""
    samples = np.arange(20 + digit + index) * (10 if speaker == "ben" else 1) - digit
    file = io.BytesIO()
    with wave.open(file, "wb") as opened:
        opened.setnchannels(1)
        opened.setsampwidth(2)
        opened.setframerate(8000)
        opened.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A data root with recordings 0 to 6 of digits 0 and 3 by two speakers, in a .tar.gz as GitHub packs it."""
    (tmp_path / "fsdd").mkdir()
    names = [f"{d}_{s}_{i}.wav" for d in (0, 3) for s in SPEAKERS for i in range(7)]
    files = {name: recording(int(name[0]), name.split("_")[1], int(name[-5])) for name in names}
    lines = sorted(f"{name} {hashlib.sha256(content).hexdigest()}\n" for name, content in files.items())
    monkeypatch.setattr(module, "_MANIFEST", hashlib.sha256("".join(lines).encode()).hexdigest())
    pack(tmp_path / "fsdd" / "fsdd-1.tar.gz", files)
    return tmp_path


def pack(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in ({"README.md": b"more"} | {f"recordings/{n}": c for n, c in files.items()}).items():
            member = tarfile.TarInfo(f"fsdd-1/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def test_the_official_split_tests_the_first_five(small):
    train, test = fsdd(small)
    assert (len(train), len(test)) == (2 * 2 * 2, 2 * 2 * 5)
    assert train.y.tolist() == [0] * 4 + [3] * 4
    assert train.lengths.tolist() == [20 + d + i for d in (0, 3) for _ in SPEAKERS for i in (5, 6)]
    assert train.classes == tuple("0123456789")
    assert (32768 * train.x[:3, 0]).tolist() == [0, 1, 2]


def test_a_speaker_can_be_left_out(small):
    train, test = fsdd(small, split="ben")
    assert (len(train), len(test)) == (14, 14)
    assert 32768 * train.x.max() < 30 < 32768 * test.x.max()
    assert test.standardisation == train.standardisation


def test_a_speaker_who_is_not_there(small):
    with pytest.raises(ConfigError, match=r"'official' or the speaker.*\['anna', 'ben'\], got 'carl'"):
        fsdd(small, split="carl")


def test_half_the_sampling_rate_is_half_the_length_and_the_same_standardisation(small):
    full, half = fsdd(small), fsdd(small, decimate=2)
    for a, b in zip(full, half, strict=True):
        assert torch.equal(b.lengths, (a.lengths + 1) // 2)
        assert a.standardisation == b.standardisation == full[0].standardisation
    with pytest.raises(ConfigError, match="decimate must be 1 or more, got 0"):
        fsdd(small, decimate=0)


@pytest.mark.parametrize("decimate", (2, 3))
def test_low_pass_keeps_what_fits_and_drops_the_rest(decimate):
    n = 4000
    t = torch.arange(n, dtype=torch.float64)
    inside, outside = torch.sin(2 * np.pi * 0.43 / decimate * t), torch.sin(2 * np.pi * 0.57 / decimate * t)
    middle = slice(100, 4000 // decimate - 100)  # away from the ends, where the signal stops
    assert (low_passed(inside, decimate) - inside[::decimate])[middle].abs().max() < 2e-4
    assert low_passed(outside, decimate)[middle].abs().max() < 2e-4


def test_low_pass_agrees_with_scipy_on_a_band_limited_signal():
    noise = np.random.default_rng(0).standard_normal(6000)
    low = scipy.signal.butter(12, 0.35, output="sos", fs=2.0)
    smooth = scipy.signal.sosfiltfilt(low, noise) * np.hanning(6000)
    expected = scipy.signal.resample(smooth, 3000)  # by FFT
    np.testing.assert_allclose(low_passed(torch.from_numpy(smooth), 2).numpy(), expected, atol=2e-3)


def test_equal_loudness_is_per_recording(small):
    train, _ = fsdd(small, equal_loudness=True)
    for signal in torch.split(train.x[:, 0], train.lengths.tolist()):
        assert abs(signal.square().mean().item() - 1) < 1e-5


def test_a_changed_recording_is_found(small):
    files = {f"{d}_{s}_{i}.wav": recording(d, s, i + (i == 6)) for d in (0, 3) for s in SPEAKERS for i in range(7)}
    pack(small / "fsdd" / "fsdd-1.tar.gz", files)
    with pytest.raises(DataError, match="damaged: its 28 recordings are not the 3000"):
        fsdd(small)


def test_a_truncated_archive_is_found(small):
    path = small / "fsdd" / "fsdd-1.tar.gz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="damaged: it cannot be unpacked"):
        fsdd(small)


def test_an_unpacked_repository_will_do(small):
    expected = fsdd(small)[0]
    with tarfile.open(small / "fsdd" / "fsdd-1.tar.gz") as archive:
        archive.extractall(small / "fsdd", filter="data")
    (small / "fsdd" / "fsdd-1.tar.gz").unlink()
    assert torch.equal(fsdd(small)[0].x, expected.x)
    shutil.rmtree(small / "fsdd" / "fsdd-1")
    with pytest.raises(DataError, match="its 0 recordings"):
        fsdd(small)


def test_the_real_recordings(data_root):
    train, test = fsdd(data_root)
    # As the data set's README and its folder listing have them.
    assert (len(train), len(test)) == (2700, 300)
    assert train.y.bincount().tolist() == [270] * 10
    assert test.y.bincount().tolist() == [30] * 10
    lengths = torch.cat([train.lengths, test.lengths])
    assert (lengths.min(), lengths.max()) == (1148, 18262)
    assert 0.1 < train.x.abs().max() <= 1
    assert [len(part) for part in fsdd(data_root, split="theo", decimate=2)] == [2500, 500]
