"""Norms with a gate, of mamba_ssm.ops.triton.layernorm_gated: over groups of channels, before the gate or after it."""

from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import nn

from longwave.errors import ShapeError
from longwave.layers.base import real_dtype
from longwave.ops import gated_norm
from longwave.shapes import Float, Tensor


def rmsnorm_fn(
    x: Float[Tensor, "*sizes dim"],
    weight: Float[Tensor, " dim"],
    bias: Float[Tensor, " dim"] | None,
    z: Float[Tensor, "*sizes dim"] | None = None,
    eps: float = 1e-6,
    group_size: int | None = None,
    norm_before_gate: bool = True,
) -> Float[Tensor, "*sizes dim"]:
    """Divide by the root mean square over groups of channels, with a gate: `longwave.ops.gated_norm`, and a bias.

    y = (RMSNorm(x) ⊙ weight + bias) silu(z), or RMSNorm(x silu(z)) ⊙ weight + bias without `norm_before_gate`

    Args:
        x: input.
        weight, bias: of the norm.
        z: the gate, before SiLU; none if None.
        eps: ε.
        group_size: channels of a group; None takes all of them together.
        norm_before_gate: gate what is normalised.

    Returns:
        y, in the dtype of x.

    Raises:
        ShapeError: shapes do not fit, or `group_size` does not divide the channels.

    Source: mamba_ssm 2.3.2, ops.triton.layernorm_gated.

    Example:
        >>> rmsnorm_fn(torch.tensor([[3.0, -3.0]]), torch.ones(2), None, group_size=1)
        tensor([[ 1.0000, -1.0000]])
    """
    return layernorm_fn(x, weight, bias, z, eps, group_size, norm_before_gate, True)


def layernorm_fn(
    x: Float[Tensor, "*sizes dim"],
    weight: Float[Tensor, " dim"],
    bias: Float[Tensor, " dim"] | None,
    z: Float[Tensor, "*sizes dim"] | None = None,
    eps: float = 1e-6,
    group_size: int | None = None,
    norm_before_gate: bool = True,
    is_rms_norm: bool = False,
) -> Float[Tensor, "*sizes dim"]:
    """`rmsnorm_fn` where the mean is taken away too, unless `is_rms_norm`."""
    if is_rms_norm and z is not None and bias is None:
        return gated_norm(x, z, weight, group_size=group_size, norm_before_gate=norm_before_gate, eps=eps).y
    dim, wide = x.shape[-1], real_dtype(x.dtype)
    size = group_size or dim
    if dim % size:
        raise ShapeError(f"group_size={group_size} does not divide the {dim} channels of x")
    gate = None if z is None else F.silu(z.to(wide))
    y = x.to(wide)
    y = y if gate is None or norm_before_gate else y * gate
    groups = y.unflatten(-1, (-1, size))
    y = F.rms_norm(groups, (size,), eps=eps) if is_rms_norm else F.layer_norm(groups, (size,), eps=eps)
    y = y.flatten(-2) * weight.to(wide)
    y = y if bias is None else y + bias.to(wide)
    return (y * gate if gate is not None and norm_before_gate else y).to(x.dtype)


def rms_norm_ref(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    z: Tensor | None = None,
    eps: float = 1e-6,
    group_size: int | None = None,
    norm_before_gate: bool = True,
    upcast: bool = True,
) -> Tensor:
    """`rmsnorm_fn`, which computes in float32 at least, whatever `upcast` says."""
    return rmsnorm_fn(x, weight, bias, z, eps, group_size, norm_before_gate)


class _GatedNorm(nn.Module):
    """A norm over groups of channels with a gate, and its parameters.

    Args:
        hidden_size: channels.
        eps: ε.
        group_size: channels of a group; None takes all of them together.
        norm_before_gate: gate what is normalised.
        device, dtype: of the parameters.
    """

    is_rms_norm: ClassVar[bool]

    def __init__(
        self,
        hidden_size: int,
        eps: float = 1e-5,
        group_size: int | None = None,
        norm_before_gate: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.eps, self.group_size, self.norm_before_gate = eps, group_size, norm_before_gate
        self.weight = nn.Parameter(torch.ones(hidden_size, device=device, dtype=dtype))
        self.bias = None if self.is_rms_norm else nn.Parameter(torch.zeros_like(self.weight))

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        """y; z is the gate, before SiLU."""
        options = self.eps, self.group_size, self.norm_before_gate
        return layernorm_fn(x, self.weight, self.bias, z, *options, self.is_rms_norm)


@final
class RMSNorm(_GatedNorm):
    """`rmsnorm_fn` with its weight."""

    is_rms_norm = True


@final
class LayerNorm(_GatedNorm):
    """`layernorm_fn` with its weight and bias."""

    is_rms_norm = False
