"""One matrix product per channel instead of a (dim, modes, length) tensor.

With l = S i + j, aˡ = (a^S)^i a^j: two thin tables of powers, (modes, length / S) and (modes, S), made in float64 and
rounded once, and one batched product over the modes. Of its time the product, at the speed of the BLAS, is a part;
most of the rest goes into the tables (benchmarks/s4d.py shows both).
"""

from math import isqrt

import torch
from torch import Tensor

from longwave.ops._checks import STATE_DTYPE


def refuses(a: Tensor, w: Tensor, *_: int) -> str | None:
    """Why this implementation cannot take the arguments, or None."""
    if a.device.type != "cpu":
        return f"it was measured and chosen on the CPU, and a is on {a.device}"
    return None


def run(a: Tensor, w: Tensor, length: int) -> Tensor:
    """k (dim, length)."""
    dtype = STATE_DTYPE[w.dtype]
    split = max(1, isqrt(length))
    wide = torch.complex128 if a.is_complex() else torch.float64
    a, w = a.to(wide), w.to(wide)
    fine = _powers(a, split + 1)
    coarse = w[..., None] * _powers(fine[..., -1], -(-length // split))
    fine = fine[..., :-1]
    if a.is_complex():  # Re(z₁ z₂) as a product of real pairs
        coarse = 2 * torch.cat([coarse.real, -coarse.imag], 1)
        fine = torch.cat([fine.real, fine.imag], 1)
    kernel = coarse.to(dtype).mT @ fine.to(dtype)
    return kernel.flatten(1)[:, :length]


def _powers(a: Tensor, n: int) -> Tensor:
    """1, a, …, a^(n-1) on a new last axis."""
    a = a[..., None].expand(*a.shape, n)
    return torch.cat([torch.ones_like(a[..., :1]), a[..., 1:]], -1).cumprod(-1)
