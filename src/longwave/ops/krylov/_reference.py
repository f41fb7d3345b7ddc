"""The definition: one row after another, in double precision."""

import torch
from torch import Tensor


def run(A: Tensor, Q: Tensor, S: Tensor, v: Tensor, count: int, reverse: bool) -> Tensor:
    """(dim, rows, count, modes), all complex128."""
    A, every = A[:, None], [v][:count]
    for _ in range(count - 1):
        v = v + A * v - 2 * (v @ Q.mT).real.to(v.dtype) @ S
        every.append(v)
    if reverse:
        every.reverse()
    return torch.stack(every, 2) if every else v[:, :, None][:, :, :0]
