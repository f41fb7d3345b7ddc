"""mamba_ssm's selective scan, and all of a Mamba layer between its first and its last projection."""

from typing import Any

import torch
import torch.nn.functional as F

from longwave.layers.base import real_dtype, without_autocast
from longwave.layers.projection import project_by
from longwave.ops import selective_scan, short_conv
from longwave.shapes import Float, Inexact, Tensor


def selective_scan_fn(
    u: Float[Tensor, "batch dim time"],
    delta: Float[Tensor, "batch dim time"],
    A: Inexact[Tensor, "dim modes"],
    B: Inexact[Tensor, "..."],
    C: Inexact[Tensor, "..."],
    D: Float[Tensor, " dim"] | None = None,
    z: Float[Tensor, "batch dim time"] | None = None,
    delta_bias: Float[Tensor, " dim"] | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Any:
    """Run one diagonal system per channel whose step and weights change in time: `longwave.ops.selective_scan`.

    h[t] = exp(dt[t] A) ⊙ h[t−1] + dt[t] B[t] u[t],  y[t] = (C[t] · h[t] + D u[t]) silu(z[t])

    Args:
        u: input, of any strides.
        delta: dt before bias and softplus.
        A: eigenvalues, real or complex.
        B: input weights: (dim, modes), (batch, modes, time) or (batch, groups, modes, time); where A is complex and
            they change in time, 2 time numbers in the last axis, real and imaginary parts in turn.
        C: output weights, as B.
        D: skip weights.
        z: the gate, before SiLU.
        delta_bias: added to delta.
        delta_softplus: whether dt is the softplus of the sum.
        return_last_state: whether to return the state after the last position too.

    Returns:
        y in the dtype of u; or y and the state (batch, dim, modes), which has gradients too.

    Raises:
        ShapeError: shapes, dtypes or devices do not fit.

    Source: mamba_ssm 2.3.2, ops.selective_scan_interface.

    Example:
        >>> one, half = torch.ones(1, 1), torch.tensor([[0.5]]).log()
        >>> selective_scan_fn(torch.ones(1, 1, 3), torch.ones(1, 1, 3), half, one, one)
        tensor([[[1.0000, 1.5000, 1.7500]]])
    """
    return _scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state, "auto")


def selective_scan_ref(
    u: Float[Tensor, "batch dim time"],
    delta: Float[Tensor, "batch dim time"],
    A: Inexact[Tensor, "dim modes"],
    B: Inexact[Tensor, "..."],
    C: Inexact[Tensor, "..."],
    D: Float[Tensor, " dim"] | None = None,
    z: Float[Tensor, "batch dim time"] | None = None,
    delta_bias: Float[Tensor, " dim"] | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Any:
    """`selective_scan_fn` in plain PyTorch, a loop over positions."""
    return _scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state, "reference")


def mamba_inner_fn(
    xz: Float[Tensor, "batch channels time"],
    conv1d_weight: Float[Tensor, "dim 1 width"],
    conv1d_bias: Float[Tensor, " dim"] | None,
    x_proj_weight: Float[Tensor, "selected dim"],
    delta_proj_weight: Float[Tensor, "dim rank"],
    out_proj_weight: Float[Tensor, "d_model dim"],
    out_proj_bias: Float[Tensor, " d_model"] | None,
    A: Inexact[Tensor, "dim modes"],
    B: Inexact[Tensor, "..."] | None = None,
    C: Inexact[Tensor, "..."] | None = None,
    D: Float[Tensor, " dim"] | None = None,
    delta_bias: Float[Tensor, " dim"] | None = None,
    B_proj_bias: Float[Tensor, "..."] | None = None,
    C_proj_bias: Float[Tensor, "..."] | None = None,
    delta_softplus: bool = True,
    checkpoint_lvl: int = 1,
    b_rms_weight: Float[Tensor, "..."] | None = None,
    c_rms_weight: Float[Tensor, "..."] | None = None,
    dt_rms_weight: Float[Tensor, "..."] | None = None,
    b_c_dt_rms_eps: float = 1e-6,
) -> Float[Tensor, "batch time d_model"]:
    """A Mamba layer without its first projection: convolution, selection, scan, gate and last projection.

    x, z = xz,  u = silu(conv1d(x)),  (δ, B, C) = x_proj u,  dt = softplus(delta_proj δ + bias),  y = out_proj scan(u)

    Args:
        xz: input and gate.
        conv1d_weight, conv1d_bias: the taps.
        x_proj_weight: rows of δ, then of B and of C, as far as these are not given; two rows for a complex number.
        delta_proj_weight, delta_bias, delta_softplus: from δ to dt.
        out_proj_weight, out_proj_bias: the last projection.
        A, D: as in `selective_scan_fn`.
        B, C: weights in place of those of x_proj, as in `selective_scan_fn`.
        B_proj_bias, C_proj_bias: added to what x_proj gives.
        checkpoint_lvl: changes memory in the original, and nothing here.
        b_rms_weight, c_rms_weight: of a root-mean-square norm of B and of C, over the modes.
        dt_rms_weight: of one of dt before its bias, over the channels.
        b_c_dt_rms_eps: ε of the three.

    Returns:
        y, in the dtype of xz or of autocast.

    Raises:
        ShapeError: shapes, dtypes or devices do not fit.

    Source: mamba_ssm 2.3.2, ops.selective_scan_interface. There the gradient leaves the three norms out, and one with
        an out_proj_bias fails; here both are the derivatives.
    """
    modes = A.shape[1] * (2 if A.is_complex() else 1)
    x, z = xz.mT.chunk(2, -1)
    u = short_conv(x, conv1d_weight[:, 0], conv1d_bias, activation="silu").y
    selected = project_by(x_proj_weight, None, u)
    delta = F.linear(selected[..., : delta_proj_weight.shape[1]], delta_proj_weight)
    if dt_rms_weight is not None:
        delta = F.rms_norm(delta, delta.shape[-1:], dt_rms_weight.to(delta.dtype), b_c_dt_rms_eps)
    if B is None:
        first = delta_proj_weight.shape[1]
        B = _weights(selected[..., first : first + modes], B_proj_bias, b_rms_weight, b_c_dt_rms_eps, A)
    else:
        B = _over_time(B, A)
    if C is None:
        C = _weights(selected[..., -modes:], C_proj_bias, c_rms_weight, b_c_dt_rms_eps, A)
    else:
        C = _over_time(C, A)
    with without_autocast(xz.device.type):
        y = selective_scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus=delta_softplus).y
    return project_by(out_proj_weight, out_proj_bias, y)


