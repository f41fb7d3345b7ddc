"""Mamba-2: a selective recurrence with one decay a head, between a short convolution and a gated norm."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from longwave.errors import ConfigError, UnsupportedError
from longwave.layers import one_token
from longwave.layers.base import Mixer, State, real_dtype, without_autocast
from longwave.layers.checks import check_heads, check_positive, check_state
from longwave.layers.norms import GatedRMSNorm
from longwave.layers.projection import parts, project
from longwave.math import log_uniform, softplus_inverse
from longwave.ops import short_conv, ssd
from longwave.shapes import Float, Tensor


class Mamba2State(NamedTuple):
    """What the convolution saw last, and the state of the recurrence; float32, or float64 for float64 inputs."""

    conv: Float[Tensor, "batch channels width"]
    ssm: Float[Tensor, "batch heads head_dim state"]


class Mamba2(Mixer):
    """Mamba-2: h[t] = exp(Δ[t] A) h[t−1] + Δ[t] x[t] B[t]ᵀ,  y[t] = h[t] C[t] + D x[t] for every head.

    ``in_proj`` makes z, x, B, C and Δ of the input. x, B and C pass together through a causal depthwise convolution of
    ``d_conv`` taps and SiLU; Δ = softplus(Δ + ``dt_bias``), clamped to ``dt_limit``; A = −exp(``A_log``). Then
    ``out_proj``(RMSNorm(y · silu(z))). Heads of a group share B and C. With ``d_ssm``, in_proj makes z₀ and x₀ too, and
    out_proj gets silu(z₀) x₀ before the rest.

    Args:
        d_model: channels of input and output.
        d_state: columns of a head's state.
        d_conv: taps of the convolution.
        expand: channels of x and z, as a multiple of d_model.
        headdim: channels of a head; None is 64, or the largest power of two below it that fits.
        ngroups: groups of heads with their own B and C; norms are over as many groups of channels.
        d_ssm: channels of x and z, where the others are a gated pair without recurrence; None: all of them.
        A_init_range: −A is drawn uniformly between these.
        D_has_hdim: D has a value for each channel, not for each head.
        rmsnorm: normalise; False leaves y · silu(z) as it is.
        norm_before_gate: RMSNorm(y) · silu(z) instead.
        dt_min: smallest initial Δ; log Δ is drawn uniformly, and Δ kept from falling below dt_init_floor.
        dt_max: largest initial Δ.
        dt_init_floor: see dt_min.
        dt_limit: Δ is clamped to this range, always.
        bias: whether in_proj and out_proj have one.
        conv_bias: whether the convolution has one.
        chunk_size: most positions of one masked product; it changes nothing but rounding and speed.
        norm_eps: ε of the norm.

    Raises:
        ConfigError: an option is out of its range, or sizes do not divide one another.
        UnsupportedError: ``rate`` is not 1: Δ comes from the input, which does not know its sampling interval.

    Numerics: the convolution, the recurrence and the norm run in float32 at least; the projections in the
        precision of the layer, or of autocast.

    Source: Dao and Gu, 2024, Transformers are SSMs, arXiv:2405.21060, §7 and appendix B. Names and shapes of the
        parameters are those of its published checkpoints.

    Example:
        >>> layer = Mamba2(d_model=16, d_state=8, headdim=8)
        >>> y, state = layer.prefill(torch.zeros(2, 100, 16))
        >>> y_t, state = layer.step(torch.zeros(2, 16), state)
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 128,
        d_conv: int = 4,
        expand: int = 2,
        headdim: int | None = None,
        ngroups: int = 1,
        *,
        d_ssm: int | None = None,
        A_init_range: tuple[float, float] = (1.0, 16.0),
        D_has_hdim: bool = False,
        rmsnorm: bool = True,
        norm_before_gate: bool = False,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_init_floor: float = 1e-4,
        dt_limit: tuple[float, float] = (0.0, math.inf),
        bias: bool = False,
        conv_bias: bool = True,
        chunk_size: int = 256,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__(d_model)
        sizes = {"d_state": d_state, "d_conv": d_conv, "expand": expand, "ngroups": ngroups, "chunk_size": chunk_size}
        for name, size in sizes.items():
            check_positive(name, size)
        self.d_inner, self.d_state, self.ngroups = expand * d_model, d_state, ngroups
        self.d_ssm = _ssm_channels(d_ssm, self.d_inner)
        self.headdim = math.gcd(64, self.d_ssm) if headdim is None else headdim
        check_positive("headdim", self.headdim)
        self.nheads = self.d_ssm // self.headdim
        check_heads(self.d_ssm, self.headdim, ngroups)
        self.dt_limit, self.chunk_size = dt_limit, chunk_size
        self.in_proj = nn.Linear(d_model, 2 * self.d_inner + 2 * ngroups * d_state + self.nheads, bias=bias)
        channels = self.d_ssm + 2 * ngroups * d_state
        self.conv1d = nn.Conv1d(channels, channels, d_conv, groups=channels, padding=d_conv - 1, bias=conv_bias)
        dt = log_uniform((self.nheads,), dt_min, dt_max).clamp(min=dt_init_floor)
        self.dt_bias = nn.Parameter(softplus_inverse(dt).to(torch.get_default_dtype()))
        self.A_log = nn.Parameter(_A_log(self.nheads, *A_init_range))
        self.D = nn.Parameter(torch.ones(self.d_ssm if D_has_hdim else self.nheads))
        group = self.d_ssm // ngroups
        norm = GatedRMSNorm(self.d_ssm, group, norm_before_gate=norm_before_gate, eps=norm_eps)
        self.norm = norm if rmsnorm else None
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=bias)

    def initial_state(
        self, batch_size: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> Mamba2State:
        like = self._reference()
        options = {"dtype": real_dtype(dtype or like.dtype), "device": device or like.device}
        return Mamba2State(*(torch.zeros(shape, **options) for shape in self._state_shapes(batch_size)))

    def slow_parameters(self) -> tuple[str, ...]:
        """Name A, D and the bias of Δ, which the published recipes do not decay."""
        return "A_log", "D", "dt_bias"

    def _run(
        self, x: Tensor, state: State | None, lengths: Tensor | None, reset: Tensor | None, rate: float
    ) -> tuple[Tensor, Mamba2State]:
        conv, ssm = (None, None) if state is None else self._checked(state, x)
        past, z, xBC, dt = self._projections(x, rate)
        with without_autocast(x.device.type):
            weight, bias, A, D, dt_bias = self._system()
            convolved = short_conv(xBC, weight, bias, conv, activation="silu", reset=reset, lengths=lengths)
            u, B, C = self._parts(convolved.y)
            y, final = ssd(
                u, dt, A, B, C, D, dt_bias, ssm,
                dt_softplus=True, dt_limit=self.dt_limit, reset=reset, lengths=lengths, chunk=self.chunk_size,
            )  # fmt: skip
            y = self._gated(y, z, past)
        return project(self.out_proj, y).to(x.dtype), Mamba2State(convolved.final_state, final)

    def _step(self, x_t: Tensor, state: State, rate: float) -> tuple[Tensor, Mamba2State]:
        conv, ssm = self._checked(state, x_t)
        at_once = one_token.step(self, Mamba2._at_once, x_t, conv, ssm) if rate == 1 else None
        if at_once is not None:
            return at_once[0], Mamba2State(*at_once[1:])
        past, z, xBC, dt = self._projections(x_t, rate)
        with without_autocast(x_t.device.type):
            weight, bias, A, D, dt_bias = self._system()
            window = torch.cat([conv, xBC.to(conv.dtype)[..., None]], -1)
            taps = (window * weight).sum(-1)
            u, B, C = self._parts(F.silu(taps if bias is None else taps + bias))
            delta = F.softplus(dt.to(A.dtype) + dt_bias).clamp(*self.dt_limit)
            B, C = (group.repeat_interleave(self.nheads // self.ngroups, 1) for group in (B, C))
            enters = (delta[..., None] * u)[..., None] * B[:, :, None]
            h = torch.addcmul(enters, (delta * A).exp()[..., None, None], ssm)
            y = torch.addcmul((h @ C[..., None])[..., 0], D.view(self.nheads, -1), u)
            y = self._gated(y.to(x_t.dtype), z, past)
        return project(self.out_proj, y).to(x_t.dtype), Mamba2State(window[..., 1:], h)

    def _at_once(self) -> one_token.Found:
        """What one native call takes; a gated pair without recurrence is not among it."""
        _, _, A, D, _ = self._system()
        D, norm = D.flatten() if D.ndim == 2 else D.repeat_interleave(self.headdim), self.norm
        options = one_token.Options(self.d_state, self.nheads, self.ngroups, dt_limit=self.dt_limit)
        if norm is not None:
            group = {"norm_size": norm.group_size, "norm_first": norm.norm_before_gate, "eps": norm.eps}
            options = options._replace(**group)
        return one_token.one_call_of(self, options, A, D, norm) if self.d_ssm == self.d_inner else None

    def _reference(self) -> Tensor:
        return self.in_proj.weight  # checkpoints in 16 bits have A, D and the bias of Δ in 32

    def _projections(self, x: Tensor, rate: float) -> tuple[Tensor, ...]:
        """z₀ and x₀ together, z, (x, B, C) before the convolution, and dt."""
        if rate != 1:
            raise UnsupportedError(
                f"rate={rate}: Mamba2 has no sampling interval, its steps come from the input; give 1"
            )
        past, channels = 2 * (self.d_inner - self.d_ssm), self.d_ssm + 2 * self.ngroups * self.d_state
        return project(self.in_proj, x).split([past, self.d_ssm, channels, self.nheads], -1)

    def _parts(self, xBC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x by heads, B and C by groups."""
        x, B, C = parts(xBC, [self.d_ssm, *[self.ngroups * self.d_state] * 2])
        groups = self.ngroups, self.d_state
        return x.unflatten(-1, (self.nheads, -1)), B.unflatten(-1, groups), C.unflatten(-1, groups)

    def _system(self) -> tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor]:
        """The convolution's weight (channels, width) and bias; A, D and the bias of Δ: in float32 at least."""
        dtype = real_dtype(self.A_log.dtype)
        bias = None if self.conv1d.bias is None else self.conv1d.bias.to(dtype)
        D = self.D.to(dtype)
        D = D if len(D) == self.nheads else D.view(self.nheads, -1)
        return self.conv1d.weight[:, 0].to(dtype), bias, -self.A_log.to(dtype).exp(), D, self.dt_bias.to(dtype)

    def _gated(self, y: Tensor, z: Tensor, past: Tensor) -> Tensor:
        """y by heads, gated by z and normalised, after silu(z₀) x₀."""
        y = y.flatten(-2)
        y = y * F.silu(z) if self.norm is None else self.norm(y, z)
        if not past.shape[-1]:
            return y
        z0, x0 = past.chunk(2, -1)
        return torch.cat([F.silu(z0) * x0, y], -1)

    def _state_shapes(self, batch: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        conv = batch, self.conv1d.in_channels, self.conv1d.kernel_size[0] - 1
        return conv, (batch, self.nheads, self.headdim, self.d_state)

    def _checked(self, state: State, x: Tensor) -> tuple[Tensor, Tensor]:
        """The tensors of a state, checked against the inputs."""
        for tensor, shape in zip(state, self._state_shapes(x.shape[0]), strict=True):
            check_state(tensor, shape, real_dtype(x.dtype), x)
        return tuple(state)


def _ssm_channels(d_ssm: int | None, d_inner: int) -> int:
    """The channels that go through the recurrence."""
    if d_ssm is None:
        return d_inner
    check_positive("d_ssm", d_ssm)
    if d_ssm > d_inner:
        raise ConfigError(f"d_ssm={d_ssm} is more than the {d_inner} channels that there are")
    return d_ssm


def _A_log(heads: int, low: float, high: float) -> Tensor:
    """log of uniform rates."""
    if not 0 < low <= high:
        raise ConfigError(f"A_init_range=({low}, {high}): rates of decay must be positive, the smaller one first")
    return torch.empty(heads).uniform_(low, high).log()
