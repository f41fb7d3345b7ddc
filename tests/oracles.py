"""The plain algorithms that the operations are held to: one Python loop over time each, in the precision of the inputs.

In float64 they are the truth; in the precision under test they say what that precision costs the plain algorithm.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu


def linear_scan(
    a: Tensor,
    b: Tensor,
    initial_state: Tensor,
    reset: Tensor | None = None,
    lengths: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    rows, finals = [], []
    for i in range(b.shape[0]):
        end = b.shape[1] if lengths is None else int(lengths[i])
        h, states = initial_state[i], [torch.zeros_like(initial_state[i])] * b.shape[1]
        for t in reversed(range(end)) if reverse else range(end):
            at = t + 1 if reverse else t
            if reset is not None and at < end and bool(reset[i, at]):
                h = torch.zeros_like(h)
            h = a.expand(b.shape)[i, t] * h + b[i, t]
            states[t] = h
        rows.append(torch.stack(states) if states else b[i])
        finals.append(h)
    return torch.stack(rows), torch.stack(finals)


def diagonal_ssm(
    u: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    initial_state: Tensor,
    reset: Tensor | None = None,
    lengths: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    (batch, time, dim), modes = u.shape, A.shape[1]
    b = (u[..., None] * B).reshape(batch, time, dim * modes)
    states, final = linear_scan(A.reshape(-1), b, initial_state.reshape(batch, -1), reset, lengths)
    y = (states.reshape(batch, time, dim, modes) * C).sum(-1)
    inside = torch.ones(batch, time) if lengths is None else (torch.arange(time) < lengths[:, None])
    y = (2 * y.real if y.is_complex() else y) + D * u * inside[..., None]
    return y, final.reshape(batch, dim, modes)


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor,
    delta_bias: Tensor,
    initial_state: Tensor,
    delta_softplus: bool = False,
    **ends: Tensor,
) -> tuple[Tensor, Tensor]:
    (batch, time, dim), rows, finals = u.shape, [], []

    def weights(x: Tensor, i: int, t: int) -> Tensor:
        return x if x.ndim == 2 else x[i, t].repeat_interleave(dim // x.shape[2], 0)

    for i in range(batch):
        h, ys = initial_state[i], [torch.zeros_like(u[i, 0])] * time if time else []
        for t, begins in _path(i, time, **ends):
            h = torch.zeros_like(h) if begins else h
            dt = delta[i, t] + delta_bias
            dt = torch.where(dt > 20, dt, torch.log1p(torch.exp(dt.clamp(max=20)))) if delta_softplus else dt
            h = torch.exp(dt[:, None] * A) * h + (dt * u[i, t])[:, None] * weights(B, i, t)
            y = (weights(C, i, t) * h).sum(1)
            y = (2 * y.real if y.is_complex() else y) + D * u[i, t]
            ys[t] = y * silu(z[i, t])
        rows.append(torch.stack(ys) if ys else u[i])
        finals.append(h)
    return torch.stack(rows), torch.stack(finals)


def short_conv(
    x: Tensor, weight: Tensor, bias: Tensor, initial_state: Tensor, activation: str | None = None, **ends: Tensor
) -> tuple[Tensor, Tensor]:
    (batch, time, _), taps, rows, finals = x.shape, weight.shape[1] - 1, [], []
    for i in range(batch):
        seen, ys = list(initial_state[i].unbind(1)), [torch.zeros_like(bias)] * time
        for t, begins in _path(i, time, **ends):
            seen = [torch.zeros_like(bias)] * taps if begins else seen
            seen = [*seen, x[i, t]]
            y = bias
            for tap, value in zip(weight.unbind(1), seen, strict=True):
                y = y + tap * value
            ys[t] = silu(y) if activation == "silu" else y
            seen = seen[1:]
        rows.append(torch.stack(ys) if ys else x[i])
        finals.append(torch.stack(seen, 1) if taps else initial_state[i])
    return torch.stack(rows), torch.stack(finals)


def _path(row: int, time: int, **ends: Tensor) -> Iterator[tuple[int, bool]]:
    """The positions of a row that are no padding, and whether a sequence begins there."""
    if "seq_idx" in ends:
        before = None
        for t, now in enumerate(ends["seq_idx"][row].tolist()):
            if now >= 0:
                yield t, before is not None and now != before
                before = now
        return
    for t in range(int(ends["lengths"][row]) if "lengths" in ends else time):
        yield t, "reset" in ends and bool(ends["reset"][row, t])


def wkv(
    k: Tensor,
    v: Tensor,
    w: Tensor,
    u: Tensor,
    initial_state: Tensor,
    reset: Tensor | None = None,
    lengths: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    # As published: numerator and denominator, both divided by the exponential of the largest exponent.
    (mean, exponent), ys = initial_state.unbind(1), []
    state = (mean, torch.ones_like(mean), exponent)
    for t in range(v.shape[1]):
        if reset is not None:
            fresh = (reset[:, t] & (lengths is None or t < lengths))[:, None]
            state = tuple(torch.where(fresh, x, s) for x, s in zip((0.0, 0.0, -1e30), state, strict=True))
        numerator, denominator, exponent = state
        top = torch.maximum(exponent, k[:, t] + u)
        old, new = torch.exp(exponent - top), torch.exp(k[:, t] + u - top)
        y = (old * numerator + new * v[:, t]) / (old * denominator + new)
        top = torch.maximum(exponent + w, k[:, t])
        old, new = torch.exp(exponent + w - top), torch.exp(k[:, t] - top)
        after = (old * numerator + new * v[:, t], old * denominator + new, top)
        inside = torch.ones(len(v), 1, dtype=torch.bool) if lengths is None else (t < lengths)[:, None]
        state = tuple(torch.where(inside, new, old) for new, old in zip(after, state, strict=True))
        ys.append(torch.where(inside, y, 0))
    numerator, denominator, exponent = state
    final = torch.stack([numerator / denominator, exponent + denominator.log()], 1)
    return (torch.stack(ys, 1) if ys else 0 * v + 0 * k * (w + u)), final


def cauchy(v: Tensor, omega: Tensor, w: Tensor) -> Tensor:
    sums = torch.zeros(*v.shape[:2], len(omega), dtype=v.dtype)
    for n in range(w.shape[1]):
        for weight, pole in ((v[..., n], w[:, n]), (v[..., n].conj(), w[:, n].conj())):
            sums = sums + weight[..., None] / (1j * omega - pole[:, None])[:, None]
    return sums


def vandermonde(a: Tensor, w: Tensor, length: int) -> Tensor:
    power, k = torch.ones_like(a), []
    for _ in range(length):
        k.append((w * power).sum(1))
        power = power * a
    kernel = torch.stack(k, 1) if k else (a * w)[:, :0].real
    return 2 * kernel.real if kernel.is_complex() else kernel


def gated_linear(x: Tensor, weight: Tensor, bias: Tensor, gelu: bool = False) -> Tensor:
    if gelu:
        x = x * 0.5 * torch.special.erfc(-x / math.sqrt(2))
    z = bias.expand(*x.shape[:-1], -1)
    for k in range(x.shape[-1]):
        z = z + x[..., k : k + 1] * weight[:, k]
    value, gate = z.chunk(2, -1)
    return value / (1 + torch.exp(-gate))


def dense_step(x: Tensor, u: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> tuple[Tensor, Tensor]:
    states, ys = [], []
    for row in range(len(x)):
        for h, (c, d) in enumerate(zip(C, D, strict=True)):
            matrix, drive = (A[0], B[0]) if len(A) == 1 else (A[h], B[h])
            states.append((matrix * x[row, h]).sum(1) + drive * u[row, h])
            ys.append((c * states[-1]).sum() + d * u[row, h])
    return torch.stack(ys).view(u.shape), torch.stack(states).view(x.shape)


def hodlr_step(
    x: Tensor, u: Tensor, near: Tensor, gather: Tensor, spread: Tensor, B: Tensor, C: Tensor, D: Tensor
) -> tuple[Tensor, Tensor]:
    """The dense matrix block by block: leaves p and q meet at the level at which their numbers begin to differ."""
    leaves, _, columns = gather.shape
    levels = leaves.bit_length() - 1
    rank = columns // levels
    rows = []
    for q in range(leaves):
        row = []
        for p in range(leaves):
            level = levels - (p ^ q).bit_length()
            own = slice(level * rank, (level + 1) * rank)
            row.append(near[q].mT if p == q else _product(spread[q, own].mT, gather[p, :, own].mT))
        rows.append(torch.cat(row, 1))
    return dense_step(x, u, torch.cat(rows)[None], B[None], C, D)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a b, one term after the other."""
    c = a.new_zeros(a.shape[0], b.shape[1])
    for k in range(a.shape[1]):
        c = c + a[:, k, None] * b[k]
    return c