def mamba_inner_ref(
    xz: Float[Tensor, "batch channels time"],
    conv1d_weight: Float[Tensor, "dim 1 width"],
    conv1d_bias: Float[Tensor, " dim"] | None,
    x_proj_weight: Float[Tensor, "selected dim"],
    delta_proj_weight: Float[Tensor, "dim rank"],
    out_proj_weight: Float[Tensor, "d_model dim"],
    out_proj_bias: Float[Tensor, " d_model"] | None,
    A: Inexact[Tensor, "dim modes"],
    B: Inexact[Tensor, "..."] | None = None,
    C: Inexact[Tensor, "..."] | None = None,
    D: Float[Tensor, " dim"] | None = None,
    delta_bias: Float[Tensor, " dim"] | None = None,
    B_proj_bias: Float[Tensor, "..."] | None = None,
    C_proj_bias: Float[Tensor, "..."] | None = None,
    delta_softplus: bool = True,
) -> Float[Tensor, "batch time d_model"]:
    """`mamba_inner_fn` without its norms."""
    return mamba_inner_fn(
        xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, out_proj_weight, out_proj_bias,
        A, B, C, D, delta_bias, B_proj_bias, C_proj_bias, delta_softplus,
    )  # fmt: skip


def _scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    return_last_state: bool,
    impl: str,
) -> Any:
    B, C = _over_time(B, A), _over_time(C, A)
    groups = max(x.shape[2] if x.ndim == 4 else 1 for x in (B, C))
    B, C = (x.expand(-1, -1, groups, -1) if x.ndim == 4 else x for x in (B, C))
    z = None if z is None else z.mT
    y, state = selective_scan(u.mT, delta.mT, A, B, C, D, z, delta_bias, delta_softplus=delta_softplus, impl=impl)
    return (y.mT, state) if return_last_state else y.mT


def _over_time(x: Tensor, A: Tensor) -> Tensor:
    """B or C as our operation has them: constant, (dim, modes), or (batch, time, groups, modes)."""
    if x.ndim == 2:
        return x
    x = x[:, None] if x.ndim == 3 else x
    return (_paired(x) if A.is_complex() else x).permute(0, 3, 1, 2)


def _weights(x: Tensor, bias: Tensor | None, rms_weight: Tensor | None, eps: float, A: Tensor) -> Tensor:
    """B or C of what x_proj gives, (batch, time, 1, modes)."""
    x = x if bias is None else x + bias.to(x.dtype)
    x = x if rms_weight is None else F.rms_norm(x, x.shape[-1:], rms_weight.to(x.dtype), eps)
    return (_paired(x) if A.is_complex() else x)[:, :, None]


def _paired(x: Tensor) -> Tensor:
    """Complex numbers, of which the last axis has real and imaginary parts in turn."""
    return torch.view_as_complex(x.to(real_dtype(x.dtype)).unflatten(-1, (-1, 2)).contiguous())
