"""What every model is: an encoder, a backbone and a decoder, over whole sequences or from a state to a state."""

import math
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import torch
from torch import nn

from longwave.errors import ConfigError
from longwave.layers.base import State
from longwave.layers.checks import check_input, check_positive, check_rate, check_sequence
from longwave.layers.options import choose
from longwave.layers.padding import real_positions
from longwave.models import checkpoint
from longwave.models.backbone import Backbone, BackboneConfig
from longwave.models.pooling import POOLINGS, Pooled
from longwave.shapes import Float, Int, Tensor


@dataclass(frozen=True)
class DataConfig:
    """What the numbers that go in and out of a model mean: with it a model can be used on data as they were recorded.

    A model's x is standardised already, as :meth:`standardise` does it; its outputs are in the unit of the targets.

    Args:
        input_mean: the mean of each channel of the training data; empty if they were not standardised.
        input_std: the standard deviation of each channel.
        output_mean: the mean of each number that is estimated: what the decoder gives is a deviation from it,
        output_std: in this unit. Empty: the decoder's outputs as they are, such as logits.
        classes: the names of the classes, in the order of the logits; empty if they have none.
    """

    input_mean: list[float] = field(default_factory=list)
    input_std: list[float] = field(default_factory=list)
    output_mean: list[float] = field(default_factory=list)
    output_std: list[float] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)

    def standardise(self, x: Float[Tensor, "*batch channels"]) -> Float[Tensor, "*batch channels"]:
        """Return (x − mean) / std, channel by channel, or x where the training data were not standardised."""
        if not self.input_mean:
            return x
        return (x - x.new_tensor(self.input_mean)) / x.new_tensor(self.input_std)

    def check(self, d_input: int, d_output: int, n_classes: int) -> None:
        """Refuse, as a ConfigError, what does not fit a model of so many input channels, outputs and classes."""
        for side, channels in (("input", d_input), ("output", d_output)):
            mean, std = getattr(self, f"{side}_mean"), getattr(self, f"{side}_std")
            for name, values in ((f"{side}_mean", mean), (f"{side}_std", std)):
                if len(values) != (channels if mean or std else 0):
                    raise ConfigError(f"data.{name} has {len(values)} numbers, but the {side} has {channels} channels")
                if not all(map(math.isfinite, values)):
                    raise ConfigError(f"data.{name}={values} must be finite")
            if not all(value > 0 for value in std):
                raise ConfigError(f"data.{side}_std={std} must be positive: a constant channel has 1")
        if len(self.classes) not in (0, n_classes):
            raise ConfigError(f"data.classes has {len(self.classes)} names, but the model has {n_classes} classes")
        if len(set(self.classes)) < len(self.classes):
            raise ConfigError(f"data.classes={self.classes} names a class twice")


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """What every model is made of.

    Args:
        d_input: channels of the data.
        backbone: the stack between encoder and decoder.
        data: what the numbers that go in and out mean.
    """

    d_input: int = 1
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    data: DataConfig = field(default_factory=DataConfig)


class HeadState(NamedTuple):
    """The backbone's state, and what has been pooled so far: an empty tuple where nothing is pooled."""

    backbone: State
    pooled: Any


Config = TypeVar("Config", bound=HeadConfig)
Model = TypeVar("Model", bound="Head[Any]")


