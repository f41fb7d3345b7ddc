"""Reversal within each row's own length."""

import torch

from longwave.layers.padding import real_positions, reverse


def test_real_positions() -> None:
    assert real_positions(torch.tensor([0, 2]), 3).tolist() == [[False] * 3, [True, True, False]]


def test_reverse_turns_each_row_within_its_length() -> None:
    x, lengths = torch.arange(12).view(3, 4), torch.tensor([4, 2, 0])
    assert reverse(x, lengths).tolist() == [[3, 2, 1, 0], [5, 4, 6, 7], [8, 9, 10, 11]]
    assert reverse(x, None).tolist() == [[3, 2, 1, 0], [7, 6, 5, 4], [11, 10, 9, 8]]
    channels = torch.randn(3, 4, 5)
    assert torch.equal(reverse(reverse(channels, lengths), lengths), channels)
    assert torch.equal(reverse(channels, lengths)[1, 0], channels[1, 1])
