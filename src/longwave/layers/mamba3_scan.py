"""How Mamba-3 runs: a trapezoidal rule as `ssd` on the keys and values of the position before, with keys that turn."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

from longwave.ops import ssd
from longwave.shapes import Bool, Float, Tensor


class Mamba3State(NamedTuple):
    """The angles θ, the state S, and the last position's rotated keys and x; float32, or float64 for float64 inputs."""

    angle: Float[Tensor, "batch heads angles"]
    ssm: Float[Tensor, "batch heads head_dim state"]
    k: Float[Tensor, "batch rank heads state"]
    v: Float[Tensor, "batch heads head_dim"]


class Drive(NamedTuple):
    """What a projection says at each position: values, keys and queries not yet rotated, and per head the step Δ, the
    logarithmic decay Δ A, the share λ of the trapezoid, and by how much the angles turn."""

    v: Float[Tensor, "*batch heads head_dim"]
    k: Float[Tensor, "*batch rank heads state"]
    q: Float[Tensor, "*batch rank heads state"]
    dt: Float[Tensor, "*batch heads"]
    decay: Float[Tensor, "*batch heads"]
    share: Float[Tensor, "*batch heads"]
    turn: Float[Tensor, "*batch heads angles"]


def trapezoidal_scan(
    drive: Drive,
    before: Mamba3State,
    real: Bool[Tensor, "batch time"],
    begins: Bool[Tensor, "batch time"],
    columns: Float[Tensor, "heads rank *head_dim"],
    D: Float[Tensor, " heads"],
    halves: bool,
    chunk: int,
) -> tuple[Float[Tensor, "batch time rank heads head_dim"], Mamba3State]:
    """Run over a sequence: S[t] = α S[t−1] + β v[t−1] k[t−1]ᵀ + γ v[t] k[t]ᵀ,  y[t] = S[t] q[t] + D v[t].

    Args:
        drive: what a projection says, at one position or more.
        before: the state before the first position.
        real: which positions are no padding; padding is at the end of a row.
        begins: which begin a sequence.
        columns: what a value is multiplied by for each of its columns.
        D: what of v goes past the state.
        halves: whether coordinates i and i + N/2 turn together, and not 2i and 2i + 1.
        chunk: most positions of one masked product.

    Returns:
        y of each column, and the state at each row's own end.
    """
    theta = _angles(drive.turn, before.angle, real, begins)
    k, q = _rotated(drive.k, theta, halves), _rotated(drive.q, theta, halves)
    now = drive.dt * drive.share
    y, S = _scan(drive, now, k, q, before, real, begins, columns, D, chunk)
    last = real.sum(1) - 1
    pairs = (theta, before.angle), (k, before.k), (drive.v, before.v), (now, torch.zeros_like(now[:, 0]))
    theta, k, v, now = (_at(u, last, old) for u, old in pairs)
    return y, Mamba3State(theta, S + _outer(now[..., None] * v, k, columns), k, v)


def trapezoidal_step(
    drive: Drive, before: Mamba3State, columns: Tensor, D: Tensor, halves: bool
) -> tuple[Float[Tensor, "batch rank heads head_dim"], Mamba3State]:
    """Run over one position; the arguments are those of `trapezoidal_scan`, without an axis of time."""
    theta = _reduced(before.angle.double() + drive.turn).to(before.angle.dtype)
    k, q = _rotated(drive.k, theta, halves), _rotated(drive.q, theta, halves)
    alpha, now = drive.decay.exp()[..., None], (drive.dt * drive.share)[..., None]
    beta = ((1 - drive.share) * drive.dt)[..., None] * alpha
    S = alpha[..., None] * before.ssm + _outer(beta * before.v, before.k, columns) + _outer(now * drive.v, k, columns)
    v = drive.v[:, None] * columns.movedim(1, 0)
    y = torch.einsum("bhpn,brhn->brhp", S, q) + D.to(S.dtype)[:, None] * v
    return y, Mamba3State(theta, S, k, drive.v)