class _Linear(torch.autograd.Function):
    """x W' with gradients that are plain sums too: autograd's sum over an expanded axis is a better algorithm."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight.T)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor]:
        (x, weight), (grad,) = ctx.saved_tensors, grad_outputs
        return _product(grad, weight), _product(grad.T, x)


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    y: Any = _Linear.apply(x.flatten(0, -2), weight)
    return y.unflatten(0, x.shape[:-1]) + bias


def gated_norm(
    x: Tensor,
    z: Tensor,
    weight: Tensor,
    group_size: int | None = None,
    norm_before_gate: bool = False,
    eps: float = 1e-5,
) -> Tensor:
    gate, size = z / (1 + torch.exp(-z)), group_size or x.shape[-1]
    v, ys = x if norm_before_gate else x * gate, []
    for group in v.split(size, -1):
        squares = torch.zeros_like(group[..., 0])
        for k in range(size):
            squares = squares + group[..., k] * group[..., k]
        ys.append(group / torch.sqrt(squares / size + eps)[..., None])
    y = torch.cat(ys, -1) * weight
    return y * gate if norm_before_gate else y


def long_conv(u: Tensor, k: Tensor) -> Tensor:
    y = 0 * u + 0 * k.sum()
    for lag in range(min(u.shape[1], k.shape[1])):
        y = y + torch.nn.functional.pad(u[:, : u.shape[1] - lag] * k[:, lag], (0, 0, lag, 0))
    return y


def _real(x: Tensor) -> Tensor:
    """A state as real numbers: all real parts, then all imaginary parts."""
    return torch.cat([x.real, x.imag], -1)


def _row(c: Tensor) -> Tensor:
    """The real row whose product with `_real` of x is 2 Re Σ c x."""
    return 2 * torch.cat([c.real, -c.imag], -1)


def _dplr(A: Tensor, Q: Tensor, S: Tensor) -> Tensor:
    """I + diag(A) − Q S as a matrix of real numbers."""
    a = 1 + A
    diagonal = torch.cat(
        [
            torch.cat([torch.diag_embed(a.real), torch.diag_embed(-a.imag)], 2),
            torch.cat([torch.diag_embed(a.imag), torch.diag_embed(a.real)], 2),
        ],
        1,
    )
    return diagonal - _real(Q).mT @ _row(S)


def krylov(A: Tensor, Q: Tensor, S: Tensor, v: Tensor, count: int, reverse: bool = False) -> Tensor:
    modes, matrix, x, rows = A.shape[1], _dplr(A, Q, S), _row(v), []
    for _ in range(count):
        rows.append(torch.complex(x[..., :modes], -x[..., modes:]) / 2)
        x = x @ matrix
    return torch.stack(rows[::-1] if reverse else rows, 2) if rows else (v * A[:, None])[:, :, None][:, :, :0]


def block_tables(A: Tensor, Q: Tensor, S: Tensor, B: Tensor, C: Tensor, span: int) -> tuple[Tensor, ...]:
    matrix, x, c = _dplr(A, Q, S), _real(B)[:, :, None], _row(C)[:, None]
    powers = [torch.eye(2 * A.shape[1], dtype=matrix.dtype).expand_as(matrix)]
    for _ in range(span):
        powers.append(powers[-1] @ matrix)

    def interleaved(table: Tensor) -> Tensor:
        return table.unflatten(-1, (2, -1)).mT.flatten(-2)

    enter = torch.cat([(power @ x).mT for power in powers[-2::-1]], 1)
    leave = torch.cat([c @ power for power in powers[1:]], 1)
    kernel = torch.cat([c @ power @ x for power in powers[:-1]], 1)
    transition = interleaved(interleaved(powers[-1]).mT).mT
    return interleaved(enter), interleaved(leave), kernel[..., 0], transition


def block_scan(
    u: Tensor,
    transition: Tensor,
    enter: Tensor,
    leave: Tensor,
    kernel: Tensor,
    initial_state: Tensor,
    fresh: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    (*_, blocks, span), x = u.shape, initial_state
    ys, starts = [], []
    for k in range(blocks):
        if fresh is not None:
            x = torch.where(fresh[:, k, None], 0, x)
        starts.append(x)
        for j in range(span):
            y = (leave[:, None, j] * x).sum(-1)
            for i in range(j + 1):
                y = y + kernel[:, None, j - i] * u[:, :, k, i]
            ys.append(y)
        x = torch.einsum("dij,dbj->dbi", transition, x)
        for i in range(span):
            x = x + u[:, :, k, i, None] * enter[:, None, i]
    y = torch.stack(ys, 2).unflatten(2, (blocks, span)) if ys else u * kernel.sum() * leave.sum() * enter.sum()
    before = torch.stack(starts, 2) if starts else x[:, :, None][:, :, :0]
    return y, before, x


def ssd(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    dt_bias: Tensor,
    initial_state: Tensor,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, math.inf),
    reset: Tensor | None = None,
    lengths: Tensor | None = None,
    seq_idx: Tensor | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    (batch, time, heads, _), groups = x.shape, B.shape[2]
    rows, finals = [], []
    for i in range(batch):
        h, last, ys = initial_state[i], None, []
        for t in range(time):
            if (lengths is not None and t >= lengths[i]) or (seq_idx is not None and seq_idx[i, t] < 0):
                ys.append(torch.zeros_like(x[i, t]))
                continue
            index = None if seq_idx is None else int(seq_idx[i, t])
            if (reset is not None and bool(reset[i, t])) or (last is not None and index != last):
                h = torch.zeros_like(h)
            last = index
            step = dt[i, t] + dt_bias
            step = torch.log1p(torch.exp(step)) if dt_softplus else step
            step = step.clamp(*dt_limit)
            b, c = (u[i, t].repeat_interleave(heads // groups, 0) for u in (B, C))
            h = torch.exp(step * A)[:, None, None] * h + (step[:, None] * x[i, t])[..., None] * b[:, None]
            ys.append((h * c[:, None]).sum(-1) + D.reshape(heads, -1) * x[i, t])
        rows.append(torch.stack(ys) if ys else x[i])
        finals.append(h)
    return torch.stack(rows), torch.stack(finals)
