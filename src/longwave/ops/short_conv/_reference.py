"""What a short convolution *is*, in plain PyTorch: any device, any dtype, differentiable by autograd."""

import torch
import torch.nn.functional as F
from torch import Tensor

from longwave.ops._marks import BEGINS, PADDING


def run(
    x: Tensor, weight: Tensor, bias: Tensor | None, initial_state: Tensor | None, silu: bool, marks: Tensor | None
) -> tuple[Tensor, Tensor]:
    """y and the last inputs; all tensors of one precision."""
    (batch, time, dim), width = x.shape, weight.shape[1]
    state = x.new_zeros(batch, dim, width - 1) if initial_state is None else initial_state
    if marks is None:
        line = torch.cat([state.mT, x], 1)
        y = sum((line[:, j : j + time] * weight[:, j] for j in range(width)), torch.zeros_like(x))
        return _finish(y, bias, silu), line[:, time:].mT
    outputs = []
    for t in range(time):
        padding, begins = (marks[:, t, None, None] == kind for kind in (PADDING, BEGINS))
        seen = torch.cat([torch.where(begins, 0, state), torch.where(padding, 0, x[:, t, :, None])], 2)
        outputs.append((seen * weight).sum(2))
        state = torch.where(padding, state, seen[..., 1:])
    y = _finish(torch.stack(outputs, 1) if outputs else torch.zeros_like(x), bias, silu)
    return torch.where(marks[..., None] == PADDING, 0, y), state


def _finish(y: Tensor, bias: Tensor | None, silu: bool) -> Tensor:
    y = y if bias is None else y + bias
    return F.silu(y) if silu else y
