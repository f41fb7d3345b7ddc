"""mamba_ssm's state space duality: Mamba-2's scan, alone and with the convolution, norm and projection around it."""

import math
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F

from longwave.compat.causal_conv import causal_conv1d_fn
from longwave.compat.gated_norms import rmsnorm_fn
from longwave.compat.selective_scan import selective_scan_fn
from longwave.errors import ConfigError, ShapeError
from longwave.layers.base import real_dtype, without_autocast
from longwave.layers.projection import project_by
from longwave.ops import SSD, ssd
from longwave.shapes import Float, Int, Tensor

_ALL_STEPS = (0.0, math.inf)
_Scanned = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def mamba_chunk_scan_combined(
    x: Float[Tensor, "batch time heads head_dim"],
    dt: Float[Tensor, "batch time heads"],
    A: Float[Tensor, " heads"],
    B: Float[Tensor, "batch time groups state"],
    C: Float[Tensor, "batch time groups state"],
    chunk_size: int,
    D: Float[Tensor, "..."] | None = None,
    z: Float[Tensor, "batch time heads head_dim"] | None = None,
    dt_bias: Float[Tensor, " heads"] | None = None,
    initial_states: Float[Tensor, "batch heads head_dim state"] | None = None,
    seq_idx: Int[Tensor, "batch time"] | None = None,
    cu_seqlens: Int[Tensor, " ends"] | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, float("inf")),
    return_final_states: bool = False,
    return_varlen_states: bool = False,
    state_dtype: torch.dtype | None = None,
) -> Any:
    """A selective recurrence with one decay a head: `longwave.ops.ssd`, and a gate.

    h[t] = exp(Δ[t] A) h[t−1] + Δ[t] x[t] B[t]ᵀ,  y[t] = (h[t] C[t] + D x[t]) silu(z[t])

    Args:
        x: what enters.
        dt: steps, before `dt_bias`, softplus and the limits, in this order.
        A: decay rates, negative.
        B: how x enters the state; head h has those of group h // (heads // groups).
        C: how the state is read.
        chunk_size: most positions of one masked product; it changes rounding and speed only.
        D: what of x goes past the state, (heads,) or (heads, head_dim).
        z: the gate, before SiLU.
        dt_bias: added to dt.
        initial_states: the state before the first position.
        seq_idx: the sequence that a position belongs to, −1 for padding, whose outputs are zero.
        cu_seqlens: with return_varlen_states: where the sequences of the one row begin, and the end of the last. They
            have nothing of one another then, with seq_idx or without; the first goes on from initial_states.
        dt_softplus: whether Δ is the softplus of the sum.
        dt_limit: smallest and largest Δ.
        return_final_states: whether to return the state after the last position of each row too.
        return_varlen_states: whether to return the states after each sequence of cu_seqlens too.
        state_dtype: of the returned states; None is that of C.

    Returns:
        y in the dtype of x; or a tuple of y, the final states and the states of the sequences, as far as asked for. All
        are differentiable.

    Raises:
        ShapeError: shapes, dtypes or devices do not fit.
        ConfigError: return_varlen_states without cu_seqlens.

    Source: mamba_ssm 2.3.2, ops.triton.ssd_combined.

    Example:
        >>> one = torch.ones(1, 3, 1)
        >>> y = mamba_chunk_scan_combined(
        ...     one[..., None], one, torch.tensor([-0.5]), one[..., None], one[..., None], 64)
        >>> y.flatten()
        tensor([1.0000, 1.6065, 1.9744])
    """
    wide = x if z is None else x.to(real_dtype(x.dtype))  # else y would be rounded before the gate

    def scan(part: slice, state: Tensor | None, marks: Tensor | None) -> SSD:
        tensors = wide[:, part], dt[:, part], A, B[:, part], C[:, part], D, dt_bias, state
        return ssd(*tensors, dt_softplus=dt_softplus, dt_limit=dt_limit, seq_idx=marks, chunk=chunk_size)

    if return_varlen_states:
        parts = _parts(x, cu_seqlens)
        runs = [scan(part, initial_states if i == 0 else None, None) for i, part in enumerate(parts)]
        y, varlen = torch.cat([run.y for run in runs], 1), torch.cat([run.final_state for run in runs])
        final = varlen[-1:]
    else:
        y, final = scan(slice(None), initial_states, seq_idx)
        varlen = None
    y = (y if z is None else y * F.silu(z.to(wide.dtype))).to(x.dtype)
    states = [final] * return_final_states + ([] if varlen is None else [varlen])
    return (y, *(state.to(state_dtype or C.dtype) for state in states)) if states else y