def _scan(
    drive: Drive,
    now: Tensor,
    k: Tensor,
    q: Tensor,
    before: Mamba3State,
    real: Tensor,
    begins: Tensor,
    columns: Tensor,
    D: Tensor,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """y[t]_r, and the last S without γ v kᵀ: `ssd` over rank · time positions, one column each, of which the first
    decays. What position t writes is the columns of t − 1, with the weight α[t] γ[t−1] + β[t]."""
    rank = columns.shape[1]
    k_before = torch.cat([before.k[:, None], k[:, :-1]], 1)
    v_before = torch.cat([before.v[:, None], drive.v[:, :-1]], 1)
    pending = F.pad(now[:, :-1], (0, 0, 1, 0))  # the state before the first position has its γ v kᵀ
    weight = drive.decay.exp() * (pending + drive.dt * (1 - drive.share))
    weight = torch.where(begins[..., None], 0, weight)
    y, S = ssd(
        ((weight[..., None] * v_before)[:, :, None] * columns.movedim(1, 0)).flatten(1, 2),
        None,
        F.pad(drive.decay[:, :, None], (0, 0, 0, rank - 1)).flatten(1, 2),
        k_before.flatten(1, 2),
        q.flatten(1, 2),
        initial_state=before.ssm,
        reset=F.pad(begins[..., None], (0, rank - 1)).flatten(1),
        lengths=real.sum(1) * rank,
        chunk=chunk,
    )
    y = y.unflatten(1, (-1, rank))
    own = now[..., None, None] * torch.einsum("btrhn,btshn->bthrs", q, k)
    own = own + D.to(own.dtype)[:, None, None] * torch.eye(rank, dtype=own.dtype, device=own.device)
    y = y + (own @ columns).movedim(3, 2) * drive.v[:, :, None]
    if rank > 1:  # query r has read before the columns after r were written
        missed = (weight[..., None, None] * torch.einsum("btrhn,btshn->bthrs", q, k_before)).triu(1)
        y = y + (missed @ columns).movedim(3, 2) * v_before[:, :, None]
    return y, S


def _rotated(u: Tensor, theta: Tensor, halves: bool) -> Tensor:
    """Keys or queries, their first pairs turned by θ."""
    angles = theta.shape[-1]
    cos, sin = theta.cos()[..., None, :, :], theta.sin()[..., None, :, :]
    pairs = u.unflatten(-1, (2, -1)) if halves else u.unflatten(-1, (-1, 2)).mT
    x, y = pairs[..., :angles].unbind(-2)
    turned = torch.stack([x * cos - y * sin, x * sin + y * cos], -2)
    pairs = torch.cat([turned, pairs[..., angles:]], -1)
    return (pairs if halves else pairs.mT).flatten(-2)


def _outer(v: Tensor, k: Tensor, columns: Tensor) -> Tensor:
    """Σ_r v_r k_rᵀ, (batch, heads, head_dim, state)."""
    return torch.einsum("bhp,hrp,brhn->bhpn", v, columns.expand(-1, -1, v.shape[-1]), k)


def _angles(turn: Tensor, before: Tensor, real: Tensor, begins: Tensor) -> Tensor:
    """θ at every position: the turns since the sequence began, or since before, added up in float64."""
    turn = torch.where(real[..., None, None], turn, 0).double()
    total = turn.cumsum(1)
    place = torch.arange(turn.shape[1], device=turn.device)
    begin = torch.where(begins, place, -1).cummax(1).values[..., None, None]  # of the position's sequence; −1: before
    until = (total - turn).gather(1, begin.clamp(min=0).expand(turn.shape))
    return _reduced(total - torch.where(begin < 0, -before.double()[:, None], until)).to(before.dtype)


def _reduced(theta: Tensor) -> Tensor:
    """θ without whole turns, in [−π, π]."""
    return theta - 2 * math.pi * torch.round(theta / (2 * math.pi)).detach()


def _at(u: Tensor, last: Tensor, before: Tensor) -> Tensor:
    """Each row of u (batch, time, …) at its last position, or what was before where it has none."""
    index = last.clamp(min=0).view(-1, *(1,) * (u.ndim - 1)).expand(-1, 1, *u.shape[2:])
    return torch.where((last < 0).view(-1, *(1,) * (u.ndim - 2)), before, u.gather(1, index)[:, 0])
