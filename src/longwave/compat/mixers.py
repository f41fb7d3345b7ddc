"""The mixers of transformers, computed by our operations: what `transformers` puts in the place of their ``forward``.

Mamba-1 (mamba, falcon_mamba, jamba, and zamba, whose heads are groups of channels):

    u₀, z = in_proj(x),  u = silu(conv1d(u₀)),  (δ, B, C) = x_proj(u),  y = out_proj(scan(u, dt_proj(δ), B, C, z)).

Mamba-2 (mamba2, bamba, falcon_h1, granitemoehybrid, nemotron_h, zamba2):

    z, xBC, δ = in_proj(x),  (u, B, C) = silu(conv1d(xBC)),  y = out_proj(norm(ssd(u, δ, B, C), z)).

Both run from the states that the cache holds to those that it holds next, and padding enters neither: a chunk of a prompt,
one token of a generation and a whole training sequence are the same lines.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
import torch.nn.functional as F

from longwave.layers.base import real_dtype, without_autocast
from longwave.layers.projection import project
from longwave.ops import gated_norm, selective_scan, short_conv, ssd
from longwave.shapes import Float, Int, Tensor

ModuleOfTransformers = Any  # its modules have no types of their own to name


@final
@dataclass(frozen=True)
class Past:
    """What a cache of transformers holds of one layer, if there is a cache, and the sequences that positions belong to."""

    cache: Any
    layer: int
    seq_idx: Int[Tensor, "batch time"] | None  # −1 for padding

    def states(self) -> tuple[Tensor | None, Tensor | None]:
        """The last inputs of the convolution, and the state of the recurrence; None before the first position."""
        if self.cache is None or (window := self.cache.get_conv_state(self.layer)) is None:
            return None, None
        return window[..., 1:], self.cache.get_recurrent_state(self.layer)

    def keep(self, conv: Tensor, ssm: Tensor) -> None:
        """Hand the states on. The cache's window is as wide as the convolution, which never sees its oldest input."""
        if self.cache is not None:
            self.cache.update_conv_state(F.pad(conv, (1, 0)), self.layer)
            self.cache.update_recurrent_state(ssm, self.layer)


Run = Callable[[ModuleOfTransformers, Float[Tensor, "batch time d_model"], Past], Float[Tensor, "batch time d_model"]]


def mamba(mixer: ModuleOfTransformers, x: Tensor, past: Past) -> Tensor:
    """Mamba, also with Falcon-Mamba's and Jamba's norms of δ, B and C."""
    u, z = project(mixer.in_proj, x).chunk(2, -1)
    return _selective(mixer, u, z, past, _select, mixer.dt_proj.bias)


def zamba(mixer: ModuleOfTransformers, x: Tensor, past: Past) -> Tensor:
    """Zamba's: channels of u and z alternate, and every head of u has maps to δ, B and C of its own."""
    u, z = project(mixer.in_proj, x).unflatten(-1, (-1, 2)).unbind(-1)
    return _selective(mixer, u, z, past, _select_by_head, mixer.dt_proj_bias.flatten())


def mamba2(mixer: ModuleOfTransformers, x: Tensor, past: Past) -> Tensor:
    """Mamba-2."""
    return _dual(mixer, project(mixer.in_proj, x), past)


def falcon_h1(mixer: ModuleOfTransformers, x: Tensor, past: Past) -> Tensor:
    """Falcon-H1's Mamba-2, with factors before and after the first projection."""
    return _dual(mixer, project(mixer.in_proj, x * mixer.ssm_in_multiplier) * mixer.mup_vector, past)


