"""Normalisation over channels: layer, root-mean-square with a gate, and batch norm whose statistics skip padding."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import final

import torch
from torch import nn

from longwave.errors import ConfigError, ShapeError, UnsupportedError
from longwave.layers.padding import real_positions
from longwave.ops import gated_norm
from longwave.shapes import Float, Int, Tensor


@final
class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch norm over all positions that are not padding.

    y = (x − μ)/√(σ² + ε) ⊙ weight + bias, with the mean μ and variance σ² of each channel over the real positions of
    the batch in training, and their running averages in evaluation.

    Args:
        num_features: number of channels; the other arguments are those of `torch.nn.BatchNorm1d`.

    Raises:
        ShapeError: in training, fewer than two real positions: they have no variance.
        UnsupportedError: in training, a single position: ``step`` has no statistics of the sequence.

    Source: Ioffe and Szegedy, 2015, Batch Normalization, arXiv:1502.03167, algorithm 1.
    """

    def forward(self, input: Tensor, lengths: Int[Tensor, " batch"] | None = None) -> Tensor:
        if not self.training:
            return super().forward(input.reshape(-1, self.num_features)).view(input.shape)
        if input.ndim == 2:
            raise UnsupportedError("batch norm has no statistics of a single position: call eval() before stepping")
        if lengths is None:
            return self._normalise(input.flatten(0, 1)).view(input.shape)
        real = real_positions(lengths, input.shape[1])
        return torch.zeros_like(input).masked_scatter(real[..., None], self._normalise(input[real]))

    def _normalise(self, x: Float[Tensor, "positions dim"]) -> Float[Tensor, "positions dim"]:
        """Batch norm as it is, over positions without padding."""
        if len(x) < 2:
            raise ShapeError(f"batch norm needs two real positions or more in training, got {len(x)}")
        return super().forward(x)


Norm = nn.LayerNorm | nn.RMSNorm | MaskedBatchNorm

# name -> constructor from d_model and ε
NORMS: Mapping[str, Callable[[int, float], Norm]] = MappingProxyType(
    {"layer": nn.LayerNorm, "rms": nn.RMSNorm, "batch": MaskedBatchNorm}
)


def normalise(norm: Norm, x: Tensor, lengths: Int[Tensor, " batch"] | None = None) -> Tensor:
    """Apply one of `NORMS` to x (batch, time, dim) or (batch, dim), in the dtype of x."""
    z = x.to(norm.weight.dtype)  # under autocast x may be narrower
    return (norm(z, lengths) if isinstance(norm, MaskedBatchNorm) else norm(z)).to(x.dtype)


@final
class GatedRMSNorm(nn.Module):
    """Root-mean-square norm with a gate: y = RMSNorm(x · silu(z)), or RMSNorm(x) · silu(z) with ``norm_before_gate``.

    RMSNorm(u) = u / √(mean(u²) + ε) ⊙ weight, the mean over groups of neighbouring channels.

    Args:
        dim: channels.
        group_size: channels of a group; None takes all of them together.
        norm_before_gate: gate what is normalised, instead of normalising what is gated.
        eps: ε.

    Raises:
        ConfigError: ``group_size`` does not divide ``dim``.

    Numerics: float32 at least; y has the dtype of x.

    Source: Dao and Gu, 2024, Transformers are SSMs, arXiv:2405.21060, §7.1; Zhang and Sennrich, 2019, arXiv:1910.07467.

    Example:
        >>> GatedRMSNorm(4)(torch.ones(1, 4), torch.ones(1, 4)).detach()
        tensor([[1.0000, 1.0000, 1.0000, 1.0000]])
    """

    def __init__(
        self, dim: int, group_size: int | None = None, *, norm_before_gate: bool = False, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.group_size, self.norm_before_gate, self.eps = group_size or dim, norm_before_gate, eps
        if dim % self.group_size:
            raise ConfigError(f"group_size={group_size} does not divide the {dim} channels")
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Float[Tensor, "*sizes dim"], z: Float[Tensor, "*sizes dim"]) -> Float[Tensor, "*sizes dim"]:
        options = {"group_size": self.group_size, "norm_before_gate": self.norm_before_gate, "eps": self.eps}
        return gated_norm(x, z, self.weight, **options).y
