"""What is to be learned: how far outputs are from their targets, as sums that add up over batches and processes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, final

import torch

from longwave.data.sequences import NO_TARGET
from longwave.shapes import Float, Tensor

__all__ = ["OBJECTIVES", "Objective", "Sums"]


class Sums(NamedTuple):
    """What a batch contributes.

    Args:
        loss: summed over the targets, differentiable.
        totals: float64, one row per quantity; the first is the number of targets, the second the loss.
    """

    loss: Float[Tensor, ""]
    totals: Float[Tensor, "quantities outputs"]


class Objective(ABC):
    """A loss and metrics that are means over targets, whatever the batches.

    Attributes:
        pooled: whether a sequence has one output, or one at every position.
        metrics: their names; the first is the one that is shown.
    """

    pooled: bool
    metrics: tuple[str, ...]

    def __init__(self, pooled: bool) -> None:
        self.pooled = pooled

    @abstractmethod
    def sums(self, outputs: Tensor, y: Tensor, unit: Tensor | None = None, smoothing: float = 0.0) -> Sums:
        """Compare the outputs of a batch with its targets.

        Args:
            outputs: of the model.
            y: the targets.
            unit: what one of each output's errors counts in.
            smoothing: share of every target that is spread over all classes, where targets are classes.
        """

    @abstractmethod
    def figures(self, totals: Float[Tensor, "quantities outputs"]) -> dict[str, float]:
        """The loss and the metrics of totals that were added up; NaN where there was no target."""

    def higher_is_better(self, figure: str) -> bool:
        """Whether a larger value of a figure is the better one."""
        return figure in ("accuracy", "r2")


@final
class Categories(Objective):
    """Cross-entropy in nats and accuracy, of logits (..., classes) and classes (...); −100 is no target."""

    metrics = ("accuracy",)

    def sums(self, outputs: Tensor, y: Tensor, unit: Tensor | None = None, smoothing: float = 0.0) -> Sums:
        logits, y = outputs.float().flatten(0, -2), y.flatten()
        options = {"ignore_index": NO_TARGET, "label_smoothing": smoothing}
        loss = torch.nn.functional.cross_entropy(logits, y, reduction="sum", **options)
        with torch.no_grad():
            counts = (y != NO_TARGET).sum(), loss, (logits.argmax(1) == y).sum()
            return Sums(loss, torch.stack([count.double() for count in counts])[:, None])

    def figures(self, totals: Float[Tensor, "quantities outputs"]) -> dict[str, float]:
        targets, loss, right = totals[:, 0]
        return {"loss": (loss / targets).item(), "accuracy": (right / targets).item()}


@final
class Numbers(Objective):
    """Squared error of outputs (..., outputs) and numbers of the same shape; NaN is no target.

    The loss is in units of the targets' standard deviation, where the model knows it: large numbers do not drown small
    ones. ``mse`` and ``mae`` are means over all numbers, as they are. ``r2`` = 1 − Σ (y − ŷ)² / Σ (y − ȳ)² is the mean
    over outputs, where one whose targets are all equal has 1 if it is exact and 0 otherwise, as in scikit-learn.
    """

    metrics = ("r2", "mse", "mae")

    def sums(self, outputs: Tensor, y: Tensor, unit: Tensor | None = None, smoothing: float = 0.0) -> Sums:
        given = ~y.isnan()
        error = torch.where(given, outputs.float() - torch.where(given, y, 0.0), 0.0).flatten(0, -2)
        squared = (error if unit is None else error / unit).square()
        loss = squared.sum()
        with torch.no_grad():
            error, number = error.double(), torch.where(given, y, 0.0).double().flatten(0, -2)
            measures = error.square(), error.abs(), number, number.square()
            quantities = given.flatten(0, -2).double(), squared.double(), *measures
            return Sums(loss, torch.stack([quantity.sum(0) for quantity in quantities]))

    def figures(self, totals: Float[Tensor, "quantities outputs"]) -> dict[str, float]:
        targets, loss, squared, absolute, number, square = totals
        spread = (square - number.square() / targets).clamp(min=0)
        # What rounding leaves of a difference of nearly equal sums is no spread.
        spread = torch.where(spread > 1e-12 * square, spread, 0.0)
        r2 = torch.where(spread > 0, 1 - squared / spread, (squared == 0).double())[targets > 0].mean()
        loss, mse, mae = (total.sum() / targets.sum() for total in (loss, squared, absolute))
        return {"loss": loss.item(), "mse": mse.item(), "mae": mae.item(), "r2": r2.item()}


# name, which is also what Sequences.objective says -> loss and metrics
OBJECTIVES: Mapping[str, Objective] = MappingProxyType(
    {
        "classify": Categories(pooled=True),
        "regress": Numbers(pooled=True),
        "label": Categories(pooled=False),
        "track": Numbers(pooled=False),
    }
)
