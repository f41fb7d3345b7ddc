"""A bank of diagonal plus low rank systems over whole sequences, a block of T positions at a time.

Within a block everything is linear in the state x before it and in its inputs, by tables that are short powers:

    y_j = C Āʲ⁺¹ x + Σ_{i≤j} k_{j−i} u_i,    k_l = C Āˡ B (+ D at l = 0),
    x'  = Āᵀ x + Σ_i Ā^{T−1−i} B u_i,        Āᵀ = diag(aᵀ) − U V.

So the outputs are matrix products, one per channel, and only x' is a recurrence, over blocks, in float64. A position
costs about 4N + T multiply-adds, the memory is that of a state for every block, and no kernel is as long as the
sequence. A sequence that begins inside a row (``reset``) is moved to the beginning of a block.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F

from longwave.layers.base import complex_dtype, real_dtype
from longwave.math.dplr import (
    DiscreteDPLR,
    PowerTables,
    as_complex,
    as_functional,
    as_real,
    combined,
    nth_power,
    paired,
    power_tables,
    times_power,
)
from longwave.shapes import Bool, Complex, Float, Int, Tensor

SPAN = 64  # T at most


class Layout(NamedTuple):
    """Where a row's positions stand among its blocks."""

    slot: Int[Tensor, "batch time"]  # the place of position t; every new sequence begins a block
    fresh: Bool[Tensor, "batch blocks"] | None  # blocks that begin with the zero state; None: none does
    end: Int[Tensor, " batch"]  # the place after the last valid position
    blocks: int


def dplr_scan(
    system: DiscreteDPLR,
    C: Complex[Tensor, "dim modes"],
    D: Float[Tensor, " dim"],
    u: Float[Tensor, "batch time dim"],
    state: Complex[Tensor, "batch dim modes"] | None,
    lengths: Int[Tensor, " batch"] | None,
    reset: Bool[Tensor, "batch time"] | None,
) -> tuple[Float[Tensor, "batch time dim"], Complex[Tensor, "batch dim modes"]]:
    """Run the systems over u, from a state to (y, the state at each row's end).

    x[t] = Ā x[t−1] + B u[t],  y[t] = 2 Re(C x[t]) + D u[t].

    Args:
        system: Ā and B, one of each conjugate pair of modes.
        C: output weights.
        D: input to output.
        u: inputs.
        state: the state before them; None is zero.
        lengths: where right-padded rows end.
        reset: where packed sequences begin.

    Returns:
        y in the real, the final state in the complex precision of u, float32 at least.

    Numerics: tables and block states in float64; the tables are rounded once to that of y for the products.
    """
    batch, time, dim = u.shape
    dtype, u = complex_dtype(u.dtype), u.to(real_dtype(u.dtype))
    if state is None:
        state = C.new_zeros(batch, *C.shape, dtype=dtype)
    if 0 in u.shape:
        return u, state.clone()
    span = min(SPAN, 1 << (time - 1).bit_length())
    tables = power_tables(system, C, span)
    layout = _layout(batch, time, span, lengths, reset, u.device)
    rows = _into_blocks(u, layout, span)
    starts = _block_states(tables, rows, state.to(tables.AB.dtype).transpose(0, 1), layout.fresh)
    y = rows.flatten(1, 2) @ _toeplitz(tables, C, D).to(u.dtype).mT
    read_out = as_functional(times_power(tables, tables.CA, 1)).to(u.dtype)
    y = torch.baddbmm(y, as_real(starts).flatten(1, 2).to(u.dtype), read_out.mT)
    y = y.unflatten(1, (batch, -1)).flatten(2).permute(1, 2, 0)
    y = y[:, :time] if reset is None else y.gather(1, layout.slot[..., None].expand(-1, -1, dim))
    return y, _state_at(layout.end, tables, rows, starts, state).to(dtype)


