"""One row of figures per epoch: kept, logged in one line, and written to the run's metrics.csv."""

from __future__ import annotations

import logging
import time

from longwave.train._lightning import Callback, LightningModule, Trainer
from longwave.train.run import Run

__all__ = ["History"]

_log = logging.getLogger(__name__)


class History(Callback):
    """Collects each epoch's figures.

    Args:
        run: where metrics.csv is rewritten after each epoch; None: only kept in ``rows``.
    """

    def __init__(self, run: Run | None) -> None:
        self.run = run
        self.rows: list[dict[str, int | float]] = []
        self._began = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the epoch's clock."""
        self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch's row: its number, the steps so far, its seconds, losses and accuracies."""
        row: dict[str, int | float] = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        row["seconds"] = round(time.perf_counter() - self._began, 3)
        row |= {name: round(value.item(), 6) for name, value in sorted(trainer.callback_metrics.items())}
        self.rows.append(row)
        if self.run is not None:
            self.run.write_metrics(self.rows)
        _log.info("epoch %2d/%d  %s  %.1f s", row["epoch"], trainer.max_epochs, _shown(row), row["seconds"])


def _shown(row: dict[str, int | float]) -> str:
    """Loss and accuracy of each part, within 80 columns."""
    parts = [part for part in ("train", "held_out") if f"{part}_loss" in row]
    return "  ".join(
        f"{part.replace('_', ' ')}: {row[f'{part}_loss']:.3f}, {row[f'{part}_accuracy']:.2%}" for part in parts
    )
