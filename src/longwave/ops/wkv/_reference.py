"""The definition: one value after the other enters a weighted mean."""

import torch
from torch import Tensor

from longwave.ops._marks import BEGINS, PADDING

NOTHING = -1e38  # the logarithm of no weight: finite, so that differences of it are numbers


def run(
    k: Tensor, v: Tensor, w: Tensor, u: Tensor, initial_state: Tensor | None, marks: Tensor | None
) -> tuple[Tensor, Tensor]:
    """y (batch, time, dim) and the final state (batch, 2, dim): a mean m, and the logarithm L of its weight D eᵒ."""
    if initial_state is None:
        initial_state = torch.stack([torch.zeros_like(w), torch.full_like(w, NOTHING)]).expand(len(k), 2, -1)
    m, L = initial_state.unbind(1)
    o = L.detach()
    D, ys = torch.exp(L - o), []
    for t, (k_t, v_t) in enumerate(zip(k.unbind(1), v.unbind(1), strict=True)):
        if marks is not None:
            begins = (marks[:, t] == BEGINS)[:, None]
            m, o = m.masked_fill(begins, 0), o.masked_fill(begins, NOTHING)
        y, *_ = _add(m, D, o, k_t + u, v_t)
        after = _add(m, D, o + w, k_t, v_t)
        if marks is not None:
            padding = (marks[:, t] == PADDING)[:, None]
            y = y.masked_fill(padding, 0)
            after = (torch.where(padding, old, new) for old, new in zip((m, D, o), after, strict=True))
        m, D, o = after
        ys.append(y)
    return torch.stack(ys, 1) if ys else torch.zeros_like(v), torch.stack([m, o + D.log()], 1)


def _add(m: Tensor, D: Tensor, o: Tensor, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The mean, its weight and the largest exponent after v has entered with weight eˣ."""
    top = torch.maximum(o, x).detach()  # the result does not depend on it, only its rounding does
    old, new = D * torch.exp(o - top), torch.exp(x - top)
    return torch.lerp(m, v, new / (old + new)), old + new, top
