"""RWKV version 4: attention with weights that decay, and a feed-forward network that sees the position before."""

import math
from typing import NamedTuple, final

import torch
from torch import nn

from longwave.errors import ConfigError, UnsupportedError
from longwave.layers.base import Mixer, State, real_dtype, without_autocast
from longwave.layers.checks import check_positive, check_state
from longwave.layers.projection import project
from longwave.ops import wkv
from longwave.shapes import Float, Tensor


class RWKVState(NamedTuple):
    """The last input, and the mean and the log-weight of the values so far: float32 at least."""

    x: Float[Tensor, "batch d_model"]
    wkv: Float[Tensor, "batch 2 d_attention"]


class RWKVChannelMixState(NamedTuple):
    """The last input: float32 at least."""

    x: Float[Tensor, "batch d_model"]


@final
class RWKV(Mixer):
    """RWKV's time mixing: y = W_o (σ(r) ⊙ wkv(k, v)), where k, v and r see a position and the one before it.

    k[t] = W_k (μ_k ⊙ x[t] + (1 − μ_k) ⊙ x[t−1]), and so v and r. wkv is the mean of all values so far with weights eᵏ:
    one that lies i positions back has decayed by e^{(i − 1) w}, w = −exp(``time_decay``), and the newest one counts
    e^u, u = ``time_first``. The whole block is ``Block(RWKV(d), feedforward="rwkv")``.

    Args:
        d_model: channels of input and output.
        d_attention: channels of the attention; d_model if None.
        layer: the number of this layer, from 0, and
        layers: of how many: the initial μ, w and u depend on the depth. `Backbone` sets both.
        zero_init: begin with W_k, W_r and W_o at zero, as published: a deep network begins as the identity. Otherwise
            they begin as those of `torch.nn.Linear`.

    Raises:
        ConfigError: an option is out of its range.
        UnsupportedError: ``rate`` is not 1: μ and u belong to positions, not to time.

    Numerics: the attention runs in float32 at least; its projections in the dtype of the parameters, or of autocast.

    Source: Peng et al., 2023, RWKV: Reinventing RNNs for the Transformer Era, arXiv:2305.13048, §3.1 and appendix E;
        parameter names are those of the published checkpoints. μ of channel i is (i/d)^(1 − l/L), for r its root and
        for v with 0.3 l/(L − 1) added; w of channel i is −exp(8 (i/(d − 1))^(0.7 + 1.3 l/(L − 1)) − 5), u is log 0.3
        plus 0, ½ and −½ in turn (transformers begins it with ones). With one layer, l/(L − 1) is taken to be 0.

    Not to be confused with: RWKV versions 5 to 7, whose state is a matrix for each head.

    Example:
        >>> layer = RWKV(d_model=8)
        >>> y, state = layer.prefill(torch.zeros(2, 100, 8))
        >>> y_t, state = layer.step(torch.zeros(2, 8), state)
    """

    def __init__(
        self,
        d_model: int,
        d_attention: int | None = None,
        *,
        layer: int = 0,
        layers: int = 1,
        zero_init: bool = True,
    ) -> None:
        super().__init__(d_model)
        d_attention = d_model if d_attention is None else d_attention
        check_positive("d_attention", d_attention)
        self.d_attention = d_attention
        below, depth = _depth(layer, layers)
        channel = torch.arange(d_attention)
        curve = (channel / max(1, d_attention - 1)) ** (0.7 + 1.3 * depth)
        self.time_decay = nn.Parameter(8 * curve - 5)
        self.time_first = nn.Parameter(math.log(0.3) + 0.5 * ((channel + 1) % 3 - 1))
        mix = _ramp(d_model) ** below
        self.time_mix_key = nn.Parameter(mix)
        self.time_mix_value = nn.Parameter(mix + 0.3 * depth)
        self.time_mix_receptance = nn.Parameter(mix**0.5)
        self.key = nn.Linear(d_model, d_attention, bias=False)
        self.value = nn.Linear(d_model, d_attention, bias=False)
        self.receptance = nn.Linear(d_model, d_attention, bias=False)
        self.output = nn.Linear(d_attention, d_model, bias=False)
        if zero_init:
            _orthogonal(self.value)
            _zero(self.key, self.receptance, self.output)

    def _reference(self) -> Tensor:
        return self.key.weight  # checkpoints in 16 bits have w and u in 32

    def initial_state(
        self, batch_size: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> RWKVState:
        x = _no_input(self, batch_size, dtype, device)
        nothing = x.new_zeros(batch_size, 0, self.d_attention)
        rest = x.new_zeros(self.d_attention)
        return RWKVState(x, wkv(nothing, nothing, rest, rest).final_state)

    def _run(
        self, x: Tensor, state: State | None, lengths: Tensor | None, reset: Tensor | None, rate: float
    ) -> tuple[Tensor, RWKVState]:
        _check_no_rate(rate)
        before, attended = self.initial_state(x.shape[0], dtype=x.dtype, device=x.device) if state is None else state
        check_state(attended, (x.shape[0], 2, self.d_attention), real_dtype(x.dtype), x)
        previous, last = _shift(x, before, lengths, reset)
        k = project(self.key, _mixed(x, previous, self.time_mix_key))
        v = project(self.value, _mixed(x, previous, self.time_mix_value))
        r = torch.sigmoid(project(self.receptance, _mixed(x, previous, self.time_mix_receptance)))
        with without_autocast(x.device.type):
            w, u = -self.time_decay.double().exp(), self.time_first
            y, attended = wkv(k, v, w.to(real_dtype(x.dtype)), u, attended, lengths=lengths, reset=reset)
        return project(self.output, r * y).to(x.dtype), RWKVState(last, attended)

    def _step(self, x_t: Tensor, state: State, rate: float) -> tuple[Tensor, RWKVState]:
        y, after = self._run(x_t[:, None], state, None, None, rate)
        return y[:, 0], after


@final
class RWKVChannelMix(Mixer):
    """RWKV's feed-forward network: y = σ(r) ⊙ W_v max(k, 0)², where k and r see a position and the one before it.

    k[t] = W_k (μ_k ⊙ x[t] + (1 − μ_k) ⊙ x[t−1]), and so r. The position before is its state, which `Block` hands on
    beside that of the mixer.

    Args:
        d_model: channels of input and output.
        d_hidden: channels of k; 4 d_model if None.
        layer: the number of this layer, from 0, and
        layers: of how many: the initial μ depends on the depth. `Backbone` sets both.
        zero_init: begin with W_v and W_r at zero, as published; otherwise as those of `torch.nn.Linear`.

    Raises:
        ConfigError: an option is out of its range.
        UnsupportedError: ``rate`` is not 1.

    Source: Peng et al., 2023, arXiv:2305.13048, §3.1.

    Example:
        >>> RWKVChannelMix(d_model=8)(torch.zeros(2, 100, 8)).shape
        torch.Size([2, 100, 8])
    """

    def __init__(
        self, d_model: int, d_hidden: int | None = None, *, layer: int = 0, layers: int = 1, zero_init: bool = True
    ) -> None:
        super().__init__(d_model)
        d_hidden = 4 * d_model if d_hidden is None else d_hidden
        check_positive("d_hidden", d_hidden)
        below, _ = _depth(layer, layers)
        self.time_mix_key = nn.Parameter(_ramp(d_model) ** below)
        self.time_mix_receptance = nn.Parameter(_ramp(d_model) ** below)
        self.key = nn.Linear(d_model, d_hidden, bias=False)
        self.receptance = nn.Linear(d_model, d_model, bias=False)
        self.value = nn.Linear(d_hidden, d_model, bias=False)
        if zero_init:
            _orthogonal(self.key)
            _zero(self.receptance, self.value)

    def initial_state(
        self, batch_size: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> RWKVChannelMixState:
        return RWKVChannelMixState(_no_input(self, batch_size, dtype, device))

    def _run(
        self, x: Tensor, state: State | None, lengths: Tensor | None, reset: Tensor | None, rate: float
    ) -> tuple[Tensor, RWKVChannelMixState]:
        _check_no_rate(rate)
        (before,) = self.initial_state(x.shape[0], dtype=x.dtype, device=x.device) if state is None else state
        previous, last = _shift(x, before, lengths, reset)
        k = project(self.key, _mixed(x, previous, self.time_mix_key))
        r = project(self.receptance, _mixed(x, previous, self.time_mix_receptance))
        y = torch.sigmoid(r) * project(self.value, torch.relu(k).square())
        return y.to(x.dtype), RWKVChannelMixState(last)

    def _step(self, x_t: Tensor, state: State, rate: float) -> tuple[Tensor, RWKVChannelMixState]:
        y, after = self._run(x_t[:, None], state, None, None, rate)
        return y[:, 0], after


def _shift(
    x: Tensor, before: Tensor, lengths: Tensor | None, reset: Tensor | None
) -> tuple[Float[Tensor, "batch time d_model"], Float[Tensor, "batch d_model"]]:
    """The input before every position, and the last one of every row, in the dtype of the state."""
    batch, time, d_model = x.shape
    check_state(before, (batch, d_model), real_dtype(x.dtype), x)
    every = torch.cat([before[:, None].to(x.dtype), x], 1)
    previous = every[:, :time]
    if reset is not None:
        previous = previous.masked_fill(reset[..., None], 0)
    last = every[:, -1] if lengths is None else every[torch.arange(batch, device=x.device), lengths.long()]
    return previous, last.to(before.dtype)


def _mixed(x: Tensor, previous: Tensor, mix: Tensor) -> Tensor:
    """μ x[t] + (1 − μ) x[t−1]."""
    return previous + mix * (x - previous)


def _no_input(layer: Mixer, batch: int, dtype: torch.dtype | None, device: torch.device | str | None) -> Tensor:
    """The zeros that stand before the first position."""
    like = next(layer.parameters())
    return torch.zeros(batch, layer.d_model, dtype=real_dtype(dtype or like.dtype), device=device or like.device)


def _depth(layer: int, layers: int) -> tuple[float, float]:
    """The share of the network from this layer on, 1 to nearly 0, and the share below it, 0 to 1."""
    check_positive("layers", layers)
    if not 0 <= layer < layers:
        raise ConfigError(f"layer={layer} must lie in 0 … layers − 1 = {layers - 1}")
    return 1 - layer / layers, layer / max(1, layers - 1)


def _ramp(d_model: int) -> Float[Tensor, "1 1 d_model"]:
    """i/d of every channel, in the shape of the published checkpoints."""
    return (torch.arange(d_model) / d_model).view(1, 1, -1)


def _orthogonal(linear: nn.Linear) -> None:
    """Orthogonal, and larger where it widens."""
    out, into = linear.weight.shape
    nn.init.orthogonal_(linear.weight, gain=math.sqrt(max(1.0, out / into)))


def _zero(*linears: nn.Linear) -> None:
    for linear in linears:
        nn.init.zeros_(linear.weight)


def _check_no_rate(rate: float) -> None:
    if rate != 1:
        raise UnsupportedError(f"rate={rate}: RWKV mixes positions, whatever time lies between them; give 1")
