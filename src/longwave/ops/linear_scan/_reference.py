"""What a scan *is*, in plain PyTorch: any device, any dtype, differentiable by autograd.

Two steps of h ← a h + b are one step of the same form, (a₂ a₁, a₂ b₁ + b₂), and this composition is associative: so
the composites of all prefixes follow by doubling, in log₂ passes instead of one pass per position. A chunk of CHUNK
positions at a time keeps the work near linear and the products of a within range; the state is carried from chunk to
chunk. All of it in double precision where the device has it: an aⁿ that is rounded once and used in every chunk is off by
more than the same steps of the plain recurrence, whose roundings differ and cancel.
"""

import torch
from torch import Tensor

CHUNK = 16


def run(
    a: Tensor, b: Tensor, initial_state: Tensor | None, reset: Tensor | None, lengths: Tensor | None, reverse: bool
) -> tuple[Tensor, Tensor]:
    """States (batch, time, dim) and the final state; `a` is (batch or 1, time or 1, dim or 1)."""
    (batch, time, dim), dtype = b.shape, b.dtype
    wide = _wide(b)
    a, b = a.to(wide).expand(b.shape), b.to(wide)
    inside = torch.ones(1, 1, 1, dtype=torch.bool, device=b.device)
    if reset is not None:
        cut = reset if not reverse else torch.cat([reset[:, 1:], torch.zeros_like(reset[:, :1])], 1)
        if lengths is not None and reverse:  # what begins after a row's end does not cut its last position off
            cut = cut & (torch.arange(1, time + 1, device=b.device) < lengths[:, None])
        a = torch.where(cut[:, :, None], 0, a)
    if lengths is not None:  # beyond a row's end the state is kept
        inside = (torch.arange(time, device=b.device) < lengths[:, None])[:, :, None]
        a, b = torch.where(inside, a, 1), torch.where(inside, b, 0)
    if reverse:
        a, b = a.flip(1), b.flip(1)

    state = b.new_zeros(batch, dim) if initial_state is None else initial_state.to(wide)
    chunks = []
    for a_chunk, b_chunk in zip(a.split(CHUNK, 1), b.split(CHUNK, 1), strict=True):
        decay, sums = _prefixes(a_chunk, b_chunk)
        chunks.append(decay * state[:, None] + sums)
        state = chunks[-1][:, -1] if time else state
    states = torch.cat(chunks, 1)
    return torch.where(inside, states.flip(1) if reverse else states, 0).to(dtype), state.to(dtype)


def _wide(b: Tensor) -> torch.dtype:
    """Double precision, except on Apple's GPUs, which have none."""
    if b.device.type == "mps":
        return b.dtype
    return torch.complex128 if b.is_complex() else torch.float64


def _prefixes(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The composite of positions 0..t for every t: h[t] = decay[t] h[-1] + sums[t]."""
    step = 1
    while step < a.shape[1]:
        b = torch.cat([b[:, :step], a[:, step:] * b[:, :-step] + b[:, step:]], 1)
        a = torch.cat([a[:, :step], a[:, step:] * a[:, :-step]], 1)
        step *= 2
    return a, b
