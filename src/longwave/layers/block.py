"""The residual block: a mixer, and optionally a feed-forward network, each with a norm and a skip connection."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, final

import torch
import torch.nn.functional as F
from torch import nn

from longwave.errors import ConfigError
from longwave.layers.base import Mixer, State, real_dtype
from longwave.layers.dropout import TiedDropout
from longwave.layers.feedforward import FeedForward
from longwave.layers.norms import NORMS, Norm, normalise
from longwave.layers.options import choose
from longwave.layers.padding import reverse
from longwave.layers.rwkv import RWKVChannelMix
from longwave.shapes import Tensor

# name -> constructor from d_model and options
FEEDFORWARDS: Mapping[str, Callable[..., nn.Module]] = MappingProxyType(
    {**{kind: partial(FeedForward, kind=kind) for kind in ("mlp", "glu", "swiglu")}, "rwkv": RWKVChannelMix}
)


class BlockState(NamedTuple):
    """The state of a block whose feed-forward network has one too; that of any other block is its mixer's."""

    mixer: State
    feedforward: State


@final
class Block(Mixer):
    """x + dropout(mixer(norm(x))) with ``prenorm``, norm(x + dropout(mixer(x))) without; then the same for a
    feed-forward network, if there is one.

    A block with a second mixer, ``backward``, is bidirectional: mixer(z) + R backward(R z), where R reverses every row
    within its own length, and every packed sequence within its row. It refuses ``prefill`` and ``step``.

    Args:
        mixer: the sequence mixer; its state is the block's state, unless the feed-forward network has one too.
        norm: ``"layer"``, ``"rms"`` or ``"batch"``.
        prenorm: normalise before each branch instead of after each sum.
        dropout: probability that a channel of a branch is zeroed, one mask for the whole sequence.
        feedforward: None, ``"mlp"``, ``"glu"``, ``"swiglu"`` or ``"rwkv"``; or a module in that place. One that is a
            `Mixer`, as RWKV's, has a state of its own, and that of the block is then a `BlockState`.
        backward: the mixer for the reversed sequence, of the same width.
        norm_eps: ε of the norms.
        residual_in_float32: x and the sums are float32 where the parameters have 16 bits; for ``prenorm``.

    Raises:
        ConfigError: an option is unknown, the widths of the mixers differ, or there is no residual stream to widen.
        UnsupportedError: ``step`` in training mode with dropout or batch norm.

    Example:
        >>> from longwave.layers import S4D
        >>> Block(S4D(8), norm="rms", feedforward="glu")(torch.zeros(2, 100, 8)).shape
        torch.Size([2, 100, 8])
    """

    def __init__(
        self,
        mixer: Mixer,
        *,
        norm: str = "layer",
        prenorm: bool = True,
        dropout: float = 0.0,
        feedforward: str | nn.Module | None = None,
        backward: Mixer | None = None,
        norm_eps: float = 1e-5,
        residual_in_float32: bool = False,
    ) -> None:
        super().__init__(mixer.d_model)
        if residual_in_float32 and not prenorm:
            raise ConfigError("residual_in_float32 needs prenorm: without it the norm's output takes the sum's place")
        for name, other in (("backward", backward), ("feedforward", feedforward)):
            if isinstance(other, Mixer) and other.d_model != mixer.d_model:
                raise ConfigError(f"{name} has d_model={other.d_model} but mixer has d_model={mixer.d_model}")
        make_norm = choose("norm", norm, NORMS)
        self.mixer = mixer
        self.backward_mixer = backward
        self.causal = mixer.causal and backward is None and getattr(feedforward, "causal", True)
        self.prenorm = prenorm
        self.residual_in_float32 = residual_in_float32
        self.norm = make_norm(self.d_model, norm_eps)
        self.dropout = TiedDropout(dropout)
        self.feedforward = _network(feedforward, self.d_model)
        self.feedforward_norm = None if feedforward is None else make_norm(self.d_model, norm_eps)

    def initial_state(
        self, batch_size: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> State:
        state = self.mixer.initial_state(batch_size, dtype=dtype, device=device)
        if not isinstance(self.feedforward, Mixer):
            return state
        return BlockState(state, self.feedforward.initial_state(batch_size, dtype=dtype, device=device))

    def slow_parameters(self) -> tuple[str, ...]:
        parts = {"mixer": self.mixer, "backward_mixer": self.backward_mixer, "feedforward": self.feedforward}
        mixers = {name: part for name, part in parts.items() if isinstance(part, Mixer)}
        return tuple(f"{name}.{slow}" for name, mixer in mixers.items() for slow in mixer.slow_parameters())

    def _map(self, x: Tensor, lengths: Tensor | None, reset: Tensor | None, rate: float) -> Tensor:
        z = self._before(self.norm, x, lengths)
        if self.backward_mixer is None:
            y = self.mixer(z, lengths=lengths, reset=reset, rate=rate)
        else:
            y = self._both_ways(z, lengths, reset, rate)
        x = self._after(self.norm, x, y, lengths)
        return self._feed_forward(x, lengths, lambda net, z: (net(z, lengths=lengths, reset=reset, rate=rate), None))[0]

    def _run(
        self, x: Tensor, state: State | None, lengths: Tensor | None, reset: Tensor | None, rate: float
    ) -> tuple[Tensor, State]:
        of_mixer, of_network = self._parts(state)
        how: dict[str, Any] = {"lengths": lengths, "reset": reset, "rate": rate}
        y, after = self.mixer.prefill(self._before(self.norm, x, lengths), of_mixer, **how)
        x = self._after(self.norm, x, y, lengths)
        x, network_after = self._feed_forward(x, lengths, lambda net, z: net.prefill(z, of_network, **how))
        return x, after if network_after is None else BlockState(after, network_after)

    def _step(self, x_t: Tensor, state: State, rate: float) -> tuple[Tensor, State]:
        of_mixer, of_network = self._parts(state)
        y, after = self.mixer.step(self._before(self.norm, x_t), of_mixer, rate=rate)
        x_t = self._after(self.norm, x_t, y)
        x_t, network_after = self._feed_forward(x_t, None, lambda net, z: net.step(z, of_network, rate=rate))
        return x_t, after if network_after is None else BlockState(after, network_after)

    def _reference(self) -> Tensor:
        like = self.mixer._reference()
        return like.new_empty(0, dtype=real_dtype(like.dtype)) if self.residual_in_float32 else like

    def _both_ways(self, z: Tensor, lengths: Tensor | None, reset: Tensor | None, rate: float) -> Tensor:
        """The sum of the two mixers, each in its own direction."""
        assert self.backward_mixer is not None
        # Backwards, a packed sequence begins at its last position: the one before the next sequence's first.
        ends = None if reset is None else reverse(F.pad(reset[:, 1:], (0, 1)), lengths)
        backward = self.backward_mixer(reverse(z, lengths), lengths=lengths, reset=ends, rate=rate)
        return self.mixer(z, lengths=lengths, reset=reset, rate=rate) + reverse(backward, lengths)

    def _parts(self, state: State | None) -> tuple[Any, Any]:
        """The states of the mixer and of the feed-forward network, if it has one."""
        if not isinstance(self.feedforward, Mixer):
            return state, None
        return (None, None) if state is None else (state[0], state[1])

    def _feed_forward(
        self, x: Tensor, lengths: Tensor | None, run: Callable[[Mixer, Tensor], tuple[Tensor, State | None]]
    ) -> tuple[Tensor, State | None]:
        """The second branch, and the state after it; ``run`` is for a network that has one."""
        if self.feedforward is None or self.feedforward_norm is None:
            return x, None
        z = self._before(self.feedforward_norm, x, lengths)
        y, state = run(self.feedforward, z) if isinstance(self.feedforward, Mixer) else (self.feedforward(z), None)
        return self._after(self.feedforward_norm, x, y, lengths), state

    def _before(self, norm: Norm, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The input of a branch."""
        if not self.prenorm:
            return x
        z = normalise(norm, x, lengths)
        return z.to(self.mixer._reference().dtype) if self.residual_in_float32 else z

    def _after(self, norm: Norm, x: Tensor, y: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The sum of x and the branch's output y."""
        x = x + self.dropout(y)
        return x if self.prenorm else normalise(norm, x, lengths)


def _network(feedforward: str | nn.Module | None, d_model: int) -> nn.Module | None:
    """The feed-forward network of that name, or the one given."""
    if not isinstance(feedforward, str):
        return feedforward
    return choose("feedforward", feedforward, FEEDFORWARDS)(d_model)
