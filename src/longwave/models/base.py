"""What every model of numbers is: a linear encoder, a backbone and a linear decoder, with the units of the data."""

import math
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import nn

from longwave.errors import ConfigError
from longwave.layers.checks import check_input, check_positive, check_sequence
from longwave.layers.options import choose
from longwave.layers.padding import real_positions
from longwave.models.backbone import Backbone
from longwave.models.model import Model, ModelConfig
from longwave.models.pooling import POOLINGS, Pooled
from longwave.shapes import Float, Tensor


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
class HeadConfig(ModelConfig):
    """What every model of numbers is made of, beside ``backbone``.

    Args:
        d_input: channels of the data.
        data: what the numbers that go in and out mean.
    """

    d_input: int = 1
    data: DataConfig = field(default_factory=DataConfig)


Config = TypeVar("Config", bound=HeadConfig)


class Head(Model[Config]):
    """A model of numbers: y = W read(backbone(E x + e)) + b, in the unit of the targets if ``config.data`` names it.

    A subclass says what is read of the backbone's outputs, by ``_empty`` and ``_read``: all of them, or one vector.

    Numerics: the decoder, whose outputs are few and are measured against targets, runs in the parameters' precision
        under autocast too. The outputs have the dtype of x.
    """

    def __init__(self, config: Config, d_output: int, *, n_classes: int) -> None:
        super().__init__(config)
        check_positive("d_input", config.d_input)
        config.data.check(config.d_input, d_output, n_classes)
        backbone = Backbone(config.backbone)
        self.encoder = nn.Linear(config.d_input, backbone.d_model)
        self.backbone = backbone
        self.decoder = nn.Linear(backbone.d_model, d_output)
        self.output_mean: Tensor | None
        self.output_std: Tensor | None
        for name in ("output_mean", "output_std"):
            numbers = getattr(config.data, name)
            self.register_buffer(name, torch.tensor(numbers) if numbers else None, persistent=False)

    def _check(self, x: Tensor, lengths: Tensor | None) -> None:
        check_sequence(x, self.config.d_input, self.encoder.weight, lengths, None)

    def _check_step(self, x_t: Tensor) -> None:
        check_input(x_t, ("batch",), self.config.d_input, self.encoder.weight)

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
