"""The readout of one position, which has a way of its own, against that of a sequence."""

import pytest
import torch

from longwave.layers.readout import Readout


@pytest.mark.parametrize("dtype", (torch.float64, torch.float32, torch.bfloat16))
@pytest.mark.parametrize("output", ("glu", "linear", None))
@torch.no_grad()
def test_one_position_is_read_out_as_in_a_sequence(output: str | None, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    readout, y = Readout(8, output).to(dtype), torch.linspace(-15, 15, 800).view(100, 8).to(dtype)
    truth = readout.double()(y.double()[None])[0]
    at_once, one_by_one = readout.to(dtype)(y[None])[0], torch.cat([readout(y_t) for y_t in y.split(1)])
    scale, rounding = truth.abs().max(), 16 * torch.finfo(dtype).eps
    assert (one_by_one - truth).abs().max() <= rounding * scale
    assert (one_by_one - at_once).abs().max() <= rounding * scale
    assert torch.equal(readout(y[:0]), y[:0])
