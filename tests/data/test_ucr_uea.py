"""UCR and UEA problems: from a folder, an archive or the network; standardised by the training set."""

import logging
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

import longwave.data.ucr_uea as module
from longwave.data import ucr
from longwave.errors import ConfigError, DataError

HEADER = "@classLabel true no yes\n@data\n"
TRAIN, TEST = HEADER + "1,2,3:no\n4,5,6:yes\n", HEADER + "10,20:yes\n"
# SHA-256 of the lines after @data, joined by line feeds.
DIGESTS = tuple(module._digest(text) for text in (TRAIN, TEST))


class Site(SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder of the problem Toy, whose checksums are known."""
    monkeypatch.setitem(module._DIGESTS, "Toy", DIGESTS)
    folder = tmp_path / "root" / "ucr-uea" / "Toy"
    folder.mkdir(parents=True)
    return folder


def unpacked(folder, train=TRAIN, test=TEST):
    (folder / "Toy_TRAIN.ts").write_text(train)
    (folder / "Toy_TEST.ts").write_text(test)


def packed(folder, train=TRAIN, test=TEST):
    with zipfile.ZipFile(folder / "Toy.zip", "w") as archive:
        archive.writestr("Toy_TRAIN.ts", train)
        archive.writestr("Toy_TEST.ts", test)


@pytest.mark.parametrize("put", (unpacked, packed))
def test_both_layouts(folder, put):
    put(folder)
    train, test = ucr("Toy", folder.parent.parent)
    assert (train.y.tolist(), test.y.tolist(), train.classes) == ([0, 1], [1], ("no", "yes"))
    assert abs(train[:].x.mean().item()) < 1e-6
    assert test.standardisation == train.standardisation
    assert train.standardisation[0] == [3.5]


def test_line_ends_and_comments_do_not_change_the_checksum(folder):
    unpacked(folder, train="# more\n" + TRAIN.replace("\n", "\r\n"))
    assert len(ucr("Toy", folder.parent.parent)[0]) == 2


@pytest.mark.parametrize("put", (unpacked, packed))
def test_a_changed_value_is_found(folder, put):
    put(folder, test=TEST.replace("20", "21"))
    with pytest.raises(DataError, match="damaged: the SHA-256 of its TEST samples is"):
        ucr("Toy", folder.parent.parent)


def test_damaged_and_incomplete_archives(folder):
    packed(folder)
    path = folder / "Toy.zip"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="damaged: it cannot be unpacked"):
        ucr("Toy", folder.parent.parent)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("Toy_TRAIN.ts", TRAIN)
    with pytest.raises(DataError, match=r"does not hold Toy_TEST\.ts"):
        ucr("Toy", folder.parent.parent)
    path.unlink()
    with pytest.raises(DataError, match=r"neither Toy_TRAIN\.ts nor Toy\.zip"):
        ucr("Toy", folder.parent.parent)


def test_without_a_known_checksum_the_log_says_so(folder, monkeypatch, caplog):
    monkeypatch.delitem(module._DIGESTS, "Toy")
    unpacked(folder)
    with caplog.at_level(logging.WARNING):
        ucr("Toy", folder.parent.parent)
    assert "Toy: no checksum is known" in caplog.text


def test_parts_that_do_not_belong_together(folder, monkeypatch):
    monkeypatch.delitem(module._DIGESTS, "Toy")
    unpacked(folder, test=TEST.replace("no yes", "yes no"))
    with pytest.raises(DataError, match="differ in their classes"):
        ucr("Toy", folder.parent.parent)


@pytest.mark.parametrize("problem", ("../Toy", "", "Toy/x", "ToÿX"))
def test_a_name_that_is_none(problem):
    with pytest.raises(ConfigError, match="letters, digits and underscores only"):
        ucr(problem)


def test_a_download_is_kept_only_if_it_is_the_problem(folder, tmp_path, monkeypatch):
    monkeypatch.delenv("LONGWAVE_DATA", raising=False)
    monkeypatch.delenv("LONGWAVE_OFFLINE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    cache = tmp_path / "caches" / "longwave" / "ucr-uea" / "Toy"
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Site, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        monkeypatch.setattr(module, "_ADDRESS", f"http://127.0.0.1:{server.server_port}/{{problem}}.zip")
        packed(folder, test=TEST.replace("20", "21"))
        with pytest.raises(DataError, match=r"is not Toy\.zip: the SHA-256 of its TEST samples"):
            ucr("Toy")
        assert list(cache.iterdir()) == []
        packed(folder)
        assert len(ucr("Toy")[0]) == 2
        server.shutdown()
        thread.join()
    assert [path.name for path in cache.iterdir()] == ["Toy.zip"]
    assert len(ucr("Toy")[0]) == 2


@pytest.mark.parametrize(
    ("problem", "samples", "channels", "longest"),
    (
        ("BasicMotions", (40, 40), 6, 100),
        ("GunPoint", (50, 150), 1, 150),
        ("ItalyPowerDemand", (67, 1029), 1, 24),
        ("JapaneseVowels", (270, 370), 12, 29),
    ),
)
def test_the_real_problems(data_root, problem, samples, channels, longest):
    # Sizes as the archives publish them.
    train, test = ucr(problem, data_root)
    assert (len(train), len(test)) == samples
    assert train.channels == test.channels == channels
    assert max(train.longest, test.longest) == longest
    x = train[:].x
    inside = x.flatten(0, 1) if train.lengths is None else x[torch.arange(x.shape[1]) < train.lengths[:, None]]
    torch.testing.assert_close(inside.mean(0), torch.zeros(channels), rtol=0, atol=1e-4)
