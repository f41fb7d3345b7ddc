"""mamba_ssm's Mamba-3 scans, of one column and of several: ops.triton.mamba3 and ops.tilelang.mamba3."""

import math
from typing import Any

import torch
import torch.nn.functional as F

from longwave.compat.packing import sequences
from longwave.errors import ConfigError
from longwave.layers.base import real_dtype, without_autocast
from longwave.layers.mamba3_scan import Drive, Mamba3State, trapezoidal_scan
from longwave.shapes import Float, Int, Tensor


def mamba3_siso_combined(
    Q: Float[Tensor, "batch time groups state"],
    K: Float[Tensor, "batch time groups state"],
    V: Float[Tensor, "batch time heads head_dim"],
    ADT: Float[Tensor, "batch heads time"],
    DT: Float[Tensor, "batch heads time"],
    Trap: Float[Tensor, "batch heads time"],
    Q_bias: Float[Tensor, "heads state"],
    K_bias: Float[Tensor, "heads state"],
    Angles: Float[Tensor, "batch time heads angles"],
    D: Float[Tensor, " heads"] | None = None,
    Z: Float[Tensor, "batch time heads head_dim"] | None = None,
    Input_States: tuple[Tensor, Tensor, Tensor, Tensor] | None = None,
    chunk_size: int = 64,
    return_final_states: bool = False,
    cu_seqlens: Int[Tensor, " ends"] | None = None,
) -> Any:
    """Mamba-3's recurrence, one column for each head: `longwave.Mamba3` between its projections.

    S[t] = α S[t−1] + (1 − λ) Δ α v[t−1] k[t−1]ᵀ + λ Δ v[t] k[t]ᵀ,  y[t] = (S[t] q[t] + D v[t]) silu(z[t])

    Args:
        Q, K: queries and keys, normalised; head h has those of group h // (heads // groups).
        V: values.
        ADT: logarithms of α, A Δ.
        DT: Δ.
        Trap: λ is its sigmoid.
        Q_bias, K_bias: added to Q and K, before they turn.
        Angles: they turn by π tanh of it, times Δ; neighbouring coordinates together, the first ones only.
        D: what of v goes past the state.
        Z: the gate, before SiLU.
        Input_States: angles (sequences, heads, angles), S, k and v before the first position.
        chunk_size: most positions of one masked product; it changes rounding and speed only.
        return_final_states: whether to return the four states after the last position too.
        cu_seqlens: where the sequences in the one row begin, and the end of the last; each has states of its own.

    Returns:
        y in the dtype of V; or y, angles, S, k and v. All are differentiable.

    Raises:
        ShapeError: cu_seqlens does not fit.

    Numerics: in float32 at least, where the original rounds its inputs to bfloat16. Angles lie in [−π, π].

    Source: mamba_ssm, ops.triton.mamba3.mamba3_siso_combined; its docstring calls Trap the λ itself.
    """
    wide = real_dtype(V.dtype)
    drive = _drive(Q[:, :, None], K[:, :, None], V, ADT, DT, Trap, Q_bias[:, None], K_bias[:, None], Angles, wide)
    columns = torch.ones(V.shape[2], 1, 1, dtype=wide, device=V.device)
    before = None
    if Input_States is not None:
        angle, S, k, v = (state.to(wide) for state in Input_States)
        before = Mamba3State(angle, S, k[:, None], v)
    y, after = _scan(drive, before, columns, D, False, chunk_size, cu_seqlens)
    y = y[:, :, 0] if Z is None else y[:, :, 0] * F.silu(Z.to(wide))
    y = y.to(V.dtype)
    return (y, after.angle, after.ssm, after.k[:, 0], after.v) if return_final_states else y