class Head(nn.Module, ABC, Generic[Config]):
    """A sequence model: y = W read(backbone(E x + e)) + b, in the unit of the targets if ``config.data`` names it.

    A subclass says what is read of the backbone's outputs, by ``_empty`` and ``_read``: all of them, or one vector.

    Numerics: the decoder, whose outputs are few and are measured against targets, runs in the parameters' precision
        under autocast too. The outputs have the dtype of x.

    Attributes:
        config_type: the dataclass of the configuration.
        config: what the model was built from.
    """

    config_type: ClassVar[type[HeadConfig]]
    config: Config

    def __init__(self, config: Config, d_output: int, *, n_classes: int) -> None:
        super().__init__()
        check_positive("d_input", config.d_input)
        config.data.check(config.d_input, d_output, n_classes)
        backbone = Backbone(config.backbone)
        self.config = config
        self.encoder = nn.Linear(config.d_input, backbone.d_model)
        self.backbone = backbone
        self.decoder = nn.Linear(backbone.d_model, d_output)
        self.output_mean: Tensor | None
        self.output_std: Tensor | None
        for name in ("output_mean", "output_std"):
            numbers = getattr(config.data, name)
            self.register_buffer(name, torch.tensor(numbers) if numbers else None, persistent=False)

    def forward(
        self, x: Float[Tensor, "batch time d_input"], *, lengths: Int[Tensor, " batch"] | None = None, rate: float = 1.0
    ) -> Float[Tensor, "batch *positions d_output"]:
        """Map whole sequences.

        Args:
            x: the data, standardised, in the dtype and on the device of the parameters.
            lengths: each row's length in a right-padded batch; what stands beyond has no influence.
            rate: the sampling interval of x in units of that of training.

        Returns:
            The outputs: one vector for each row, or one at every position, those beyond a row's length without meaning.

        Raises:
            ShapeError: x or lengths has the wrong shape, dtype, device or range.
            ConfigError: rate is not positive.
        """
        check_sequence(x, self.config.d_input, self.encoder.weight, lengths, None)
        h = self.backbone(self._encode(x), lengths=lengths, rate=rate)
        read, _ = self._read(self._empty(x.shape[0], x.device), h, lengths)
        return self._decode(read, x)

    def prefill(
        self,
        x: Float[Tensor, "batch time d_input"],
        state: HeadState | None = None,
        *,
        lengths: Int[Tensor, " batch"] | None = None,
        rate: float = 1.0,
    ) -> tuple[Float[Tensor, "batch *positions d_output"], HeadState]:
        """Take in a chunk of each sequence; the arguments are those of ``forward``, for this chunk.

        Args:
            state: what came before the chunk; None is nothing.

        Returns:
            The outputs, for all that has been seen or at the chunk's positions, and the state after each row's own end.

        Raises:
            ShapeError, ConfigError: as ``forward``; also for a state that does not fit.
            UnsupportedError: the backbone is bidirectional.
        """
        check_sequence(x, self.config.d_input, self.encoder.weight, lengths, None)
        before, pooled = (None, self._empty(x.shape[0], x.device)) if state is None else state
        h, after = self.backbone.prefill(self._encode(x), before, lengths=lengths, rate=rate)
        read, pooled = self._read(pooled, h, lengths)
        return self._decode(read, x), HeadState(after, pooled)

    def step(
        self, x_t: Float[Tensor, "batch d_input"], state: HeadState, *, rate: float = 1.0
    ) -> tuple[Float[Tensor, "batch d_output"], HeadState]:
        """Take in one position; ``state`` is read, never written to.

        Args:
            x_t: the data at this position.
            state: what came before it, from ``initial_state``, ``prefill`` or ``step``.
            rate: as in ``forward``.

        Returns:
            The outputs, for all that has been seen or at this position, and the state after it.

        Raises:
            ShapeError, ConfigError, UnsupportedError: as ``prefill``.
        """
        check_input(x_t, ("batch",), self.config.d_input, self.encoder.weight)
        check_rate(rate)
        h, after = self.backbone.step(self._encode(x_t), state.backbone, rate=rate)
        read, pooled = self._read(state.pooled, h[:, None], None)
        return self._decode(read.flatten(1), x_t), HeadState(after, pooled)

    def initial_state(
        self, batch_size: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> HeadState:
        """Return the state before the first position, for inputs of this dtype; the defaults are the parameters'."""
        device = self.encoder.weight.device if device is None else device
        layers = self.backbone.initial_state(batch_size, dtype=dtype, device=device)
        return HeadState(layers, self._empty(batch_size, device))

    def slow_parameters(self) -> tuple[str, ...]:
        """Name the parameters that want a small learning rate and no weight decay."""
        return tuple(f"backbone.{name}" for name in self.backbone.slow_parameters())

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the model to a folder that `longwave.load` reads, as config.json and model.safetensors."""
        return checkpoint.save(self, self.config, folder)

    @classmethod
    def load(cls: type[Model], folder: str | os.PathLike[str]) -> Model:
        """Read a model of this class from a folder that ``save`` wrote; `longwave.load` says what is refused."""
        return checkpoint.load(cls, cls.config_type, folder)

    @abstractmethod
    def _empty(self, batch_size: int, device: torch.device | str) -> Any:
        """What is pooled of no positions."""

    @abstractmethod
    def _read(self, pooled: Any, h: Tensor, lengths: Tensor | None) -> tuple[Tensor, Any]:
        """Return what the decoder gets of a chunk h (batch, time, dim), and what is pooled with it."""

    def _encode(self, x: Tensor) -> Tensor:
        return self.encoder(x).to(x.dtype)

    def _decode(self, read: Tensor, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            y = self.decoder(read.to(self.decoder.weight.dtype))
            if self.output_mean is not None and self.output_std is not None:
                y = self.output_mean + self.output_std * y
            return y.to(x.dtype)


class PooledHead(Head[Config]):
    """A model with one output for a whole sequence: what is read is a pooled vector.

    Numerics: the running mean is kept in float64. ``forward``, any chunking of ``prefill`` and ``step`` agree to
        rounding, however long the stream.
    """

    def __init__(self, config: Config, d_output: int, *, pooling: str, n_classes: int) -> None:
        super().__init__(config, d_output, n_classes=n_classes)
        self.pooling = choose("pooling", pooling, POOLINGS)

    def _empty(self, batch_size: int, device: torch.device | str) -> Pooled:
        value = torch.zeros(batch_size, self.config.backbone.d_model, dtype=torch.float64, device=device)
        return Pooled(value, torch.zeros(batch_size, dtype=torch.int64, device=device))

    def _read(self, pooled: Pooled, h: Tensor, lengths: Tensor | None) -> tuple[Tensor, Pooled]:
        real = None if lengths is None else real_positions(lengths, h.shape[1])
        pooled = self.pooling.update(pooled, h, real)
        return self.pooling.read(pooled), pooled