def mamba_split_conv1d_scan_combined(
    zxbcdt: Float[Tensor, "batch time channels"],
    conv1d_weight: Float[Tensor, "convolved width"],
    conv1d_bias: Float[Tensor, " convolved"] | None,
    dt_bias: Float[Tensor, " heads"],
    A: Float[Tensor, " heads"],
    D: Float[Tensor, "..."],
    chunk_size: int,
    initial_states: Float[Tensor, "batch heads head_dim state"] | None = None,
    seq_idx: Int[Tensor, "batch time"] | None = None,
    dt_limit: tuple[float, float] = (0.0, float("inf")),
    return_final_states: bool = False,
    activation: str | None = "silu",
    rmsnorm_weight: Float[Tensor, " dim"] | None = None,
    rmsnorm_eps: float = 1e-6,
    outproj_weight: Float[Tensor, "d_model dim_and_past"] | None = None,
    outproj_bias: Float[Tensor, " d_model"] | None = None,
    headdim: int | None = None,
    ngroups: int = 1,
    norm_before_gate: bool = True,
    state_dtype: torch.dtype | None = None,
) -> Any:
    """A Mamba-2 layer without its first projection: convolution, scan, gated norm and last projection.

    z₀, x₀, z, xBC, dt = zxbcdt,  x, B, C = f(conv1d(xBC)),  y = out([silu(z₀) x₀, norm(scan(x, dt, A, B, C, D), z)])

    Args:
        zxbcdt: what the first projection gives; z₀ and x₀ have the channels that it has beyond the others.
        conv1d_weight, conv1d_bias: the taps of x, B and C.
        dt_bias, A, D, chunk_size, initial_states, seq_idx, dt_limit, return_final_states, state_dtype: as in
            `mamba_chunk_scan_combined`; Δ is a softplus.
        activation: f, "silu", "swish" or None.
        rmsnorm_weight: of the gated norm, over groups of channels; None: y silu(z) without one.
        rmsnorm_eps: its ε.
        outproj_weight, outproj_bias: the last projection; none if None.
        headdim: channels of a head; D has them, where it has two axes.
        ngroups: groups of heads that share B and C.
        norm_before_gate: norm(y) silu(z) in place of norm(y silu(z)).

    Returns:
        y, or y and the final states.

    Raises:
        ShapeError: shapes, dtypes or devices do not fit.
        ConfigError: headdim is missing, or an unknown activation.

    Source: mamba_ssm 2.3.2, ops.triton.ssd_combined.
    """
    heads = len(D)
    headdim = D.shape[1] if D.ndim == 2 else headdim
    if headdim is None:
        raise ConfigError("D has no axis of channels, so headdim must say how many a head has")
    dim, convolved = heads * headdim, conv1d_weight.shape[0]
    past = zxbcdt.shape[-1] - dim - convolved - heads
    if past < 0 or past % 2:
        raise ShapeError(
            f"zxbcdt has {zxbcdt.shape[-1]} channels; expected {dim} of z, {convolved} of x, B and C, {heads} of dt, "
            "and an even number that go past the scan"
        )
    z0, x0, z, xBC, dt = zxbcdt.split([past // 2, past // 2, dim, convolved, heads], -1)
    with without_autocast(zxbcdt.device.type):
        xBC = causal_conv1d_fn(xBC.mT, conv1d_weight, conv1d_bias, seq_idx, activation=activation).mT
        gate = z.unflatten(-1, (heads, headdim)) if rmsnorm_weight is None else None
        y, final = mamba_chunk_scan_combined(
            *_scanned(xBC, dt, A, dim, headdim, ngroups), chunk_size, D, gate, dt_bias, initial_states, seq_idx,
            dt_softplus=True, dt_limit=dt_limit, return_final_states=True, state_dtype=state_dtype,
        )  # fmt: skip
        y = y.flatten(2)
        if rmsnorm_weight is not None:
            y = rmsnorm_fn(y, rmsnorm_weight, None, z, rmsnorm_eps, dim // ngroups, norm_before_gate)
    y = torch.cat([F.silu(z0) * x0, y], -1) if past else y
    y = y if outproj_weight is None else project_by(outproj_weight, outproj_bias, y)
    return (y, final) if return_final_states else y


def mamba_chunk_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    chunk_size: int,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
) -> Tensor:
    """`mamba_chunk_scan_combined` without states, packing and limits."""
    return mamba_chunk_scan_combined(x, dt, A, B, C, chunk_size, D, z, dt_bias, dt_softplus=dt_softplus)


def ssd_selective_scan(
    x: Float[Tensor, "batch time heads head_dim"],
    dt: Float[Tensor, "batch time heads *head_dim"],
    A: Float[Tensor, "..."],
    B: Float[Tensor, "batch time groups state"],
    C: Float[Tensor, "batch time groups state"],
    D: Float[Tensor, "..."] | None = None,
    z: Float[Tensor, "batch time heads head_dim"] | None = None,
    dt_bias: Float[Tensor, "heads *head_dim"] | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, float("inf")),
) -> Float[Tensor, "batch time heads head_dim"]:
    """`mamba_chunk_scan_combined` as a selective scan, with a system for each channel: the definition of the other.

    Args:
        x, B, C, z, dt_softplus, dt_limit: as there.
        dt, dt_bias, D: as there, or with an axis of channels.
        A: (heads,), or (heads · head_dim, state).

    Returns:
        y.
    """
    headdim, modes = x.shape[3], B.shape[3]

    def channels(v: Tensor, axes: int) -> Tensor:
        """A number for each channel, of those for heads or for channels."""
        return (v if v.ndim == axes + 2 else v[..., None].expand(*v.shape, headdim)).flatten(axes)

    dt, bias = channels(dt, 2), None if dt_bias is None else channels(dt_bias, 0)
    if tuple(dt_limit) != _ALL_STEPS:
        dt = dt if bias is None else dt + bias
        dt, bias = (F.softplus(dt) if dt_softplus else dt).clamp(*dt_limit), None
        dt_softplus = False
    y = selective_scan_fn(
        x.flatten(2).mT,
        dt.mT,
        channels(A, 0)[:, None].expand(-1, modes) if A.ndim == 1 else A,
        B.permute(0, 2, 3, 1),
        C.permute(0, 2, 3, 1),
        None if D is None else channels(D, 0),
        None if z is None else z.flatten(2).mT,
        bias,
        dt_softplus,
    )
    return y.mT.unflatten(2, (-1, headdim))


def ssd_chunk_scan_combined_ref(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    chunk_size: int,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
) -> Tensor:
    """`mamba_chunk_scan` by `ssd_selective_scan`; chunk_size means nothing."""
    return ssd_selective_scan(x, dt, A, B, C, D, z, dt_bias, dt_softplus)


def mamba_conv1d_scan_ref(
    xBC: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    dt: Tensor,
    A: Tensor,
    chunk_size: int,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, float("inf")),
    activation: str | None = "silu",
    headdim: int | None = None,
    ngroups: int = 1,
) -> Tensor:
    """Convolution and `ssd_selective_scan`; y silu(z) has z (batch, time, dim)."""
    heads = dt.shape[2]
    headdim = z.shape[-1] // heads if z is not None else D.shape[1] if D is not None and D.ndim == 2 else headdim
    if headdim is None:
        raise ConfigError("neither z nor D has an axis of channels, so headdim must say how many a head has")
    xBC = causal_conv1d_fn(xBC.mT, conv1d_weight, conv1d_bias, activation=activation).mT
    parts = _scanned(xBC, dt, A, heads * headdim, headdim, ngroups)
    gate = None if z is None else z.unflatten(-1, (heads, headdim))
    return ssd_selective_scan(*parts, D, gate, dt_bias, dt_softplus, dt_limit).flatten(2)


