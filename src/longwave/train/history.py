"""One row of figures per epoch: kept, logged in one line, written to metrics.csv and drawn by TensorBoard."""

from __future__ import annotations

import logging
import time
from typing import Any, final

from longwave.train._lightning import Callback, LightningModule, SummaryWriter, Trainer
from longwave.train.processes import is_first_process
from longwave.train.run import Run
from longwave.train.task import Task

__all__ = ["History", "Row"]

_log = logging.getLogger(__name__)

Row = dict[str, int | float]


@final
class History(Callback):
    """Collects each epoch's figures.

    Args:
        run: where metrics.csv is rewritten and tensorboard/ continued after each epoch; None: only kept in ``rows``.
    """

    def __init__(self, run: Run | None) -> None:
        self.run = run
        self.rows: list[Row] = []
        self._spent = 0.0
        self._began = 0.0
        self._writer: SummaryWriter | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock and open the curves; what an interrupted run drew beyond this step is taken back."""
        self._began = time.perf_counter()
        if self.run is not None and is_first_process():
            with self.run.writing():
                self._writer = SummaryWriter(str(self.run.tensorboard), purge_step=trainer.global_step + 1)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch's row: its number, the steps so far, its seconds, learning rate, losses and metrics."""
        assert isinstance(pl_module, Task)
        row: Row = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "seconds": round(self._seconds(), 3),
        }
        row |= {name: float(f"{value:.6g}") for name, value in {"lr": pl_module.lr, **pl_module.figures()}.items()}
        self._spent, self._began = 0.0, time.perf_counter()
        self.rows.append(row)
        if self.run is not None:
            self.run.write_metrics(self.rows)
        self._draw(row)
        shown = _shown(row, pl_module.objective.metrics[0])
        _log.info("epoch %2d/%d  %s  %.1f s", row["epoch"], trainer.max_epochs, shown, row["seconds"])

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close the curves, however training ended."""
        if self._writer is not None:
            self._writer.close()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: the rows, and the time spent in the present epoch."""
        return {"rows": self.rows, "spent": self._seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the rows of a checkpoint."""
        self.rows, self._spent = list(state_dict["rows"]), state_dict["spent"]

    def _seconds(self) -> float:
        return self._spent + time.perf_counter() - self._began

    def _draw(self, row: Row) -> None:
        if self._writer is None or self.run is None:
            return
        with self.run.writing():
            for name in row.keys() - {"epoch", "step"}:
                self._writer.add_scalar(name, row[name], global_step=int(row["step"]))
            self._writer.flush()


def _shown(row: Row, metric: str) -> str:
    """Loss and first metric of each part, within 80 columns."""
    form = "{:.2%}" if metric == "accuracy" else f"{metric} {{:.4g}}"
    parts = [part for part in ("train", "held_out") if f"{part}_loss" in row]
    return "  ".join(
        f"{part.replace('_', ' ')}: {row[f'{part}_loss']:.3f}, {form.format(row[f'{part}_{metric}'])}" for part in parts
    )
