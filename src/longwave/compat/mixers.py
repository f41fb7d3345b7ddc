"""The mixers of transformers, computed by our operations: what `transformers` puts in the place of their ``forward``.

Mamba-1 (mamba, falcon_mamba, jamba, and zamba, whose heads are groups of channels):

    u₀, z = in_proj(x),  u = silu(conv1d(u₀)),  (δ, B, C) = x_proj(u),  y = out_proj(scan(u, dt_proj(δ), B, C, z)).

Mamba-2 (mamba2, bamba, falcon_h1, granitemoehybrid, nemotron_h, zamba2):

    z, xBC, δ = in_proj(x),  (u, B, C) = silu(conv1d(xBC)),  y = out_proj(norm(ssd(u, δ, B, C), z)).

Both run from the states that the cache holds to those that it holds next, and padding enters neither. A single token
without gradients moves the cache's own tensors on, if it can in one call (`longwave.layers.one_token`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import nn

from longwave.compat import one_token
from longwave.compat.one_token import ModuleOfTransformers
from longwave.compat.state_update import update_states
from longwave.layers.base import without_autocast
from longwave.layers.cache import SystemCache
from longwave.layers.one_token import Gather, known
from longwave.layers.projection import is_watched, project, project_by
from longwave.ops import _decoding, gated_norm, selective_scan, short_conv, ssd
from longwave.shapes import Float, Int, Tensor


@final
@dataclass(frozen=True)
class Past:
    """What a cache of transformers holds of one layer, if there is one, and the sequences that positions belong to."""

    cache: Any
    layer: int
    seq_idx: Int[Tensor, "batch time"] | None  # −1 for padding

    def window(self) -> Tensor | None:
        """The last inputs of the convolution, as many as it has taps; None before the first position."""
        return self._held("conv_states")

    def state(self) -> Tensor | None:
        """The state of the recurrence; None before the first position."""
        return self._held("recurrent_states")

    def keep(self, window: Tensor | None = None, state: Tensor | None = None) -> None:
        """Let the cache hold these, in its own tensors."""
        if self.cache is not None and window is not None:
            self.cache.update_conv_state(window, self.layer)
        if self.cache is not None and state is not None:
            self.cache.update_recurrent_state(state, self.layer)

    def _held(self, states: str) -> Tensor | None:
        """The first of the layer's states of this name: before 5.21 the cache itself has no method for it."""
        layer = None if self.cache is None else self.cache.layers[self.layer]
        return _readable(getattr(layer, states)[0]) if layer is not None and layer.has_previous_state[0] else None

    def one_token(self, x: Tensor) -> bool:
        """Whether there is one position, without gradients, so that the cache's tensors can be written to."""
        return x.shape[1] == 1 and self.seq_idx is None and not torch.is_grad_enabled()


def _readable(cached: Tensor | None) -> Tensor | None:
    """What a gradient may refer to: the cache writes to its own tensor."""
    return cached.clone() if cached is not None and torch.is_grad_enabled() else cached


Run = Callable[[ModuleOfTransformers, Float[Tensor, "batch time d_model"], Past], Float[Tensor, "batch time d_model"]]


def mamba(mixer: ModuleOfTransformers, x: Tensor, past: Past) -> Tensor:
    """Mamba, also with Falcon-Mamba's and Jamba's norms of δ, B and C."""
    y = _at_once(mixer, x, past, one_token.mamba)
    if y is not None:
        return y
    u, z = project(mixer.in_proj, x).chunk(2, -1)
    return _selective(mixer, u, z, past, _select, mixer.dt_proj.bias)


def zamba(mixer: ModuleOfTransformers, x: Tensor, past: Past) -> Tensor:
    """Zamba's: channels of u and z alternate, and every head of u has maps to δ, B and C of its own."""
    u, z = project(mixer.in_proj, x).unflatten(-1, (-1, 2)).unbind(-1)
    return _selective(mixer, u, z, past, _select_by_head, mixer.dt_proj_bias.flatten())


