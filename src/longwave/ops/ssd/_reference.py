"""State space duality in plain PyTorch: any device, any dtype, differentiable by autograd.

With L[t, s] = exp(a[s + 1] + … + a[t]) for s ≤ t, a chunk is a masked product and what the state S before it adds,

    y[t] = Σ_s (C[t] · B[s]) L[t, s] w[s] x[s] + exp(a[0] + … + a[t]) C[t] S,
    S′ = exp(a[0] + … + a[−1]) S + Σ_s L[−1, s] w[s] x[s] B[s]ᵀ,

so the only loop is over chunks. Every sum of a is added up for itself, in float64: as a difference of two running sums
it would have a gradient that is one too. L is masked before and after exp: what is not in order, or lies in another
sequence, has neither a value nor a slope.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from longwave.ops._marks import BEGINS, PADDING


def run(
    x: Tensor,
    a: Tensor,
    w: Tensor | None,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    initial_state: Tensor | None,
    marks: Tensor | None,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """y and the final state; a in float64, all else of one precision, `D` (heads, head_dim)."""
    batch, time, heads, dim = x.shape
    groups, state = B.shape[2:]
    if marks is None:
        marks = torch.zeros(batch, time, dtype=torch.uint8, device=x.device)
    real, begins = (marks != PADDING)[..., None], (marks == BEGINS)[..., None]
    x, B, C = (torch.where(real[..., None], u, 0) for u in (x, B, C))
    weighted = x if w is None else torch.where(real, w, 0)[..., None] * x

    def chunks(u: Tensor, axis: tuple[int, int]) -> Tensor:
        """(batch, time, heads, …) to (batch, chunks, groups, heads of a group, position, …)."""
        u = F.pad(u, (*(0,) * (2 * u.ndim - 4), 0, -time % chunk))
        return u.unflatten(1, (-1, chunk)).unflatten(3, axis).movedim(2, 4)

    each, shared = (groups, heads // groups), (groups, 1)
    decay = _decays(
        chunks(torch.where(real & ~begins, a, 0), each), chunks(begins.expand(a.shape).int(), each), x.dtype
    )
    u, k, q = chunks(weighted, each), chunks(B, shared), chunks(C, shared)
    y = (q @ k.mT * decay.inside) @ u
    S = x.new_zeros(batch, heads, dim, state) if initial_state is None else initial_state
    S, before = S.unflatten(1, each), []
    for through, gain in zip(decay.through.unbind(1), ((u * decay.leave).mT @ k).unbind(1), strict=True):
        before.append(S)
        S = torch.where(through == 0, 0, through * S) + gain  # a zero forgets even what is no number
    if before:
        y = y + torch.where(decay.enter == 0, 0, decay.enter * (q @ torch.stack(before, 1).mT))
    y = y.movedim(4, 2).flatten(3, 4).flatten(1, 2)[:, :time]
    return y if D is None else y + D * x, S.reshape(batch, heads, dim, state)


class _Decays(NamedTuple):
    """L; the decay up to each position, after it, and of the whole chunk; zero where a sequence begins between."""

    inside: Tensor
    enter: Tensor
    leave: Tensor
    through: Tensor


def _decays(a: Tensor, begins: Tensor, dtype: torch.dtype) -> _Decays:
    """Of log decays and beginnings, (…, position)."""
    sequence = begins.cumsum(-1)

    def exp(exponent: Tensor, there: Tensor) -> Tensor:
        return torch.where(there, torch.where(there, exponent, 0).exp().to(dtype), 0)

    between = a[..., :, None].expand(*a.shape, a.shape[-1]).tril(-1).cumsum(-2)
    enter = exp(a.cumsum(-1), sequence == 0)[..., None]
    inside = exp(between, (sequence[..., :, None] == sequence[..., None, :]).tril())
    return _Decays(inside, enter, inside[..., -1, :, None], enter[..., -1:, :])
