"""mamba_ssm's residual block and feed-forward network: modules.block and modules.mlp."""

from collections.abc import Callable
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import nn

from longwave.compat.cached import Cache, Params
from longwave.compat.residual_norms import RMSNorm, layer_norm_fn
from longwave.layers.projection import project
from longwave.shapes import Float, Tensor


@final
class GatedMLP(nn.Module):
    """Two linear maps with a gate between them: fc2(v · activation(g)) with v, g = fc1(x).

    Args:
        in_features: channels of x.
        hidden_features: channels of v and g; None is 8/3 of those of x. It is rounded up.
        out_features: channels of the output; None is those of x.
        activation: of the gate.
        bias: whether the maps have one.
        multiple_of: what hidden_features is rounded up to a multiple of.
        device, dtype: of the parameters.

    Source: mamba_ssm 2.3.2, modules.mlp; Shazeer, 2020, arXiv:2002.05202, equation 6.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        activation: Callable[[Tensor], Tensor] = F.silu,
        bias: bool = False,
        multiple_of: int = 128,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        hidden = int(8 * in_features / 3) if hidden_features is None else hidden_features
        hidden = -(-hidden // multiple_of) * multiple_of
        out = in_features if out_features is None else out_features
        self.fc1 = nn.Linear(in_features, 2 * hidden, bias=bias, device=device, dtype=dtype)
        self.activation = activation
        self.fc2 = nn.Linear(hidden, out, bias=bias, device=device, dtype=dtype)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch out"]:
        """Map every position."""
        value, gate = project(self.fc1, x).chunk(2, -1)
        return project(self.fc2, value * self.activation(gate))


class Block(nn.Module):
    """A mixer, and perhaps a feed-forward network, on a residual stream that is handed on beside what is added next.

    s ← s + x,  x ← mixer(norm(s)),  and then  s ← s + x,  x ← mlp(norm2(s))

    Args:
        dim: channels.
        mixer_cls: makes the mixer from `dim`.
        mlp_cls: makes the feed-forward network; `nn.Identity` for none.
        norm_cls: makes a norm.
        fused_add_norm: without meaning: sum and norm are one function anyhow.
        residual_in_fp32: whether the stream is float32 where the parameters have 16 bits.

    Source: mamba_ssm 2.3.2, modules.block. There norm2 takes the stream's place without fused_add_norm; here it does
        not.

    Attributes:
        layer_idx: its number in a model.
    """

    layer_idx: int | None = None
    mixer: Any

    def __init__(
        self,
        dim: int,
        mixer_cls: Callable[..., nn.Module],
        mlp_cls: Callable[..., nn.Module],
        norm_cls: Callable[..., nn.Module] = nn.LayerNorm,
        fused_add_norm: bool = False,
        residual_in_fp32: bool = False,
    ) -> None:
        super().__init__()
        self.residual_in_fp32, self.fused_add_norm = residual_in_fp32, fused_add_norm
        self.norm, self.mixer = norm_cls(dim), mixer_cls(dim)
        self.mlp = None if mlp_cls is nn.Identity else mlp_cls(dim)
        if self.mlp is not None:
            self.norm2 = norm_cls(dim)

    def forward(
        self,
        hidden_states: Float[Tensor, "*batch d_model"],
        residual: Float[Tensor, "*batch d_model"] | None = None,
        inference_params: Params | None = None,
        **mixer_kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Add to the stream, and make what is added next.

        Args:
            hidden_states: x.
            residual: s; None at its beginning.
            inference_params: for the mixer.
            mixer_kwargs: for the mixer as well.

        Returns:
            x and s.
        """
        x, s = add_norm(self.norm, hidden_states, residual, self.residual_in_fp32)
        x = self.mixer(x, inference_params=inference_params, **mixer_kwargs)
        if self.mlp is not None:
            x, s = add_norm(self.norm2, x, s, self.residual_in_fp32)
            x = self.mlp(x)
        return x, s

    def allocate_inference_cache(
        self, batch_size: int, max_seqlen: int, dtype: torch.dtype | None = None, **kwargs: Any
    ) -> Cache:
        """Make the mixer's cache."""
        return self.mixer.allocate_inference_cache(batch_size, max_seqlen, dtype=dtype, **kwargs)


def add_norm(
    norm: nn.Module, x: Tensor, residual: Tensor | None, residual_in_fp32: bool = False
) -> tuple[Tensor, Tensor]:
    """norm(s) in the dtype of x, and s, the stream with x."""
    if isinstance(norm, (RMSNorm, nn.LayerNorm)):
        return layer_norm_fn(
            x, norm.weight, norm.bias, residual, eps=norm.eps, prenorm=True, residual_in_fp32=residual_in_fp32,
            is_rms_norm=isinstance(norm, RMSNorm),
        )  # fmt: skip
    s = x if residual is None else x + residual
    s = s.float() if residual_in_fp32 else s
    return norm(s.to(next(norm.parameters(), x).dtype)).to(x.dtype), s