def _layout(
    batch: int, time: int, span: int, lengths: Tensor | None, reset: Tensor | None, device: torch.device
) -> Layout:
    """The blocks: whole rows in order, but a reset leaves the rest of its block empty."""
    t = torch.arange(time, device=device)
    slot, fresh, blocks = t.expand(batch, time), None, -(-time // span)
    if reset is not None:
        begin = torch.where(reset, t, 0).cummax(1).values  # of the sequence that position t belongs to
        left = (F.pad(begin[:, :-1], (1, 0)) - t) % span  # in the block, were t the first place after a sequence
        slot = t + torch.where(reset, left, 0).cumsum(1)
        blocks = int(slot.max()) // span + 1
        fresh = slot.new_zeros(batch, blocks).scatter_add(1, slot // span, reset.long()) > 0
    last = torch.full((batch,), time, device=device) if lengths is None else lengths.long()
    end = slot.gather(1, (last - 1).clamp(min=0)[:, None])[:, 0] + 1
    return Layout(slot, fresh, torch.where(last > 0, end, 0), blocks)


def _into_blocks(u: Tensor, layout: Layout, span: int) -> Float[Tensor, "dim batch blocks span"]:
    """Every position at its place, zero at places that have none."""
    batch, time, dim = u.shape
    places = layout.blocks * span
    if layout.fresh is None:
        padded = F.pad(u, (0, 0, 0, places - time))
    else:
        padded = u.new_zeros(batch, places, dim).scatter(1, layout.slot[..., None].expand(-1, -1, dim), u)
    return padded.permute(2, 0, 1).unflatten(-1, (layout.blocks, span)).contiguous()


def _block_states(
    tables: PowerTables, rows: Tensor, x: Complex[Tensor, "dim batch modes"], fresh: Tensor | None
) -> Complex[Tensor, "dim batch blocks modes"]:
    """The state before each block."""
    span = rows.shape[-1]
    driven = rows.flatten(1, 2) @ as_real(tables.AB.flip(1)).to(rows.dtype)
    driven = driven.double().unflatten(1, rows.shape[1:3])
    a, U, V = nth_power(tables, span)
    U, V = as_real(U), as_functional(V).mT
    starts = []
    for block, Bu in enumerate(driven.unbind(2)):
        x = x if fresh is None else torch.where(fresh[:, block, None], 0, x)
        starts.append(x)
        x = a[:, None] * x + as_complex(torch.baddbmm(Bu, as_real(x) @ V, U, alpha=-1))
    return torch.stack(starts, 2)


def _state_at(
    end: Tensor, tables: PowerTables, rows: Tensor, starts: Tensor, initial: Tensor
) -> Complex[Tensor, "batch dim modes"]:
    """The state after the first r positions of the block in which each row ends:

    Āʳ x + Σ_{i<r} Āⁱ B u_{r−1−i},   Āʳ x = aʳ x − Σ_{i<r} aⁱ Q (S Ā^{r−1−i} x).
    """
    dim, batch, _, span = rows.shape
    block = ((end - 1) // span).clamp(min=0)
    r = end - block * span
    row = torch.arange(batch, device=end.device)
    x, u = starts[:, row, block], rows[:, row, block].to(tables.AB.real.dtype)
    fed_back = (as_real(x) @ as_functional(tables.SA).mT).unflatten(-1, (span, -1))
    back = r[:, None] - 1 - torch.arange(span, device=end.device)
    inside, back = back >= 0, back.clamp(min=0).expand(dim, batch, span)
    u = torch.where(inside, u.gather(2, back), 0)
    fed_back = fed_back.gather(2, back[..., None].expand_as(fed_back)) * inside[..., None]
    after = tables.powers[:, r] * x + combined(u, tables.AB)
    after = after - combined(fed_back.flatten(-2), tables.aQ)
    return torch.where(end[:, None, None] > 0, after.transpose(0, 1), initial)


def _toeplitz(tables: PowerTables, C: Tensor, D: Tensor) -> Float[Tensor, "dim span span"]:
    """Row j has k_{j−i} at i ≤ j: from a block's inputs to its outputs."""
    k = paired(C.to(tables.AB.dtype)[:, None], tables.AB)[:, 0]
    k = torch.cat([k[:, :1] + D.to(k.dtype)[:, None], k[:, 1:]], 1)
    span = k.shape[1]
    return F.pad(k, (span - 1, 0)).unfold(1, span, 1).flip(2)
