"""The backbone: a stack of residual blocks, described by a configuration that can be written to disk."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, final

import torch
from torch import nn

from longwave.errors import ConfigError, ShapeError
from longwave.layers import MIXERS, Block, Mixer
from longwave.layers.base import LTIMixer, State, real_dtype
from longwave.layers.block import FEEDFORWARDS
from longwave.layers.checks import check_positive
from longwave.layers.norms import NORMS, normalise
from longwave.layers.options import choose
from longwave.shapes import Tensor

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class BackboneConfig:
    """What a backbone is made of.

    Args:
        d_model: channels of the sequence.
        n_layers: number of blocks.
        mixer: a name of `longwave.layers.MIXERS`.
        mixer_options: options of the mixer, such as ``{"d_state": 32}``.
        norm: ``"layer"``, ``"rms"`` or ``"batch"``.
        prenorm: normalise before each branch, and once more at the end; otherwise after each sum.
        dropout: probability that a channel is zeroed, in every branch.
        feedforward: None, ``"mlp"``, ``"glu"``, ``"swiglu"`` or ``"rwkv"``.
        bidirectional: give every block a second mixer that runs backwards; such a model does not stream.
        feedforward_options: options of the feed-forward network, such as ``{"d_hidden": 256}``.
        norm_eps: ε of the norms.
        residual_in_float32: keep what the blocks add up in float32 where the parameters have 16 bits; for ``prenorm``.
    """

    d_model: int = 64
    n_layers: int = 4
    mixer: str = "S4D"
    mixer_options: dict[str, Any] = field(default_factory=dict)
    norm: str = "layer"
    prenorm: bool = True
    dropout: float = 0.0
    feedforward: str | None = None
    bidirectional: bool = False
    feedforward_options: dict[str, Any] = field(default_factory=dict)
    norm_eps: float = 1e-5
    residual_in_float32: bool = False


@final
class Backbone(Mixer):
    """n_layers blocks in a row, with a last norm if the blocks normalise first; its state is the tuple of theirs.

    Args:
        config: the blocks' mixer, width and options.

    Raises:
        ConfigError: the configuration names something unknown or out of its range.

    Example:
        >>> Backbone(BackboneConfig(d_model=8, n_layers=2))(torch.zeros(2, 100, 8)).shape
        torch.Size([2, 100, 8])
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__(config.d_model)
        check_positive("n_layers", config.n_layers)
        self.config = config
        self.blocks = nn.ModuleList(_block(config, i) for i in range(config.n_layers))
        self.norm = choose("norm", config.norm, NORMS)(config.d_model, config.norm_eps) if config.prenorm else None
        self.causal = not config.bidirectional

    def initial_state(
        self, batch_size: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> State:
        return tuple(block.initial_state(batch_size, dtype=dtype, device=device) for block in self._blocks())

    def slow_parameters(self) -> tuple[str, ...]:
        return tuple(f"blocks.{i}.{slow}" for i, block in enumerate(self._blocks()) for slow in block.slow_parameters())

    def lti_mixers(self) -> dict[str, LTIMixer]:
        """Return the linear time-invariant mixers by name, ``blocks.0.mixer`` first."""
        return {name: module for name, module in self.named_modules() if isinstance(module, LTIMixer)}

    def _map(self, x: Tensor, lengths: Tensor | None, reset: Tensor | None, rate: float) -> Tensor:
        h = self._stream(x)
        for block in self._blocks():
            h = block(h, lengths=lengths, reset=reset, rate=rate)
        return self._last_norm(h, lengths).to(x.dtype)

    def _run(
        self, x: Tensor, state: State | None, lengths: Tensor | None, reset: Tensor | None, rate: float
    ) -> tuple[Tensor, State]:
        h, states = self._stream(x), []
        for block, before in self._with_states(state):
            h, after = block.prefill(h, before, lengths=lengths, reset=reset, rate=rate)
            states.append(after)
        return self._last_norm(h, lengths).to(x.dtype), tuple(states)

    def _step(self, x_t: Tensor, state: State, rate: float) -> tuple[Tensor, State]:
        h, states = self._stream(x_t), []
        for block, before in self._with_states(state):
            h, after = block.step(h, before, rate=rate)
            states.append(after)
        return self._last_norm(h).to(x_t.dtype), tuple(states)

    def _reference(self) -> Tensor:
        return self._blocks()[0].mixer._reference()

    def _stream(self, x: Tensor) -> Tensor:
        """What the blocks add to, in its own precision."""
        return x.to(real_dtype(x.dtype)) if self.config.residual_in_float32 else x

    def _last_norm(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return x if self.norm is None else normalise(self.norm, x, lengths)

    def _blocks(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]

    def _with_states(self, state: State | None) -> list[tuple[Block, Any]]:
        """Each block with its own part of the state."""
        blocks = self._blocks()
        if state is None:
            return [(block, None) for block in blocks]
        if len(state) != len(blocks):
            raise ShapeError(f"state has {len(state)} parts but the backbone has {len(blocks)} blocks")
        return list(zip(blocks, state, strict=True))


def _block(config: BackboneConfig, i: int) -> Block:
    return Block(
        _mixer(config, i),
        norm=config.norm,
        prenorm=config.prenorm,
        dropout=config.dropout,
        backward=_mixer(config, i) if config.bidirectional else None,
        feedforward=_feedforward(config, i),
        norm_eps=config.norm_eps,
        residual_in_float32=config.residual_in_float32,
    )


def _mixer(config: BackboneConfig, i: int) -> Mixer:
    """The mixer of block i."""
    return _make(config, i, "mixer", config.mixer, MIXERS, config.mixer_options)


def _feedforward(config: BackboneConfig, i: int) -> nn.Module | None:
    """The feed-forward network of block i."""
    if config.feedforward is not None:
        return _make(config, i, "feedforward", config.feedforward, FEEDFORWARDS, config.feedforward_options)
    if config.feedforward_options:
        raise ConfigError(f"feedforward_options={config.feedforward_options} are options of none: name a feedforward")
    return None


def _make(
    config: BackboneConfig, i: int, what: str, name: str, makers: Mapping[str, Callable[..., Module]], options: Any
) -> Module:
    """A part of block i by name; a misspelt option is answered with the nearest one."""
    make = choose(what, name, makers)
    known = {known: known for known in inspect.signature(make).parameters if known not in ("d_model", "kind")}
    for option in options:
        choose(f"option of {name}", option, known)
    place = {name: at for name, at in {"layer": i, "layers": config.n_layers}.items() if name in known}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}  # from JSON
    try:
        return make(config.d_model, **{**place, **values})
    except TypeError as error:
        raise ConfigError(f"{name} cannot take {what}_options={options}: {error}") from error