def mamba2(mixer: ModuleOfTransformers, x: Tensor, past: Past) -> Tensor:
    """Mamba-2."""
    y = _at_once(mixer, x, past, one_token.mamba2)
    return y if y is not None else _dual(mixer, project(mixer.in_proj, x), past)


def falcon_h1(mixer: ModuleOfTransformers, x: Tensor, past: Past) -> Tensor:
    """Falcon-H1's Mamba-2, with factors before and after the first projection."""
    return _dual(mixer, project(mixer.in_proj, x * mixer.ssm_in_multiplier) * mixer.mup_vector, past)


def _at_once(mixer: ModuleOfTransformers, x: Tensor, past: Past, gather: Gather) -> Tensor | None:
    """One position as one call, if it can be that."""
    at_once = known(mixer, gather, x) if past.cache is not None and past.one_token(x) else None
    if at_once is None:
        return None
    if past.state() is None:
        zero = x.new_zeros(1)
        past.keep(*(zero.expand(len(x), *shape) for shape in (at_once.window_shape, at_once.state_shape)))
    window, h = past.window(), past.state()
    if window is None or h is None or not at_once.takes(x, window, h):
        return None
    return at_once.step(x, window, h)


def _selective(
    mixer: ModuleOfTransformers,
    u: Tensor,
    z: Tensor,
    past: Past,
    select: Callable[[ModuleOfTransformers, Tensor], tuple[Tensor, Tensor, Tensor]],
    dt_bias: Tensor | None,
) -> Tensor:
    """Convolution, selection, scan and the last projection of Mamba-1."""
    h = past.state()
    u = _convolved(mixer, u, past)
    delta, B, C = select(mixer, u)
    with without_autocast("cpu"):
        if h is not None and past.one_token(u):
            y = _next_selective(mixer, h, u, delta, B, C, z, dt_bias)
        else:
            y, final = selective_scan(
                u,
                delta,
                _decay(mixer).flatten(0, -2),
                B,
                C,
                mixer.D.flatten(),
                z,
                dt_bias,
                None if h is None else h.flatten(1, -2),
                delta_softplus=True,
                seq_idx=past.seq_idx,
            )
            past.keep(state=final.view(len(final), *mixer.A_log.shape))
    return project(mixer.out_proj, y)


def _next_selective(
    mixer: ModuleOfTransformers,
    h: Tensor,
    u: Tensor,
    delta: Tensor,
    B: Tensor,
    C: Tensor,
    z: Tensor,
    dt_bias: Tensor | None,
) -> Tensor:
    """One position of Mamba-1, whose state is written to; a group of channels is a head of the update."""
    heads, modes = B.shape[2:]
    shape = len(h), heads, -1
    u, delta, z = (v.reshape(shape) for v in (u, delta, z))
    D, bias = mixer.D.view(shape[1:]), None if dt_bias is None else dt_bias.view(shape[1:])
    A, h = _decay(mixer).view(heads, -1, modes), h.view(*shape, modes)
    return update_states(h, u, delta, A, B[:, 0], C[:, 0], D, z, bias, True).view(len(h), 1, -1)


