"""What `parts` of a projection do with their gradients."""

import torch
from torch import Tensor

from longwave.layers.projection import parts

SIZES = [2, 3, 1]


def gradient_of(above: tuple[Tensor, ...]) -> Tensor:
    x = torch.randn(4, 5, 6, requires_grad=True)
    return torch.autograd.grad(parts(x, SIZES), x, above)[0]


def test_parts_are_those_of_a_split() -> None:
    x = torch.randn(4, 5, 6)
    for part, want in zip(parts(x, SIZES), x.split(SIZES, -1), strict=True):
        assert torch.equal(part, want)


def test_gradients_side_by_side_are_taken_as_they_are() -> None:
    whole = torch.randn(4, 5, 6)
    got = gradient_of(whole.split(SIZES, -1))
    assert torch.equal(got, whole)
    assert got.data_ptr() == whole.data_ptr()


def test_other_gradients_are_put_together() -> None:
    whole, longer = torch.randn(4, 5, 6), torch.randn(4, 5, 7)
    apart, exchanged = tuple(v.clone() for v in whole.split(SIZES, -1)), whole.split([3, 2, 1], -1)
    some_missing = longer.split([2, 1, 3, 1], -1)
    for above in (apart, (exchanged[1], exchanged[0], exchanged[2]), (some_missing[0], *some_missing[2:])):
        assert torch.equal(gradient_of(above), torch.cat(above, -1))


def test_gradients_of_gradients_are_those_of_a_split() -> None:
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda v: [part**2 for part in parts(v, SIZES)], x)
