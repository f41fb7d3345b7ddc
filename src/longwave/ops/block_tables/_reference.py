"""The definition: one step after another, in double precision."""

import torch
from torch import Tensor


def run(
    A: Tensor, Q: Tensor, S: Tensor, B: Tensor, C: Tensor, span: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """enter, leave, kernel in `dtype`, transition in float64."""
    modes, C = A.shape[1], C[:, None]
    basis = torch.eye(2 * modes, dtype=torch.float64, device=A.device).view(2 * modes, modes, 2)
    x = torch.cat([B[:, None], torch.view_as_complex(basis).expand(len(A), -1, -1)], 1)  # B, and every real coordinate
    columns, rows = [], []
    for _ in range(span):
        columns.append(x[:, 0])
        x, C_next = _step(x, A, S, Q), _step(rows[-1][:, None] if rows else C, A, Q, S)
        rows.append(C_next[:, 0])
    B_powers, C_powers = torch.stack(columns, 1), torch.stack(rows, 1)
    enter, leave = _real(B_powers.flip(1)), 2 * _real(C_powers.conj())
    return enter.to(dtype), leave.to(dtype), 2 * (C * B_powers).sum(-1).real.to(dtype), _real(x[:, 1:]).mT


def _step(x: Tensor, A: Tensor, read: Tensor, write: Tensor) -> Tensor:
    """Each row of x times I + diag(A) − Σ_r read[r] write[r]ᵀ."""
    return x + A[:, None] * x - 2 * (x @ read.mT).real.to(x.dtype) @ write


def _real(x: Tensor) -> Tensor:
    """Re and Im in turn."""
    return torch.view_as_real(x.resolve_conj()).flatten(-2)
