"""Mamba: a selective state space model, whose step, input and output weights are functions of the input."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from longwave.errors import ConfigError, UnsupportedError
from longwave.layers import one_token
from longwave.layers.base import Mixer, State, real_dtype, without_autocast
from longwave.layers.checks import check_duration, check_positive, check_state
from longwave.layers.options import choose
from longwave.layers.projection import project, project_by
from longwave.math import log_uniform, softplus_inverse
from longwave.ops import selective_scan, short_conv
from longwave.shapes import Float, Tensor


class MambaState(NamedTuple):
    """The last inputs of the convolution, oldest first, and h[t−1], in float32 at least."""

    conv: Float[Tensor, "batch dim taps"]
    ssm: Float[Tensor, "batch dim modes"]


class Mamba(Mixer):
    """The selective state space model S6 in the block of its paper: convolution, scan, gate, between two projections.

    u₀, z = in_proj(x),  u = silu(conv1d(u₀)),  (δ, B, C) = x_proj(u),  dt = softplus(dt_proj(δ)),
    h[t] = exp(dt[t] A) ⊙ h[t−1] + dt[t] B[t] u[t],  y = out_proj((C[t] · h[t] + D u[t]) silu(z[t])),

    A = −exp(``A_log``). Each of the expand · d_model channels of u has d_state states of its own; B and C are shared by
    all channels. Where dt is large a channel forgets and takes its input, where it is small it keeps what it has: the
    model selects.

    Args:
        d_model: channels of input and output.
        d_state: states per channel.
        d_conv: taps of the convolution.
        expand: channels of u, in multiples of d_model.
        dt_rank: rank of the map from u to dt; "auto" is ⌈d_model / 16⌉.
        dt_min: smallest initial dt, at δ = 0, in positions.
        dt_max: largest; dt is log-uniform between them.
        dt_init: "random" or "constant": the initial weights of dt_proj, uniform in ± dt_scale/√dt_rank or equal to it.
        dt_scale: their scale.
        dt_init_floor: no initial dt is below it.
        conv_bias: whether the convolution has a bias.
        bias: whether in_proj and out_proj have one.
        norm_eps: ε of a norm over δ, B and C before they are used, root-mean-square and without weights, as in
            Falcon-Mamba; None: no norm.

    Raises:
        ConfigError: an option is unknown or out of its range.
        UnsupportedError: ``rate`` is not 1: dt is learned per position, and the convolution counts positions.

    Numerics: convolution and recurrence run in float32 at least, with A, D and the bias of dt in float32 under autocast
        too; the projections run in the precision of the layer, or of autocast.

    Source: Gu and Dao, 2023, Mamba: Linear-Time Sequence Modeling with Selective State Spaces, arXiv:2312.00752, §3 and
        algorithm 2; names of parameters and initialisation as published with it, so that state dicts are
        interchangeable. The norms: Zuo et al., 2024, Falcon Mamba, arXiv:2410.05355.

    Not to be confused with `Block`, which adds norm and residual around a mixer; the "Mamba block" of the paper is this
        mixer.

    Example:
        >>> layer = Mamba(d_model=8)
        >>> y, state = layer.prefill(torch.zeros(2, 100, 8))
        >>> y_t, state = layer.step(torch.zeros(2, 8), state)
        >>> state.conv.shape, state.ssm.shape
        (torch.Size([2, 16, 3]), torch.Size([2, 16, 16]))
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_rank: int | str = "auto",
        *,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_init: str = "random",
        dt_scale: float = 1.0,
        dt_init_floor: float = 1e-4,
        conv_bias: bool = True,
        bias: bool = False,
        norm_eps: float | None = None,
    ) -> None:
        super().__init__(d_model)
        for name, size in (("d_state", d_state), ("d_conv", d_conv), ("expand", expand)):
            check_positive(name, size)
        self.d_state, self.d_inner = d_state, expand * d_model
        self.dt_rank = _rank(dt_rank, d_model)
        self.norm_eps = norm_eps
        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=bias)
        self.conv1d = nn.Conv1d(self.d_inner, self.d_inner, d_conv, groups=self.d_inner, bias=conv_bias)
        self.x_proj = nn.Linear(self.d_inner, self.dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, self.d_inner)
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(self.d_inner, 1))
        self.D = nn.Parameter(torch.ones(self.d_inner))
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=bias)
        self._init_dt(dt_min, dt_max, dt_init, dt_scale, dt_init_floor)

    @torch.no_grad()
    def _init_dt(self, low: float, high: float, init: str, scale: float, floor: float) -> None:
        """dt log-uniform where δ = 0: the bias is its inverse softplus."""
        for name, value in (("dt_min", low), ("dt_max", high), ("dt_scale", scale), ("dt_init_floor", floor)):
            check_duration(name, value)
        if low > high:
            raise ConfigError(f"dt_min={low} is larger than dt_max={high}")
        bound = scale / math.sqrt(self.dt_rank)
        self.dt_proj.weight.uniform_(choose("dt_init", init, {"random": -bound, "constant": bound}), bound)
        dt = log_uniform((self.d_inner,), low, high).clamp(min=floor)
        self.dt_proj.bias.copy_(softplus_inverse(dt))

    def initial_state(
        self, batch_size: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> MambaState:
        dtype, device = real_dtype(dtype or self.D.dtype), device or self.D.device
        return MambaState(*(torch.zeros(shape, dtype=dtype, device=device) for shape in self._state_shapes(batch_size)))

    def slow_parameters(self) -> tuple[str, ...]:
        """Name A, D and the bias of dt, which the published model trains without decay."""
        return "A_log", "D", "dt_proj.bias"

    def _run(
        self, x: Tensor, state: State | None, lengths: Tensor | None, reset: Tensor | None, rate: float
    ) -> tuple[Tensor, MambaState]:
        _check_rate(rate)
        conv, ssm = (None, None) if state is None else self._state(state, x)
        u, z = project(self.in_proj, x).chunk(2, -1)
        u, conv = short_conv(
            u, self.conv1d.weight[:, 0], self.conv1d.bias, conv, activation="silu", reset=reset, lengths=lengths
        )
        delta, B, C = self._select(u)
        with without_autocast(x.device.type):
            y, ssm = selective_scan(
                u,
                delta,
                self._A(),
                B[:, :, None],
                C[:, :, None],
                self.D,
                z,
                self.dt_proj.bias,
                ssm,
                delta_softplus=True,
                reset=reset,
                lengths=lengths,
            )
        return project(self.out_proj, y).to(x.dtype), MambaState(conv, ssm)

    def _step(self, x_t: Tensor, state: State, rate: float) -> tuple[Tensor, MambaState]:
        _check_rate(rate)
        before, h = self._state(state, x_t)
        at_once = one_token.step(self, Mamba._at_once, x_t, before, h)
        if at_once is not None:
            return at_once[0], MambaState(*at_once[1:])
        u, z = project(self.in_proj, x_t).chunk(2, -1)
        seen = torch.cat([before, u[..., None].to(before.dtype)], -1)
        u = self._convolve(seen).to(u.dtype)
        delta, B, C = self._select(u)
        with without_autocast(x_t.device.type):
            wide, B, C, z = (v.to(h.dtype) for v in (u, B, C, z))
            dt = F.softplus(delta.to(h.dtype) + self.dt_proj.bias)
            h = torch.addcmul((dt * wide)[..., None] * B[:, None], torch.exp(dt[..., None] * self._A()), h)
            y = torch.addcmul((h @ C[..., None])[..., 0], self.D.to(h.dtype), wide) * F.silu(z)
        return project(self.out_proj, y.to(u.dtype)).to(x_t.dtype), MambaState(seen[..., 1:], h)

    def _at_once(self) -> one_token.Found:
        """What one native call takes; norms are not among it."""
        plain = self.norm_eps is None
        return one_token.one_call_of(self, one_token.Options(self.d_state), self._A(), self.D) if plain else None

    def _reference(self) -> Tensor:
        return self.in_proj.weight  # checkpoints in 16 bits have A and D in 32

    def _convolve(self, seen: Tensor) -> Tensor:
        """The convolution's output where it sees these inputs, (batch, dim, width)."""
        u = (seen * self.conv1d.weight[:, 0]).sum(-1)
        return F.silu(u if self.conv1d.bias is None else u + self.conv1d.bias)

    def _select(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """dt before bias and softplus, B and C."""
        parts = project(self.x_proj, u).split([self.dt_rank, self.d_state, self.d_state], -1)
        if self.norm_eps is not None:
            parts = [F.rms_norm(part, part.shape[-1:], eps=self.norm_eps) for part in parts]
        delta, B, C = parts
        return project_by(self.dt_proj.weight, None, delta), B, C

    def _A(self) -> Tensor:
        """A, in the precision of the recurrence."""
        return -self.A_log.to(real_dtype(self.A_log.dtype)).exp()

    def _state_shapes(self, batch: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (batch, self.d_inner, self.conv1d.kernel_size[0] - 1), (batch, self.d_inner, self.d_state)

    def _state(self, state: State, x: Tensor) -> State:
        """A state, checked against the inputs."""
        for part, shape in zip(state, self._state_shapes(x.shape[0]), strict=True):
            check_state(part, shape, real_dtype(x.dtype), x)
        return state


def _rank(dt_rank: int | str, d_model: int) -> int:
    """The rank of the map to dt."""
    if dt_rank == "auto":
        return math.ceil(d_model / 16)
    if isinstance(dt_rank, str):
        raise ConfigError(f"dt_rank={dt_rank!r} must be 'auto' or a positive integer")
    check_positive("dt_rank", dt_rank)
    return dt_rank


def _check_rate(rate: float) -> None:
    """The time between positions is the model's own choice."""
    if rate != 1:
        raise UnsupportedError(f"rate={rate}: Mamba learns a step for each position; give 1")
