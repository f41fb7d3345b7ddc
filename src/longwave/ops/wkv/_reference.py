"""The definition: one value after the other enters a weighted mean."""

import torch
from torch import Tensor

from longwave.ops._marks import BEGINS, PADDING

NOTHING = -1e38  # the logarithm of no weight: finite, so that differences of it are numbers


def run(
    k: Tensor, v: Tensor, w: Tensor, u: Tensor, initial_state: Tensor | None, marks: Tensor | None
) -> tuple[Tensor, Tensor]:
    """y (batch, time, dim) and the final state (batch, 2, dim): a mean, and the logarithm of its weight."""
    empty = torch.stack([torch.zeros_like(w), torch.full_like(w, NOTHING)])
    state = empty.expand(len(k), 2, -1) if initial_state is None else initial_state
    ys = []
    for t, (k_t, v_t) in enumerate(zip(k.unbind(1), v.unbind(1), strict=True)):
        before = state if marks is None else torch.where((marks[:, t] == BEGINS)[:, None, None], empty, state)
        m, L = before.unbind(1)
        y, _ = _add(m, L, k_t + u, v_t)
        state = torch.stack(_add(m, L + w, k_t, v_t), 1)
        if marks is not None:
            padding = marks[:, t] == PADDING
            y, state = y.masked_fill(padding[:, None], 0), torch.where(padding[:, None, None], before, state)
        ys.append(y)
    return torch.stack(ys, 1) if ys else torch.zeros_like(v), state


def _add(m: Tensor, L: Tensor, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the log-weight after v has entered with weight eˣ."""
    # A share of e⁻⁸⁰ is nothing in every precision, and e⁸⁰ still has derivatives in every one.
    L, x = torch.maximum(L, x - 80), torch.maximum(x, L - 80)
    return torch.lerp(m, v, torch.sigmoid(x - L)), torch.logaddexp(L, x)
