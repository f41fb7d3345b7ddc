"""The definition: every mode is a linear scan, and the output reads all of them.

The states of CHUNK positions at a time exist as a (batch, CHUNK, dim, modes) tensor; under autograd all of them are
kept.
"""

import torch
from torch import Tensor

from longwave.ops.linear_scan._api import linear_scan

CHUNK = 256


def run(
    u: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor | None,
    initial_state: Tensor | None,
    reset: Tensor | None,
    lengths: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """y (batch, time, dim) and the final state of the discrete system a, b, c (dim, modes)."""
    (batch, time, dim), modes = u.shape, a.shape[1]
    state = a.new_zeros(batch, dim * modes) if initial_state is None else initial_state.reshape(batch, dim * modes)
    y = []
    for start in range(0, time, CHUNK):
        now = slice(start, min(start + CHUNK, time))
        states, state = linear_scan(
            a.flatten(),
            (u[:, now, :, None] * b).flatten(2),
            state,
            reset=None if reset is None else reset[:, now],
            lengths=None if lengths is None else (lengths - start).clamp(0, now.stop - start),
            impl="reference",
        )
        sums = (states.unflatten(2, (dim, modes)) * c).sum(-1)
        y.append(2 * sums.real if sums.is_complex() else sums)
    out = torch.cat(y, 1) if y else torch.zeros_like(u)
    if d is not None:
        inside = 1 if lengths is None else (torch.arange(time, device=u.device) < lengths[:, None])[:, :, None]
        out = out + d * u * inside
    return out, state.reshape(batch, dim, modes)
