"""What every model is: what goes in is encoded, a backbone maps it, and what is read of that is decoded."""

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import torch
from torch import nn

from longwave.layers.base import State
from longwave.layers.checks import check_rate
from longwave.models import checkpoint
from longwave.models.backbone import Backbone, BackboneConfig
from longwave.shapes import Float, Int, Tensor


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What every model has.

    Args:
        backbone: the stack in the middle.
    """

    backbone: BackboneConfig = field(default_factory=BackboneConfig)


class ModelState(NamedTuple):
    """The backbone's state, and what has been pooled so far: an empty tuple where nothing is pooled."""

    backbone: State
    pooled: Any


Config = TypeVar("Config", bound=ModelConfig)
Self = TypeVar("Self", bound="Model[Any]")


class Model(nn.Module, ABC, Generic[Config]):
    """A sequence model: y = decode(read(backbone(encode(x)))), over whole sequences or from a state to a state.

    A subclass says how its inputs are checked and encoded, what is read of the backbone's outputs, all of them or one
    vector, and how that is decoded.

    Attributes:
        config_type: the dataclass of the configuration.
        config: what the model was built from.
        backbone: the stack of blocks.
    """

    config_type: ClassVar[type[ModelConfig]]
    config: Config
    backbone: Backbone

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(
        self,
        x: Float[Tensor, "batch time d_input"] | Int[Tensor, "batch time"],
        *,
        lengths: Int[Tensor, " batch"] | None = None,
        rate: float = 1.0,
    ) -> Float[Tensor, "batch *positions d_output"]:
        """Map whole sequences.

        Args:
            x: what the model reads: standardised numbers in the dtype of the parameters, or the numbers of tokens.
            lengths: each row's length in a right-padded batch; what stands beyond has no influence.
            rate: the sampling interval of x in units of that of training.

        Returns:
            The outputs: one vector for each row, or one at every position, those beyond a row's length without meaning.

        Raises:
            ShapeError: x or lengths has the wrong shape, dtype, device or range.
            ConfigError: rate is not positive.
        """
        self._check(x, lengths)
        h = self.backbone(self._encode(x), lengths=lengths, rate=rate)
        read, _ = self._read(self._empty(x.shape[0], x.device), h, lengths)
        return self._decode(read, x)

    def prefill(
        self,
        x: Float[Tensor, "batch time d_input"] | Int[Tensor, "batch time"],
        state: ModelState | None = None,
        *,
        lengths: Int[Tensor, " batch"] | None = None,
        rate: float = 1.0,
    ) -> tuple[Float[Tensor, "batch *positions d_output"], ModelState]:
        """Take in a chunk of each sequence; the arguments are those of ``forward``, for this chunk.

        Args:
            state: what came before the chunk; None is nothing.

        Returns:
            The outputs, for all that has been seen or at the chunk's positions, and the state after each row's own end.

        Raises:
            ShapeError, ConfigError: as ``forward``; also for a state that does not fit.
            UnsupportedError: the backbone is bidirectional.
        """
        self._check(x, lengths)
        before, pooled = (None, self._empty(x.shape[0], x.device)) if state is None else state
        h, after = self.backbone.prefill(self._encode(x), before, lengths=lengths, rate=rate)
        read, pooled = self._read(pooled, h, lengths)
        return self._decode(read, x), ModelState(after, pooled)

    def step(
        self,
        x_t: Float[Tensor, "batch d_input"] | Int[Tensor, " batch"],
        state: ModelState,
        *,
        rate: float = 1.0,
    ) -> tuple[Float[Tensor, "batch d_output"], ModelState]:
        """Take in one position; ``state`` is read, never written to.

        Args:
            x_t: what the model reads at this position.
            state: what came before it, from ``initial_state``, ``prefill`` or ``step``.
            rate: as in ``forward``.

        Returns:
            The outputs, for all that has been seen or at this position, and the state after it.

        Raises:
            ShapeError, ConfigError, UnsupportedError: as ``prefill``.
        """
        self._check_step(x_t)
        check_rate(rate)
        h, after = self.backbone.step(self._encode(x_t), state.backbone, rate=rate)
        read, pooled = self._read(state.pooled, h[:, None], None)
        return self._decode(read.flatten(1), x_t), ModelState(after, pooled)

    def initial_state(
        self, batch_size: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> ModelState:
        """Return the state before the first position, for inputs of this dtype; the defaults are the parameters'."""
        device = next(self.backbone.parameters()).device if device is None else device
        layers = self.backbone.initial_state(batch_size, dtype=dtype, device=device)
        return ModelState(layers, self._empty(batch_size, device))

    def slow_parameters(self) -> tuple[str, ...]:
        """Name the parameters that want a small learning rate and no weight decay."""
        return tuple(f"backbone.{name}" for name in self.backbone.slow_parameters())

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the model to a folder that `longwave.load` reads, as config.json and model.safetensors."""
        return checkpoint.save(self, self.config, folder)

    @classmethod
    def load(cls: type[Self], folder: str | os.PathLike[str]) -> Self:
        """Read a model of this class from a folder that ``save`` wrote; `longwave.load` says what is refused."""
        return checkpoint.load(cls, cls.config_type, folder)

    @abstractmethod
    def _check(self, x: Tensor, lengths: Tensor | None) -> None:
        """Refuse what is not a batch of sequences that this model reads."""

    @abstractmethod
    def _check_step(self, x_t: Tensor) -> None:
        """Refuse what is not a position of such a batch."""

    @abstractmethod
    def _encode(self, x: Tensor) -> Float[Tensor, "*batch d_model"]:
        """Return what the backbone gets of x."""

    @abstractmethod
    def _empty(self, batch_size: int, device: torch.device | str) -> Any:
        """What is pooled of no positions."""

    @abstractmethod
    def _read(self, pooled: Any, h: Tensor, lengths: Tensor | None) -> tuple[Tensor, Any]:
        """Return what the decoder gets of a chunk h (batch, time, dim), and what is pooled with it."""

    @abstractmethod
    def _decode(self, read: Tensor, x: Tensor) -> Float[Tensor, "*batch d_output"]:
        """Return the outputs for what was read of x."""
