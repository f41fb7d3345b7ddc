"""What a scan *is*, in plain PyTorch: any device, any dtype, differentiable by autograd.

One position after the other. The composition of two steps is associative, so all prefixes could be had by doubling in
log₂(time) passes; but where a does not depend on time, the same rounded powers of it enter again and again and lose
more than this loop does, and the reference is what everything else is measured against.
"""

import torch
from torch import Tensor


def run(
    a: Tensor, b: Tensor, initial_state: Tensor | None, reset: Tensor | None, lengths: Tensor | None, reverse: bool
) -> tuple[Tensor, Tensor]:
    """States (batch, time, dim) and the final state; `a` is (batch or 1, time or 1, dim or 1)."""
    batch, time, dim = b.shape
    a = a.expand(b.shape)
    inside = torch.ones(1, 1, 1, dtype=torch.bool, device=b.device)
    if lengths is not None:  # beyond a row's end the state is kept
        inside = (torch.arange(time, device=b.device) < lengths[:, None])[:, :, None]
        a, b = torch.where(inside, a, 1), torch.where(inside, b, 0)
    if reset is not None:  # a reset at t cuts the link between t − 1 and t, in both directions
        cut = reset[:, :, None] & inside
        if reverse:
            cut = torch.cat([cut[:, 1:], torch.zeros_like(cut[:, :1])], 1)
        a = torch.where(cut, 0, a)

    state = b.new_zeros(batch, dim) if initial_state is None else initial_state
    states: list[Tensor] = [state] * time
    a_at, b_at = a.unbind(1), b.unbind(1)
    for t in reversed(range(time)) if reverse else range(time):
        state = a_at[t] * state + b_at[t]
        states[t] = state
    every = torch.stack(states, 1) if time else torch.zeros_like(b)
    return torch.where(inside, every, 0), state
