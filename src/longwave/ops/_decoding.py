"""One position between the projections of a Mamba layer, written into the state where it lies (native/decoding.cpp).

These are no operations: they write to an argument and have no adjoint. They take the place of some of torch's calls,
each of which costs more than what it computes, where `takes` says that they can.
"""

import math

import torch
from torch import Tensor

from longwave.ops._native import address, kernels, packed, refuses, threads, unrecorded


def takes(state: Tensor, *others: Tensor | None) -> bool:
    """Whether the kernels can move this state on."""
    if not unrecorded(state, *others) or refuses(state, *others) is not None:
        return False
    return state.is_contiguous() and state.dtype in (torch.float32, torch.float64)


def _given(v: Tensor | None, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor | None:
    """A tensor as the kernel reads it."""
    if v is None:
        return None
    return packed(v if v.dtype == dtype and v.shape == shape else v.to(dtype).expand(shape))


def advance(
    h: Tensor,
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    dt_softplus: bool,
    dt_limit: tuple[float, float] | None,
) -> Tensor:
    """Move h (batch, heads, dim, modes) on; y (batch, heads, dim). A head's A, dt and bias may be one number."""
    batch, heads, dim, modes = h.shape
    per_head, groups = A[0].numel() == 1, B.shape[1]
    system = (1, 1) if per_head else (dim, modes)
    shapes = (
        (u, (batch, heads, dim)),
        (dt, (batch, heads, system[0])),
        (A, (heads, *system)),
        (B, (batch, groups, modes)),
        (C, (batch, groups, modes)),
        (D, (heads, dim)),
        (z, (batch, heads, dim)),
        (dt_bias, (heads, system[0])),
    )
    given = [_given(v, h.dtype, shape) for v, shape in shapes]
    y = h.new_empty(batch, heads, dim)
    kernels().state_advance(
        h.dtype == torch.float64,
        [batch, heads, groups, dim, modes],
        per_head,
        dt_softplus,
        dt_limit or (-math.inf, math.inf),
        [address(v) for v in (h, *given, y)],
        threads(4 * h.numel()),  # an exponential each
    )
    return y


def slide(window: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool) -> Tensor:
    """Let a window (batch, dim, width) see the next input (batch, dim); y (batch, dim), the taps' sum."""
    batch, dim, width = window.shape
    shapes = ((x, (batch, dim)), (weight, (dim, width)), (bias, (dim,)))
    given = [_given(v, window.dtype, shape) for v, shape in shapes]
    y = window.new_empty(batch, dim)
    kernels().window_slide(
        window.dtype == torch.float64,
        [batch, dim, width],
        silu,
        [address(v) for v in (window, *given, y)],
        threads(window.numel()),
    )
    return y
