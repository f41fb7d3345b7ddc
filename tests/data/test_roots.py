"""A data set is found under the named root, $LONGWAVE_DATA or the cache; else the error says where it was sought."""

import sys
from pathlib import Path

import pytest

from longwave.data import find
from longwave.data.download import RemoteFile
from longwave.data.roots import cache
from longwave.errors import DataError


@pytest.fixture
def roots(tmp_path, monkeypatch):
    """Two empty data roots, of which the second is the environment's, and an empty cache; no network."""
    named, environment = tmp_path / "named", tmp_path / "environment"
    named.mkdir()
    environment.mkdir()
    monkeypatch.setenv("LONGWAVE_DATA", str(environment))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setenv("LONGWAVE_OFFLINE", "1")
    return named, environment, tmp_path / "caches" / "longwave"


def test_the_named_root_comes_first_then_the_environment_then_the_cache(roots):
    for root in roots:
        (root / "mnist").mkdir(parents=True)
    assert find("mnist", roots[0]) == roots[0] / "mnist"
    assert find("mnist") == roots[1] / "mnist"
    (roots[1] / "mnist").rmdir()
    assert find("mnist", roots[1]) == roots[2] / "mnist"


def test_the_environment_is_asked_next(roots):
    (roots[1] / "mnist").mkdir()
    assert find("mnist", roots[0]) == roots[1] / "mnist"


def test_nothing_found_names_every_place(roots):
    with pytest.raises(DataError) as caught:
        find("mnist", roots[0])
    for root in roots:
        assert str(root / "mnist") in str(caught.value)


def test_no_root_at_all(roots, monkeypatch):
    monkeypatch.delenv("LONGWAVE_DATA")
    with pytest.raises(DataError, match=r"caches/longwave/mnist \(cache\).*--data_root"):
        find("mnist")


def test_a_misspelt_root_is_not_passed_over(roots):
    (roots[1] / "mnist").mkdir()
    with pytest.raises(DataError, match="not a folder"):
        find("mnist", roots[0] / "misspelt")


def test_offline_says_where_it_looked_and_what_forbids(roots):
    with pytest.raises(DataError, match=r"looked|named/mnist") as caught:
        find("mnist", roots[0], [RemoteFile("a.gz", "http://127.0.0.1:9/a.gz")])
    assert "LONGWAVE_OFFLINE" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_whole_set_in_the_cache_needs_no_network(roots):
    folder = roots[2] / "mnist"
    folder.mkdir(parents=True)
    (folder / "a.gz").write_bytes(b"")
    assert find("mnist", None, [RemoteFile("a.gz", "http://127.0.0.1:9/a.gz")]) == folder


@pytest.mark.parametrize(
    ("platform", "expected"),
    (
        ("linux", ".cache/longwave"),
        ("darwin", "Library/Caches/longwave"),
        ("win32", "AppData/Local/longwave"),
    ),
)
def test_the_cache_is_the_platforms(monkeypatch, platform, expected):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setattr(sys, "platform", platform)
    assert cache() == Path.home() / expected
