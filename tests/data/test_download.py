"""A download is the right file, whole, or it is nothing and one line says why."""

import dataclasses
import errno
import hashlib
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from longwave.data import find
from longwave.data.download import RemoteFile, fetch
from longwave.errors import DataError

CONTENT = bytes(range(256)) * 1000


class Site(BaseHTTPRequestHandler):
    """/whole, /tampered (a byte changed), /truncated (fewer bytes than promised); all else is not found."""

    def do_GET(self):
        if self.path not in ("/whole", "/tampered", "/truncated"):
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        content = bytearray(CONTENT)
        content[777] ^= self.path == "/tampered"
        self.wfile.write(content[: -1000 if self.path == "/truncated" else None])

    def log_message(self, *words):
        pass


@pytest.fixture(scope="module")
def site():
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """The folder of a data set in an empty cache; the network is allowed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("LONGWAVE_OFFLINE", raising=False)
    monkeypatch.delenv("LONGWAVE_DATA", raising=False)
    return tmp_path / "longwave" / "digits"


def remote(site: str, path: str = "whole") -> RemoteFile:
    return RemoteFile("digits.bin", f"{site}/{path}", f"sha256:{hashlib.sha256(CONTENT).hexdigest()}")


def files(place: Path) -> list[str]:
    return [path.name for path in place.rglob("*")]


def refused(file: RemoteFile, place: Path, message: str) -> None:
    """The download fails with one line that holds the message and the address, and leaves nothing."""
    with pytest.raises(DataError, match=message) as caught:
        fetch(file, place)
    assert "\n" not in str(caught.value)
    assert file.name in str(caught.value)
    assert files(place) == []


def test_it_arrives_whole_and_once(site, place):
    folder = find("digits", None, [remote(site)])
    assert folder == place
    assert files(place) == ["digits.bin"]
    assert (place / "digits.bin").read_bytes() == CONTENT
    assert find("digits", None, [remote("http://127.0.0.1:9")]) == place, "the second time nothing is fetched"


def test_what_is_missing_of_a_set_is_fetched(site, place):
    place.mkdir(parents=True)
    (place / "other.bin").write_bytes(b"mine")
    find("digits", None, [RemoteFile("other.bin", "http://127.0.0.1:9/"), remote(site)])
    assert (place / "other.bin").read_bytes() == b"mine"
    assert (place / "digits.bin").read_bytes() == CONTENT


def test_a_tampered_file_is_refused(site, place):
    expected = hashlib.sha256(CONTENT).hexdigest()
    refused(remote(site, "tampered"), place, f"is not digits.bin: sha256 [0-9a-f]{{64}}, expected {expected}")


def test_a_truncated_file_is_refused_even_without_a_checksum(site, place):
    file = dataclasses.replace(remote(site, "truncated"), digest="")
    refused(file, place, "digits.bin broke off after 255000 of 256000 bytes from http")


def test_content_can_be_inspected_instead(site, place):
    file = dataclasses.replace(remote(site), digest="", inspect=lambda path: f"{path.stat().st_size} is odd")
    refused(file, place, "is not digits.bin: 256000 is odd")


def test_an_address_that_moved(site, place):
    refused(remote(site, "digits.bin"), place, "answers 404 Not Found: digits.bin is not there")


def test_no_network(place):
    refused(remote("http://127.0.0.1:9", "digits.bin"), place, "cannot fetch .*refused.*check the network")


def test_a_host_that_does_not_exist(place):
    refused(remote("http://nowhere.invalid", "digits.bin"), place, "cannot fetch .*check the network")


def test_offline_is_offline(site, place, monkeypatch):
    monkeypatch.setenv("LONGWAVE_OFFLINE", "1")
    refused(remote(site), place, "LONGWAVE_OFFLINE forbids it")


def test_a_full_disk(site, place, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("shutil.copyfileobj", full)
    refused(remote(site), place, "cannot write digits.bin .*No space left on device; make room")


def test_a_place_that_cannot_be_written(site, place):
    place.parent.parent.joinpath("file").write_bytes(b"")
    with pytest.raises(DataError, match=r"cannot write digits.bin to .*Not a directory.*\$XDG_CACHE_HOME"):
        fetch(remote(site), place.parent.parent / "file" / "digits")


def test_an_interruption_leaves_nothing_and_stays_one(site, place, monkeypatch):
    def interrupted(received, written, size):
        written.write(received.read(1000))
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.copyfileobj", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(remote(site), place)
    assert files(place) == []


def test_a_file_already_there_is_replaced_only_by_the_right_one(site, place):
    place.mkdir(parents=True)
    (place / "digits.bin").write_bytes(b"old")
    with pytest.raises(DataError):
        fetch(remote(site, "tampered"), place)
    assert (place / "digits.bin").read_bytes() == b"old"
    fetch(remote(site), place)
    assert (place / "digits.bin").read_bytes() == CONTENT
