"""Heads: what turns a backbone into a model of something."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, final

import torch
from torch import nn

from longwave.layers.base import State
from longwave.layers.checks import check_input, check_positive, check_rate, check_sequence
from longwave.layers.options import choose
from longwave.layers.padding import real_positions
from longwave.models import checkpoint
from longwave.models.backbone import Backbone, BackboneConfig
from longwave.models.pooling import POOLINGS, Pooled
from longwave.shapes import Float, Int, Tensor


@dataclass(frozen=True)
class ClassifierConfig:
    """What a classifier is made of.

    Args:
        d_input: channels of the data.
        n_classes: number of classes.
        pooling: ``"mean"`` over the positions, or the ``"last"`` one.
        backbone: the stack between encoder and pooling.
    """

    d_input: int = 1
    n_classes: int = 10
    pooling: str = "mean"
    backbone: BackboneConfig = field(default_factory=BackboneConfig)


class ClassifierState(NamedTuple):
    """The backbone's state, and what has been pooled so far."""

    backbone: State
    pooled: Pooled


@final
class Classifier(nn.Module):
    """Sequence classifier: logits = W pool(backbone(E x + e)) + b.

    Args:
        config: widths, pooling and backbone.

    Raises:
        ConfigError: the configuration names something unknown or out of its range.

    Numerics: the running mean is kept in float64. ``forward``, any chunking of ``prefill`` and ``step`` agree to
        rounding, however long the stream.

    Example:
        >>> model = Classifier(ClassifierConfig(d_input=3, n_classes=5)).eval()
        >>> logits = model(torch.zeros(2, 100, 3))
        >>> state = model.initial_state(batch_size=2)
        >>> logits_so_far, state = model.step(torch.zeros(2, 3), state)
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        check_positive("d_input", config.d_input)
        check_positive("n_classes", config.n_classes)
        backbone = Backbone(config.backbone)
        self.config = config
        self.encoder = nn.Linear(config.d_input, backbone.d_model)
        self.backbone = backbone
        self.pooling = choose("pooling", config.pooling, POOLINGS)
        self.decoder = nn.Linear(backbone.d_model, config.n_classes)

    def forward(
        self, x: Float[Tensor, "batch time d_input"], *, lengths: Int[Tensor, " batch"] | None = None, rate: float = 1.0
    ) -> Float[Tensor, "batch n_classes"]:
        """Classify whole sequences.

        Args:
            x: the data, in the dtype and on the device of the parameters.
            lengths: each row's length in a right-padded batch; what stands beyond has no influence.
            rate: the sampling interval of x in units of that of training.

        Returns:
            The logits.

        Raises:
            ShapeError: x or lengths has the wrong shape, dtype, device or range.
            ConfigError: rate is not positive.
        """
        check_sequence(x, self.config.d_input, self.encoder.weight, lengths, None)
        h = self.backbone(self._encode(x), lengths=lengths, rate=rate)
        return self._decode(self._pool(self._nothing(x), h, lengths), x)

    def prefill(
        self,
        x: Float[Tensor, "batch time d_input"],
        state: ClassifierState | None = None,
        *,
        lengths: Int[Tensor, " batch"] | None = None,
        rate: float = 1.0,
    ) -> tuple[Float[Tensor, "batch n_classes"], ClassifierState]:
        """Take in a chunk of each sequence; the arguments are those of ``forward``, for this chunk.

        Args:
            state: what came before the chunk; None is nothing.

        Returns:
            The logits for all that has been seen, and the state after each row's own end.

        Raises:
            ShapeError, ConfigError: as ``forward``; also for a state that does not fit.
            UnsupportedError: the backbone is bidirectional.
        """
        check_sequence(x, self.config.d_input, self.encoder.weight, lengths, None)
        before, pooled = (None, self._nothing(x)) if state is None else state
        h, after = self.backbone.prefill(self._encode(x), before, lengths=lengths, rate=rate)
        pooled = self._pool(pooled, h, lengths)
        return self._decode(pooled, x), ClassifierState(after, pooled)

    def step(
        self, x_t: Float[Tensor, "batch d_input"], state: ClassifierState, *, rate: float = 1.0
    ) -> tuple[Float[Tensor, "batch n_classes"], ClassifierState]:
        """Take in one position; ``state`` is read, never written to.

        Args:
            x_t: the data at this position.
            state: what came before it, from ``initial_state``, ``prefill`` or ``step``.
            rate: as in ``forward``.

        Returns:
            The logits for all that has been seen, and the state after this position.

        Raises:
            ShapeError, ConfigError, UnsupportedError: as ``prefill``.
        """
        check_input(x_t, ("batch",), self.config.d_input, self.encoder.weight)
        check_rate(rate)
        h, after = self.backbone.step(self._encode(x_t), state.backbone, rate=rate)
        pooled = self.pooling.update(state.pooled, h[:, None], None)
        return self._decode(pooled, x_t), ClassifierState(after, pooled)

    def initial_state(
        self, batch_size: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> ClassifierState:
        """Return the state before the first position, for inputs of this dtype; the defaults are the parameters'."""
        device = self.encoder.weight.device if device is None else device
        layers = self.backbone.initial_state(batch_size, dtype=dtype, device=device)
        return ClassifierState(layers, self._empty(batch_size, device))

    def slow_parameters(self) -> tuple[str, ...]:
        """Name the parameters that want a small learning rate and no weight decay."""
        return tuple(f"backbone.{name}" for name in self.backbone.slow_parameters())

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the model to a folder that `longwave.load` reads, as config.json and model.safetensors."""
        return checkpoint.save(self, self.config, folder)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "Classifier":
        """Read a classifier from a folder that ``save`` wrote; `longwave.load` says what is refused."""
        return checkpoint.load(cls, ClassifierConfig, folder)

    def _encode(self, x: Tensor) -> Tensor:
        return self.encoder(x).to(x.dtype)

    def _decode(self, pooled: Pooled, x: Tensor) -> Tensor:
        return self.decoder(self.pooling.read(pooled).to(x.dtype))

    def _pool(self, pooled: Pooled, h: Tensor, lengths: Tensor | None) -> Pooled:
        real = None if lengths is None else real_positions(lengths, h.shape[1])
        return self.pooling.update(pooled, h, real)

    def _nothing(self, x: Tensor) -> Pooled:
        return self._empty(x.shape[0], x.device)

    def _empty(self, batch_size: int, device: torch.device | str) -> Pooled:
        """What is pooled of no positions."""
        value = torch.zeros(batch_size, self.config.backbone.d_model, dtype=torch.float64, device=device)
        return Pooled(value, torch.zeros(batch_size, dtype=torch.int64, device=device))