def _select(mixer: ModuleOfTransformers, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """δ before its bias, and B and C of one group."""
    sizes = [mixer.time_step_rank, mixer.ssm_state_size, mixer.ssm_state_size]
    delta, B, C = project(mixer.x_proj, u).split(sizes, -1)
    if hasattr(mixer, "dt_layernorm"):
        delta, B, C = mixer.dt_layernorm(delta), mixer.b_layernorm(B), mixer.c_layernorm(C)
    # else an adapter or a quantised map, with a bias that the scan will add
    plain = type(mixer.dt_proj) is nn.Linear and not is_watched(mixer.dt_proj)
    delta = project_by(mixer.dt_proj.weight, None, delta) if plain else mixer.dt_proj(delta) - mixer.dt_proj.bias
    return delta, B[:, :, None], C[:, :, None]


def _select_by_head(mixer: ModuleOfTransformers, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """δ before its bias, and B and C of as many groups as there are heads."""
    sizes = [mixer.time_step_rank, mixer.ssm_state_size, mixer.ssm_state_size]
    heads = u.unflatten(-1, (mixer.n_mamba_heads, -1))
    delta, B, C = torch.einsum("blhd,hkd->blhk", heads, mixer.x_proj_weight).split(sizes, -1)
    return torch.einsum("blhr,hdr->blhd", delta, mixer.dt_proj_weight).flatten(-2), B, C


def _dual(mixer: ModuleOfTransformers, zxBCdt: Tensor, past: Past) -> Tensor:
    """Convolution, state space duality, gate and the last projection of Mamba-2."""
    z, xBC, dt = zxBCdt.split([mixer.intermediate_size, mixer.conv_dim, mixer.num_heads], -1)
    h = past.state()
    xBC = _convolved(mixer, xBC, past)
    u, B, C = xBC.split([mixer.intermediate_size, *[mixer.n_groups * mixer.ssm_state_size] * 2], -1)
    u, B, C = (v.unflatten(-1, (n, -1)) for v, n in ((u, mixer.num_heads), (B, mixer.n_groups), (C, mixer.n_groups)))
    with without_autocast("cpu"):
        if h is not None and past.one_token(u):
            y = _next_dual(mixer, h, u, dt, B, C)
        else:
            y, final = ssd(
                u,
                dt,
                _decay(mixer),
                B,
                C,
                mixer.D,
                mixer.dt_bias,
                h,
                dt_softplus=True,
                dt_limit=mixer.time_step_limit,
                seq_idx=past.seq_idx,
            )
            past.keep(state=final)
        y = _gated(mixer, y.flatten(-2), z)
    return project(mixer.out_proj, y)


def _next_dual(mixer: ModuleOfTransformers, h: Tensor, u: Tensor, dt: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """One position of Mamba-2, whose state is written to; A, D and dt are one number a head."""
    A, D, bias = (v.view(-1, 1) for v in (_decay(mixer), mixer.D, mixer.dt_bias))
    limits = mixer.time_step_limit
    return update_states(h, u[:, 0], dt.mT, A[..., None], B[:, 0], C[:, 0], D, None, bias, True, limits)[:, None]


def _convolved(mixer: ModuleOfTransformers, u: Tensor, past: Past) -> Tensor:
    """silu(conv1d(u)), from the inputs that the cache holds to those that it holds next."""
    weight, bias, window = mixer.conv1d.weight[:, 0], mixer.conv1d.bias, past.window()
    if window is not None and past.one_token(u):
        return _slid(window, u[:, 0], weight, bias).to(u.dtype)[:, None]
    # the window is as wide as the convolution, which never sees its oldest input
    seen = None if window is None else window[..., 1:]
    y, seen = short_conv(u, weight, bias, seen, activation="silu", seq_idx=past.seq_idx)
    past.keep(window=F.pad(seen, (1, 0)))
    return y


def _slid(window: Tensor, u: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """silu(conv1d(u)) of one position, whose window is written to."""
    if _decoding.takes(window, u, weight, bias):
        return _decoding.slide(window, u, weight, bias, silu=True)
    window.copy_(torch.cat([window[..., 1:], u[..., None]], -1))
    y = (window * weight).sum(-1)
    return F.silu(y if bias is None else y + bias)


def _gated(mixer: ModuleOfTransformers, y: Tensor, z: Tensor) -> Tensor:
    """Gate and normalise; Falcon-H1 may have no norm, or one that comes first."""
    if not vars(mixer).get("mamba_rms_norm", True):
        return y * F.silu(z)
    norm, (group_size, before) = mixer.norm, one_token.norm_groups(mixer)
    return gated_norm(y, z, norm.weight, group_size=group_size, norm_before_gate=before, eps=norm.variance_epsilon).y


# A is an exponential for every state, and the same at every token.
_decays: WeakKeyDictionary[nn.Module, SystemCache] = WeakKeyDictionary()


def _decay(mixer: ModuleOfTransformers) -> Tensor:
    """A, in the precision of the recurrence."""
    A_log = mixer.A_log
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return one_token.decay(A_log)
    return _decays.setdefault(mixer, SystemCache()).get(lambda: one_token.decay(A_log), [A_log], None)
