"""Norms of a residual stream, of mamba_ssm.ops.triton.layer_norm: what enters is added to the stream first."""

from typing import Any, final

import torch
import torch.nn.functional as F
from torch import nn

from longwave.errors import ConfigError
from longwave.layers.base import real_dtype
from longwave.layers.projection import project_by
from longwave.shapes import Float, Tensor


def layer_norm_fn(
    x: Float[Tensor, "*sizes dim"],
    weight: Float[Tensor, " dim"],
    bias: Float[Tensor, " dim"] | None,
    residual: Float[Tensor, "*sizes dim"] | None = None,
    x1: Float[Tensor, "*sizes dim"] | None = None,
    weight1: Float[Tensor, " dim"] | None = None,
    bias1: Float[Tensor, " dim"] | None = None,
    eps: float = 1e-6,
    dropout_p: float = 0.0,
    rowscale: Float[Tensor, "*sizes"] | None = None,
    prenorm: bool = False,
    residual_in_fp32: bool = False,
    is_rms_norm: bool = False,
    return_dropout_mask: bool = False,
) -> Any:
    """Add to a residual stream, and normalise the sum.

    s = dropout(rowscale x) + dropout(x1) + residual,  y = norm(s) ⊙ weight + bias,  y1 = norm(s) ⊙ weight1 + bias1

    Args:
        x: what is added to the stream.
        weight, bias: of the norm.
        residual: the stream; none at its beginning.
        x1: a second addend, which goes without rowscale.
        weight1, bias1: of a second output.
        eps: ε.
        dropout_p: probability that a number of x or x1 is dropped.
        rowscale: a factor of each position of x.
        prenorm: whether to return s too.
        residual_in_fp32: s is float32 where there was no stream; else it has the stream's dtype.
        is_rms_norm: divide by the root mean square, and take no mean away.
        return_dropout_mask: whether to return what was kept of x and of x1 too; None without dropout.

    Returns:
        y in the dtype of x; or a tuple of y, y1, s and the two masks, as far as asked for.

    Raises:
        ConfigError: rowscale beside x1.

    Numerics: summed and normalised in float32 at least; s is rounded to its dtype afterwards.

    Source: mamba_ssm 2.3.2, ops.triton.layer_norm.

    Example:
        >>> two = torch.full((1, 2), 2.0)
        >>> layer_norm_fn(two, torch.ones(2), None, residual=-3 * two, prenorm=True, is_rms_norm=True)
        (tensor([[-1., -1.]]), tensor([[-4., -4.]]))
    """
    if x1 is not None and rowscale is not None:
        raise ConfigError("rowscale scales one addend; leave it out where there is an x1")
    wide = real_dtype(x.dtype)
    s = x.to(wide) if rowscale is None else x.to(wide) * rowscale[..., None]
    s, mask = _dropped(s, dropout_p)
    mask1 = None
    if x1 is not None:
        second, mask1 = _dropped(x1.to(wide), dropout_p)
        s = s + second
    s = s if residual is None else s + residual
    outputs: list[Tensor | None] = [_normalised(s, weight, bias, eps, is_rms_norm).to(x.dtype)]
    if weight1 is not None:
        outputs.append(_normalised(s, weight1, bias1, eps, is_rms_norm).to(x.dtype))
    if prenorm:
        stream = residual.dtype if residual is not None else torch.float32 if residual_in_fp32 else x.dtype
        outputs.append(s.to(stream))
    outputs += [mask, mask1] if return_dropout_mask else []
    return tuple(outputs) if outputs[1:] else outputs[0]


def rms_norm_fn(
    x: Float[Tensor, "*sizes dim"],
    weight: Float[Tensor, " dim"],
    bias: Float[Tensor, " dim"] | None,
    residual: Float[Tensor, "*sizes dim"] | None = None,
    x1: Float[Tensor, "*sizes dim"] | None = None,
    weight1: Float[Tensor, " dim"] | None = None,
    bias1: Float[Tensor, " dim"] | None = None,
    eps: float = 1e-6,
    dropout_p: float = 0.0,
    rowscale: Float[Tensor, "*sizes"] | None = None,
    prenorm: bool = False,
    residual_in_fp32: bool = False,
    return_dropout_mask: bool = False,
) -> Any:
    """`layer_norm_fn` with ``is_rms_norm=True``."""
    return layer_norm_fn(
        x, weight, bias, residual, x1, weight1, bias1, eps, dropout_p, rowscale, prenorm, residual_in_fp32,
        True, return_dropout_mask,
    )  # fmt: skip


def layer_norm_linear_fn(
    x: Float[Tensor, "*sizes dim"],
    norm_weight: Float[Tensor, " dim"],
    norm_bias: Float[Tensor, " dim"] | None,
    linear_weight: Float[Tensor, "out dim"],
    linear_bias: Float[Tensor, " out"] | None,
    residual: Float[Tensor, "*sizes dim"] | None = None,
    eps: float = 1e-6,
    prenorm: bool = False,
    residual_in_fp32: bool = False,
    is_rms_norm: bool = False,
) -> Any:
    """`layer_norm_fn`, and a linear map of y."""
    y, s = layer_norm_fn(
        x, norm_weight, norm_bias, residual, eps=eps, prenorm=True, residual_in_fp32=residual_in_fp32,
        is_rms_norm=is_rms_norm,
    )  # fmt: skip
    y = project_by(linear_weight, linear_bias, y)
    return (y, s) if prenorm else y


@final
class RMSNorm(nn.Module):
    """`rms_norm_fn` with its weight.

    Args:
        hidden_size: channels.
        eps: ε.
        dropout_p: dropout of x, in training.
        device, dtype: of the weight.
    """

    def __init__(
        self,
        hidden_size: int,
        eps: float = 1e-5,
        dropout_p: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.eps = eps
        self.drop = nn.Dropout(dropout_p) if dropout_p > 0 else None
        self.weight = nn.Parameter(torch.ones(hidden_size, device=device, dtype=dtype))
        self.bias = None

    def forward(
        self, x: Tensor, residual: Tensor | None = None, prenorm: bool = False, residual_in_fp32: bool = False
    ) -> Any:
        """y, and s with `prenorm`."""
        dropout_p = self.drop.p if self.drop is not None and self.training else 0.0
        return rms_norm_fn(
            x, self.weight, self.bias, residual, eps=self.eps, dropout_p=dropout_p, prenorm=prenorm,
            residual_in_fp32=residual_in_fp32,
        )  # fmt: skip


def _dropped(x: Tensor, p: float) -> tuple[Tensor, Tensor | None]:
    """x after dropout, and what was kept of it."""
    if p == 0:
        return x, None
    kept = torch.rand_like(x) >= p
    return torch.where(kept, x / (1 - p), 0), kept


def _normalised(s: Tensor, weight: Tensor, bias: Tensor | None, eps: float, is_rms_norm: bool) -> Tensor:
    size, weight = s.shape[-1:], weight.to(s.dtype)
    bias = None if bias is None else bias.to(s.dtype)
    if not is_rms_norm:
        return F.layer_norm(s, size, weight, bias, eps)
    y = F.rms_norm(s, size, weight, eps)
    return y if bias is None else y + bias
