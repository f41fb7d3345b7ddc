"""The models: what a backbone is read out for."""

from dataclasses import dataclass
from typing import final

import torch

from longwave.layers.checks import check_positive
from longwave.models.base import Head, HeadConfig, PooledHead
from longwave.shapes import Tensor


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(HeadConfig):
    """What a classifier is made of, beside ``d_input``, ``backbone`` and ``data``.

    Args:
        n_classes: number of classes.
        pooling: ``"mean"`` over the positions, or the ``"last"`` one.
    """

    n_classes: int = 10
    pooling: str = "mean"


@final
class Classifier(PooledHead[ClassifierConfig]):
    """Sequence classifier: logits = W pool(backbone(E x + e)) + b, (batch, n_classes).

    Args:
        config: widths, pooling and backbone.

    Raises:
        ConfigError: the configuration names something unknown or out of its range.

    Example:
        >>> model = Classifier(ClassifierConfig(d_input=3, n_classes=5)).eval()
        >>> logits = model(torch.zeros(2, 100, 3))
        >>> state = model.initial_state(batch_size=2)
        >>> logits_so_far, state = model.step(torch.zeros(2, 3), state)
    """

    config_type = ClassifierConfig

    def __init__(self, config: ClassifierConfig) -> None:
        check_positive("n_classes", config.n_classes)
        super().__init__(config, config.n_classes, pooling=config.pooling, n_classes=config.n_classes)


@dataclass(frozen=True, kw_only=True)
class RegressorConfig(HeadConfig):
    """What a regressor is made of, beside ``d_input``, ``backbone`` and ``data``.

    Args:
        n_outputs: number of real numbers that are estimated.
        pooling: ``"mean"`` over the positions, or the ``"last"`` one.
    """

    n_outputs: int = 1
    pooling: str = "mean"


@final
class Regressor(PooledHead[RegressorConfig]):
    """Sequence regression: y = W pool(backbone(E x + e)) + b, (batch, n_outputs).

    Args:
        config: widths, pooling and backbone.

    Raises:
        ConfigError: the configuration names something unknown or out of its range.

    Example:
        >>> Regressor(RegressorConfig(d_input=3, n_outputs=2))(torch.zeros(4, 100, 3)).shape
        torch.Size([4, 2])
    """

    config_type = RegressorConfig

    def __init__(self, config: RegressorConfig) -> None:
        check_positive("n_outputs", config.n_outputs)
        super().__init__(config, config.n_outputs, pooling=config.pooling, n_classes=0)


@dataclass(frozen=True, kw_only=True)
class SequenceModelConfig(HeadConfig):
    """What a model with an output at every position is made of, beside ``d_input``, ``backbone`` and ``data``.

    Args:
        d_output: channels of the output: real numbers, or the logits of that many classes.
    """

    d_output: int = 1


@final
class SequenceModel(Head[SequenceModelConfig]):
    """Sequence to sequence: y[t] = W backbone(E x + e)[t] + b, (batch, time, d_output).

    Args:
        config: widths and backbone.

    Raises:
        ConfigError: the configuration names something unknown or out of its range.

    Example:
        >>> SequenceModel(SequenceModelConfig(d_input=3, d_output=2))(torch.zeros(4, 100, 3)).shape
        torch.Size([4, 100, 2])
    """

    config_type = SequenceModelConfig

    def __init__(self, config: SequenceModelConfig) -> None:
        check_positive("d_output", config.d_output)
        super().__init__(config, config.d_output, n_classes=config.d_output)

    def _empty(self, batch_size: int, device: torch.device | str) -> tuple[()]:
        return ()

    def _read(self, pooled: tuple[()], h: Tensor, lengths: Tensor | None) -> tuple[Tensor, tuple[()]]:
        return h, ()