def mamba_split_conv1d_scan_ref(
    zxbcdt: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    chunk_size: int,
    dt_limit: tuple[float, float] = (0.0, float("inf")),
    activation: str | None = "silu",
    rmsnorm_weight: Tensor | None = None,
    rmsnorm_eps: float = 1e-6,
    outproj_weight: Tensor | None = None,
    outproj_bias: Tensor | None = None,
    headdim: int | None = None,
    ngroups: int = 1,
    norm_before_gate: bool = True,
) -> Tensor:
    """`mamba_split_conv1d_scan_combined` by `mamba_conv1d_scan_ref`, without channels that go past the scan."""
    heads, convolved = len(D), conv1d_weight.shape[0]
    z, xBC, dt = zxbcdt.split([zxbcdt.shape[-1] - convolved - heads, convolved, heads], -1)
    gate = z if rmsnorm_weight is None else None
    y = mamba_conv1d_scan_ref(
        xBC, conv1d_weight, conv1d_bias, dt, A, chunk_size, D, gate, dt_bias, True, dt_limit, activation,
        z.shape[-1] // heads, ngroups,
    )  # fmt: skip
    if rmsnorm_weight is not None:
        y = rmsnorm_fn(y, rmsnorm_weight, None, z, rmsnorm_eps, z.shape[-1] // ngroups, norm_before_gate)
    return y if outproj_weight is None else F.linear(y, outproj_weight, outproj_bias)


def ssd_minimal_discrete(
    X: Float[Tensor, "batch time heads head_dim"],
    A: Float[Tensor, "batch time heads"],
    B: Float[Tensor, "batch time heads state"],
    C: Float[Tensor, "batch time heads state"],
    block_len: int,
    initial_states: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The listing of the Mamba-2 paper: a system that is discrete already, with logarithmic decays A.

    Args:
        X: what enters, times Δ.
        A: logarithmic decays, Δ A.
        B, C: for each head.
        block_len: as chunk_size of `mamba_chunk_scan_combined`.
        initial_states: (batch, 1, heads, head_dim, state) or without the second axis.

    Returns:
        Y, and the final states.

    Source: Dao & Gu, "Transformers are SSMs" (2024), arXiv:2405.21060, listing 1.
    """
    state = None if initial_states is None else initial_states.reshape(len(X), *X.shape[2:], B.shape[3])
    return ssd(X, None, A, B, C, initial_state=state, chunk=block_len)


def segsum(x: Float[Tensor, "*batch time"]) -> Float[Tensor, "*batch time time"]:
    """Sums over segments: x[j + 1] + … + x[i] at (i, j), and −∞ above the diagonal.

    Source: as `ssd_minimal_discrete`.

    Example:
        >>> segsum(torch.tensor([1.0, 2.0, 3.0]))
        tensor([[0., -inf, -inf],
                [2., 0., -inf],
                [5., 3., 0.]])
    """
    time = x.shape[-1]
    sums = x[..., None].expand(*x.shape, time).tril(-1).cumsum(-2)
    above = torch.ones(time, time, dtype=torch.bool, device=x.device).triu(1)
    return sums.masked_fill(above, -math.inf)


def _parts(x: Tensor, cu_seqlens: Tensor | None) -> list[slice]:
    """Where the sequences of the one row of x stand."""
    if cu_seqlens is None:
        raise ConfigError("return_varlen_states=True needs cu_seqlens")
    places = cu_seqlens.tolist()
    if len(x) != 1 or not places or places[0] != 0 or places[-1] != x.shape[1] or places != sorted(places):
        raise ShapeError(
            f"cu_seqlens must rise from 0 to the {x.shape[1]} positions of one row, got {places} for {len(x)} rows"
        )
    return [slice(begin, end) for begin, end in pairwise(places)]


def _scanned(xBC: Tensor, dt: Tensor, A: Tensor, dim: int, headdim: int, ngroups: int) -> _Scanned:
    """x by heads, dt, A, and B and C by groups."""
    of_groups = (xBC.shape[-1] - dim) // 2
    x, B, C = xBC.split([dim, of_groups, of_groups], -1)
    groups = (ngroups, -1)
    return x.unflatten(-1, (-1, headdim)), dt, A, B.unflatten(-1, groups), C.unflatten(-1, groups)
