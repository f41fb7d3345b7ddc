"""Matrices with blocks of low rank off the diagonal: against the matrices that they are made from."""

import pytest
import torch

from longwave.errors import ConfigError
from longwave.math import HODLR, dense_zoh, hodlr, lmu
from longwave.shapes import Tensor


def dense(tree: HODLR) -> Tensor:
    """The matrix, leaf by leaf: p and q meet at the level at which their numbers begin to differ."""
    leaves, leaf, columns = tree.gather.shape
    levels = leaves.bit_length() - 1
    A = torch.zeros(leaves, leaf, leaves, leaf, dtype=torch.float64)
    for p in range(leaves):
        A[p, :, p] = tree.near[p].mT
        for q in set(range(leaves)) - {p}:
            level = levels - (p ^ q).bit_length()
            own = slice(level * columns // levels, (level + 1) * columns // levels)
            A[q, :, p] = (tree.gather[p, :, own] @ tree.spread[q, own]).mT
    return A.reshape(leaves * leaf, -1)


def delay(N: int, window: float) -> Tensor:
    A, B = lmu(N)
    return dense_zoh(torch.tensor([1 / window], dtype=torch.float64), A[None], B[None, :, None]).A[0]


@pytest.mark.parametrize("leaf", [16, 32, 64])
@pytest.mark.parametrize("tolerance", [1e-4, 1e-9])
def test_the_error_is_within_the_tolerance(leaf: int, tolerance: float) -> None:
    A = delay(128, 300.0)
    levels = (128 // leaf).bit_length() - 1
    error = torch.linalg.matrix_norm(dense(hodlr(A, leaf, tolerance=tolerance)) - A, 2)
    assert float(error) <= levels * tolerance * float(torch.linalg.matrix_norm(A, 2))


@pytest.mark.parametrize("leaf", [4, 16, 32])
def test_any_matrix_is_kept_whole_if_nothing_is_left_out(leaf: int) -> None:
    A = torch.randn(64, 64, dtype=torch.float64)
    tree = hodlr(A, leaf, tolerance=0.0)
    assert tree.cost > 1
    assert torch.allclose(dense(tree), A, rtol=0, atol=1e-13)


def test_the_delay_takes_eight_numbers_from_half_to_half() -> None:
    tree = hodlr(delay(256, 784.0), 64, tolerance=1e-8)
    assert tree.gather.shape == (4, 64, 16)
    assert tree.cost == 3 / 8


@pytest.mark.parametrize(("n", "leaf"), [(64, 64), (96, 32), (64, 24)])
def test_sizes_that_make_no_tree(n: int, leaf: int) -> None:
    with pytest.raises(ConfigError, match=f"leaf={leaf} does not divide a matrix of shape \\({n}, {n}\\)"):
        hodlr(torch.eye(n), leaf, tolerance=1e-9)
