"""The backbone: a stack of residual blocks, described by a configuration that can be written to disk."""

import inspect
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import nn

from longwave.errors import ConfigError, ShapeError
from longwave.layers import MIXERS, Block, Mixer, RWKVChannelMix
from longwave.layers.base import LTIMixer, State
from longwave.layers.checks import check_positive
from longwave.layers.norms import NORMS, normalise
from longwave.layers.options import choose
from longwave.shapes import Tensor


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
        feedforward: None, ``"mlp"``, ``"glu"`` or ``"rwkv"``.
        bidirectional: give every block a second mixer that runs backwards; such a model does not stream.
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
        self.norm = choose("norm", config.norm, NORMS)(config.d_model) if config.prenorm else None
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
        for block in self._blocks():
            x = block(x, lengths=lengths, reset=reset, rate=rate)
        return self._last_norm(x, lengths)

    def _run(
        self, x: Tensor, state: State | None, lengths: Tensor | None, reset: Tensor | None, rate: float
    ) -> tuple[Tensor, State]:
        states = []
        for block, before in self._with_states(state):
            x, after = block.prefill(x, before, lengths=lengths, reset=reset, rate=rate)
            states.append(after)
        return self._last_norm(x, lengths), tuple(states)

    def _step(self, x_t: Tensor, state: State, rate: float) -> tuple[Tensor, State]:
        states = []
        for block, before in self._with_states(state):
            x_t, after = block.step(x_t, before, rate=rate)
            states.append(after)
        return self._last_norm(x_t), tuple(states)

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
    feedforward: str | Mixer | None = config.feedforward
    if feedforward == "rwkv":  # whose initialisation depends on the depth
        feedforward = RWKVChannelMix(config.d_model, layer=i, layers=config.n_layers)
    return Block(
        _mixer(config, i),
        norm=config.norm,
        prenorm=config.prenorm,
        dropout=config.dropout,
        feedforward=feedforward,
        backward=_mixer(config, i) if config.bidirectional else None,
    )


def _mixer(config: BackboneConfig, i: int) -> Mixer:
    """The mixer of block i; a misspelt option is answered with the nearest one."""
    mixer = choose("mixer", config.mixer, MIXERS)
    options = {name: name for name in inspect.signature(mixer).parameters if name != "d_model"}
    for name in config.mixer_options:
        choose(f"option of {config.mixer}", name, options)
    place = {name: at for name, at in {"layer": i, "layers": config.n_layers}.items() if name in options}
    try:
        return mixer(config.d_model, **{**place, **config.mixer_options})
    except TypeError as error:
        raise ConfigError(f"{config.mixer} cannot take mixer_options={config.mixer_options}: {error}") from error
