"""A data set is found under the named root, then under $LONGWAVE_DATA; else the error says where it was sought."""

import pytest

from longwave.data import find
from longwave.errors import DataError


@pytest.fixture
def roots(tmp_path, monkeypatch):
    """Two empty data roots; the second is the environment's."""
    named, environment = tmp_path / "named", tmp_path / "environment"
    named.mkdir()
    environment.mkdir()
    monkeypatch.setenv("LONGWAVE_DATA", str(environment))
    return named, environment


def test_the_named_root_comes_first(roots):
    for root in roots:
        (root / "mnist").mkdir()
    assert find("mnist", roots[0]) == roots[0] / "mnist"
    assert find("mnist") == roots[1] / "mnist"


def test_the_environment_is_asked_next(roots):
    (roots[1] / "mnist").mkdir()
    assert find("mnist", roots[0]) == roots[1] / "mnist"


def test_nothing_found_names_every_place(roots):
    with pytest.raises(DataError) as caught:
        find("mnist", roots[0])
    assert str(roots[0] / "mnist") in str(caught.value)
    assert str(roots[1] / "mnist") in str(caught.value)


def test_no_root_at_all(monkeypatch):
    monkeypatch.delenv("LONGWAVE_DATA", raising=False)
    with pytest.raises(DataError, match=r"no data root is given.*--data_root"):
        find("mnist")


def test_a_misspelt_root_is_not_passed_over(roots):
    (roots[1] / "mnist").mkdir()
    with pytest.raises(DataError, match="not a folder"):
        find("mnist", roots[0] / "misspelt")