def mamba3_mimo(
    Q: Float[Tensor, "batch time rank groups state"],
    K: Float[Tensor, "batch time rank groups state"],
    V: Float[Tensor, "batch time heads head_dim"],
    ADT: Float[Tensor, "batch heads time"],
    DT: Float[Tensor, "batch heads time"],
    Trap: Float[Tensor, "batch heads time"],
    Q_bias: Float[Tensor, "heads rank state"],
    K_bias: Float[Tensor, "heads rank state"],
    MIMO_V: Float[Tensor, "heads rank head_dim"],
    MIMO_Z: Float[Tensor, "heads rank head_dim"] | None,
    MIMO_Out: Float[Tensor, "heads rank head_dim"] | None,
    Angles: Float[Tensor, "batch time heads angles"],
    D: Float[Tensor, " heads"] | None,
    Z: Float[Tensor, "batch time heads head_dim"] | None,
    chunk_size: int,
    rotary_dim_divisor: int,
    dtype: torch.dtype,
    return_state: bool = False,
    cu_seqlens: Int[Tensor, " ends"] | None = None,
    fuse_pregate_headwise_rms_norm: bool = False,
    outproj_norm_weight: Float[Tensor, "..."] | None = None,
    outproj_norm_eps: float = 1e-5,
) -> Any:
    """Mamba-3's recurrence with several columns: `mamba3_siso_combined` with v_r = V ∘ MIMO_V and z_r = Z ∘ MIMO_Z.

    Args:
        Q, K, V, ADT, DT, Trap, Q_bias, K_bias, Angles, D, Z, chunk_size, cu_seqlens: as there, but that a coordinate
            turns with the one half their number beyond.
        MIMO_V, MIMO_Z: what values and gates are multiplied by, for each column.
        MIMO_Out: weights of the columns in their sum; None: they are not added up.
        rotary_dim_divisor: Angles has this share of the coordinates.
        dtype: of y.
        return_state: whether to return the four states after the last position too.
        fuse_pregate_headwise_rms_norm: divide y by its root mean square over each head, before the gate.
        outproj_norm_weight, outproj_norm_eps: weight, (heads, head_dim) in any shape, and ε of that norm.

    Returns:
        y (batch, time, heads, head_dim), with an axis of columns before heads where there is no MIMO_Out; or y, angles,
        S, k and v.

    Raises:
        ShapeError: cu_seqlens does not fit.
        ConfigError: there is a gate without MIMO_Z, a norm without its weight, or another number of angles.

    Source: mamba_ssm, ops.tilelang.mamba3.mamba3_mimo.
    """
    if (Z is not None and MIMO_Z is None) or (fuse_pregate_headwise_rms_norm and outproj_norm_weight is None):
        raise ConfigError("Z needs MIMO_Z, and fuse_pregate_headwise_rms_norm an outproj_norm_weight")
    if Angles.shape[-1] != Q.shape[-1] // rotary_dim_divisor:
        raise ConfigError(
            f"rotary_dim_divisor={rotary_dim_divisor} makes {Q.shape[-1] // rotary_dim_divisor} angles of "
            f"{Q.shape[-1]} coordinates, but Angles has {Angles.shape[-1]}"
        )
    wide = real_dtype(V.dtype)
    drive = _drive(Q, K, V, ADT, DT, Trap, Q_bias, K_bias, Angles, wide)
    y, after = _scan(drive, None, MIMO_V.to(wide), D, True, chunk_size, cu_seqlens)
    if fuse_pregate_headwise_rms_norm and outproj_norm_weight is not None:
        weight = outproj_norm_weight.to(wide).reshape(-1, y.shape[-1])
        y = F.rms_norm(y, y.shape[-1:], eps=outproj_norm_eps) * weight
    if Z is not None and MIMO_Z is not None:
        y = y * F.silu(Z.to(wide)[:, :, None] * MIMO_Z.to(wide).movedim(1, 0))
    y = y if MIMO_Out is None else (y * MIMO_Out.to(wide).movedim(1, 0)).sum(2)
    return (y.to(dtype), *after) if return_state else y.to(dtype)


def _drive(
    Q: Tensor,
    K: Tensor,
    V: Tensor,
    ADT: Tensor,
    DT: Tensor,
    Trap: Tensor,
    Q_bias: Tensor,
    K_bias: Tensor,
    Angles: Tensor,
    wide: torch.dtype,
) -> Drive:
    """What the scan runs on; keys and queries are (batch, time, rank, groups, state)."""

    def biased(x: Tensor, bias: Tensor) -> Tensor:
        return x.to(wide).repeat_interleave(V.shape[2] // x.shape[3], 3) + bias.to(wide).movedim(1, 0)

    dt = DT.to(wide).mT
    turn = math.pi * torch.tanh(Angles.to(wide)) * dt[..., None]
    keys, queries = biased(K, K_bias), biased(Q, Q_bias)
    return Drive(V.to(wide), keys, queries, dt, ADT.to(wide).mT, Trap.to(wide).mT.sigmoid(), turn)


def _scan(
    drive: Drive,
    before: Mamba3State | None,
    columns: Tensor,
    D: Tensor | None,
    halves: bool,
    chunk: int,
    cu_seqlens: Tensor | None,
) -> tuple[Tensor, Mamba3State]:
    """y of each column, and the states after each row, or after each sequence of the one row."""
    v, device = drive.v, drive.v.device
    D = torch.zeros(v.shape[2], dtype=v.dtype, device=device) if D is None else D
    parts = [slice(None)] if cu_seqlens is None else sequences(cu_seqlens, v)
    count = len(v) if cu_seqlens is None else len(parts)
    if before is None:
        shapes = drive.turn.shape[2:], (*v.shape[2:], drive.k.shape[-1]), drive.k.shape[2:], v.shape[2:]
        before = Mamba3State(*(torch.zeros(count, *shape, dtype=v.dtype, device=device) for shape in shapes))
    outputs, states = [v.new_zeros(len(v), 0, columns.shape[1], *v.shape[2:])], []
    with without_autocast(device.type):
        for i, part in enumerate(parts):
            here = Drive(*(x[:, part] for x in drive))
            state = before if cu_seqlens is None else Mamba3State(*(x[i : i + 1] for x in before))
            if not here.v.shape[1]:
                states.append(state)
                continue
            real = torch.ones(here.v.shape[:2], dtype=torch.bool, device=device)
            y, after = trapezoidal_scan(here, state, real, ~real, columns, D, halves, chunk)
            outputs.append(y)
            states.append(after)
    return torch.cat(outputs, 1), Mamba3State(*(torch.cat(tensors) for tensors in zip(*states, strict=True)))