def _selective(
    mixer: ModuleOfTransformers,
    u: Tensor,
    z: Tensor,
    past: Past,
    select: Callable[[ModuleOfTransformers, Tensor], tuple[Tensor, Tensor, Tensor]],
    dt_bias: Tensor | None,
) -> Tensor:
    """Convolution, selection, scan and the last projection of Mamba-1."""
    conv, h = past.states()
    u, conv = short_conv(
        u, mixer.conv1d.weight[:, 0], mixer.conv1d.bias, conv, activation="silu", seq_idx=past.seq_idx
    )
    delta, B, C = select(mixer, u)
    A = _decay(mixer)
    with without_autocast("cpu"):
        y, final = selective_scan(
            u,
            delta,
            A.flatten(0, -2),
            B,
            C,
            mixer.D.flatten(),
            z,
            dt_bias,
            None if h is None else h.reshape(len(h), -1, h.shape[-1]),
            delta_softplus=True,
            seq_idx=past.seq_idx,
        )
    past.keep(conv, final.view(len(final), *A.shape))
    return project(mixer.out_proj, y)


def _select(mixer: ModuleOfTransformers, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """δ before its bias, and B and C of one group."""
    sizes = [mixer.time_step_rank, mixer.ssm_state_size, mixer.ssm_state_size]
    delta, B, C = mixer.x_proj(u).split(sizes, -1)
    if hasattr(mixer, "dt_layernorm"):
        delta, B, C = mixer.dt_layernorm(delta), mixer.b_layernorm(B), mixer.c_layernorm(C)
    return F.linear(delta, mixer.dt_proj.weight), B[:, :, None], C[:, :, None]


def _select_by_head(mixer: ModuleOfTransformers, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """δ before its bias, and B and C of as many groups as there are heads."""
    sizes = [mixer.time_step_rank, mixer.ssm_state_size, mixer.ssm_state_size]
    heads = u.unflatten(-1, (mixer.n_mamba_heads, -1))
    delta, B, C = torch.einsum("blhd,hkd->blhk", heads, mixer.x_proj_weight).split(sizes, -1)
    return torch.einsum("blhr,hdr->blhd", delta, mixer.dt_proj_weight).flatten(-2), B, C


def _dual(mixer: ModuleOfTransformers, zxBCdt: Tensor, past: Past) -> Tensor:
    """Convolution, state space duality, gate and the last projection of Mamba-2."""
    z, xBC, dt = zxBCdt.split([mixer.intermediate_size, mixer.conv_dim, mixer.num_heads], -1)
    conv, h = past.states()
    xBC, conv = short_conv(
        xBC, mixer.conv1d.weight[:, 0], mixer.conv1d.bias, conv, activation="silu", seq_idx=past.seq_idx
    )
    u, B, C = xBC.split([mixer.intermediate_size, *[mixer.n_groups * mixer.ssm_state_size] * 2], -1)
    with without_autocast("cpu"):
        y, final = ssd(
            u.unflatten(-1, (mixer.num_heads, -1)),
            dt,
            _decay(mixer),
            B.unflatten(-1, (mixer.n_groups, -1)),
            C.unflatten(-1, (mixer.n_groups, -1)),
            mixer.D,
            mixer.dt_bias,
            h,
            dt_softplus=True,
            dt_limit=mixer.time_step_limit,
            seq_idx=past.seq_idx,
        )
        y = _gated(mixer, y.flatten(-2), z)
    past.keep(conv, final)
    return project(mixer.out_proj, y)


def _gated(mixer: ModuleOfTransformers, y: Tensor, z: Tensor) -> Tensor:
    """Gate and normalise; Falcon-H1 may have no norm, or one that comes first."""
    if not getattr(mixer, "mamba_rms_norm", True):
        return y * F.silu(z)
    return gated_norm(
        y,
        z,
        mixer.norm.weight,
        group_size=mixer.intermediate_size // mixer.n_groups,
        norm_before_gate=getattr(mixer.norm, "norm_before_gate", False),
        eps=mixer.norm.variance_epsilon,
    ).y


def _decay(mixer: ModuleOfTransformers) -> Tensor:
    """A, in the precision of the recurrence."""
    return -mixer.A_log.to(real_dtype(mixer.A_log.dtype)).exp()
