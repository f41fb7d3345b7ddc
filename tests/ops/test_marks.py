"""Packing and padding in the one form that the selective operations take."""

from typing import Any

import pytest
import torch

from longwave.errors import ShapeError
from longwave.ops._marks import position_marks


def marks(**what: Any) -> list[list[int]] | None:
    batch, time = next(x.shape for x in what.values() if x.ndim == 2) if what else (1, 4)
    found = position_marks("op", batch, time, **what)
    return None if found is None else found.tolist()


def test_nothing_marked() -> None:
    assert marks() is None


def test_resets_and_lengths() -> None:
    reset = torch.tensor([[True, False, True, True], [False, True, False, True]])
    assert marks(reset=reset) == [[1, 0, 1, 1], [0, 1, 0, 1]]
    assert marks(reset=reset, lengths=torch.tensor([3, 0])) == [[1, 0, 1, 2], [2, 2, 2, 2]]


def test_indices_with_padding_before_between_and_after() -> None:
    indices = torch.tensor([[-1, 3, 3, -1, 3, 7, -1, 2], [0, 0, 1, 1, -1, -1, -1, -1], [-1] * 8], dtype=torch.int32)
    assert marks(seq_idx=indices) == [[2, 0, 0, 2, 0, 1, 2, 1], [0, 0, 1, 0, 2, 2, 2, 2], [2] * 8]


def test_no_positions() -> None:
    assert marks(seq_idx=torch.zeros(2, 0, dtype=torch.int64)) == [[], []]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"seq_idx": torch.zeros(1, 4)}, "integer"),
        ({"seq_idx": torch.zeros(4, 1, dtype=torch.int32)}, "expected"),
        ({"seq_idx": torch.zeros(1, 4, dtype=torch.int32), "lengths": torch.ones(1, dtype=torch.int32)}, "leave out"),
        ({"reset": torch.zeros(1, 4)}, "bool"),
    ],
)
def test_what_does_not_fit(what: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        position_marks("op", 1, 4, **what)
