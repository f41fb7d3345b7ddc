"""What a selective scan *is*, in plain PyTorch: any device, any dtype, differentiable by autograd."""

import torch
import torch.nn.functional as F
from torch import Tensor

from longwave.ops._marks import BEGINS, PADDING


def run(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    delta_softplus: bool,
    marks: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """y and the final state; the arguments are of one precision, A, B, C all real or all complex."""
    inside, begins = _inside(u, marks), None if marks is None else marks == BEGINS
    u, delta = torch.where(inside, u, 0), torch.where(inside, delta, 0)
    dt = delta if delta_bias is None else delta + delta_bias
    dt = torch.where(inside, F.softplus(dt) if delta_softplus else dt, 0)
    drive, B, C = dt * u, _per_position(B, u, inside), _per_position(C, u, inside)

    h = A.new_zeros(len(u), *A.shape) if initial_state is None else initial_state
    outputs = []
    for t in range(u.shape[1]):
        if begins is not None:
            h = torch.where(begins[:, t, None, None], 0, h)
        h = torch.exp(dt[:, t, :, None] * A) * h + drive[:, t, :, None] * B[:, t]
        outputs.append((h * C[:, t]).sum(-1))
    y = torch.stack(outputs, 1) if outputs else torch.zeros_like(u)
    y = 2 * y.real if y.is_complex() else y
    y = y if D is None else y + D * u
    return torch.where(inside, y if z is None else y * F.silu(torch.where(inside, z, 0)), 0), h


def _inside(u: Tensor, marks: Tensor | None) -> Tensor:
    """(batch, time, 1), or what broadcasts to it: False where a position is padding."""
    return torch.ones(1, 1, 1, dtype=torch.bool, device=u.device) if marks is None else (marks != PADDING)[:, :, None]


def _per_position(x: Tensor, u: Tensor, inside: Tensor) -> Tensor:
    """B or C for each row, position and channel: (batch, time, dim or 1, state)."""
    if x.ndim == 2:
        return x.expand(*u.shape[:2], *x.shape)
    x, groups = torch.where(inside[..., None], x, 0), x.shape[2]
    return x if groups == 1 else x.repeat_interleave(u.shape[2] // groups, 2)
