"""A bank of diagonal plus low rank systems over whole sequences, a block of T positions at a time.

Within a block everything is linear in the state x before it and in its inputs, by tables that are short powers:

    y_j = C Āʲ⁺¹ x + Σ_{i≤j} k_{j−i} u_i,    k_l = C Āˡ B (+ D at l = 0),
    x'  = Āᵀ x + Σ_i Ā^{T−1−i} B u_i,        Āᵀ = diag(aᵀ) − U V.

So the outputs are matrix products, one per channel, and only x' is a recurrence, over blocks, in float64.
`longwave.ops.block_tables` makes the tables, `longwave.ops.block_scan` runs them. The memory is that of a state for
every block, and no kernel is as long as the sequence. A sequence that begins inside a row (``reset``) is moved to the
beginning of a block.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F

from longwave.layers.base import complex_dtype, real_dtype
from longwave.layers.dplr_tables import power_tables
from longwave.math.dplr import DiscreteDPLR, as_complex, as_real
from longwave.ops import block_scan, block_tables
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
    *,
    with_state: bool = True,
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
        with_state: whether the state after them is wanted; without, ``state`` is returned in its place.

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
    A, Q, S, B = system
    enter, leave, kernel, transition = block_tables(A, Q.mT, S, B, C, span, dtype=u.dtype)
    layout = _layout(batch, time, span, lengths, reset, u.device)
    rows = _into_blocks(u, layout, span)
    D = F.pad(D.to(kernel)[:, None], (0, span - 1))  # at lag 0
    before = as_real(state).transpose(0, 1)
    done = block_scan(rows, transition, enter, leave, kernel + D, before, fresh=layout.fresh)
    y = done.y.flatten(2).permute(1, 2, 0)
    y = y[:, :time] if reset is None else y.gather(1, layout.slot[..., None].expand(-1, -1, dim))
    if not with_state:
        return y, state
    if lengths is None and reset is None and time % span == 0:
        return y, as_complex(done.final_state.transpose(0, 1).contiguous())
    return y, _state_at(layout.end, system, rows, done.starts, state).to(dtype)


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
    return padded.permute(2, 0, 1).unflatten(-1, (layout.blocks, span))


def _state_at(
    end: Tensor, system: DiscreteDPLR, rows: Tensor, starts: Tensor, initial: Tensor
) -> Complex[Tensor, "batch dim modes"]:
    """The state after the first r positions of the block in which each row ends:

    Āʳ x + Σ_{i<r} Āⁱ B u_{r−1−i},   Āʳ x = aʳ x − Σ_{i<r} aⁱ Q (S Ā^{r−1−i} x).
    """
    _, batch, _, span = rows.shape
    tables = power_tables(system, span)
    block = ((end - 1) // span).clamp(min=0)
    r = end - block * span
    row = torch.arange(batch, device=end.device)
    x, u = (values[:, row, block].to(tables.AB) for values in (starts, rows))
    # Moved to the end of the tables, where i counts down to 0.
    at = torch.arange(span, device=end.device) - (span - r[:, None])
    fed_back = (x @ tables.SA.mT).unflatten(-1, (-1, span)).movedim(2, 0)
    fed_back = _moved(fed_back, at).movedim(0, 2).flatten(-2)
    after = tables.a[:, None] ** r[:, None] * as_complex(x) + as_complex(
        _moved(u, at) @ tables.AB - fed_back @ tables.aQ
    )
    return torch.where(end[:, None, None] > 0, after.transpose(0, 1), initial)


def _moved(values: Tensor, at: Tensor) -> Tensor:
    """The values at these places of the last axis; zero at places before the first."""
    return torch.where(at >= 0, values.gather(-1, at.clamp(min=0).expand_as(values)), 0)
