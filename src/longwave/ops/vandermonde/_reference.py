"""The definition, with the (dim, modes, length) tensor of powers spelled out, in float64."""

import torch
from torch import Tensor

from longwave.ops._checks import STATE_DTYPE


def run(a: Tensor, w: Tensor, length: int) -> Tensor:
    """k (dim, length) = Σ w aˡ, twice the real part of it for complex modes."""
    wide = torch.complex128 if a.is_complex() else torch.float64
    a = a.to(wide)[..., None].expand(*a.shape, length)
    powers = torch.cat([torch.ones_like(a[..., :1]), a[..., 1:]], -1).cumprod(-1)  # 1, a, a², …
    kernel = (w.to(wide)[..., None] * powers).sum(1)
    return (2 * kernel.real if kernel.is_complex() else kernel).to(STATE_DTYPE[w.dtype])
