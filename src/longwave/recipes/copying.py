"""Copying: some symbols are shown, and have to be repeated after a pause."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from longwave.data import copying as draw
from longwave.errors import ConfigError
from longwave.models import BackboneConfig
from longwave.recipes.drawn import draw_parts
from longwave.recipes.experiment import Experiment, Outcome, Parts
from longwave.train import OptimConfig, TrainerConfig

__all__ = ["CopyingConfig", "copying"]


@dataclass(frozen=True)
class CopyingConfig:
    """How much has to be remembered, and for how long.

    Args:
        memory: how many symbols are to be remembered.
        symbols: how many there are to choose from.
        lag: length of the pause, in positions.
        train_samples: how many sequences to train on; they stay the same in every epoch.
        held_out: how many more to measure after every epoch.
        test_samples: how many more to measure once, after the training; 0 while settings are being chosen.
        seed: of the drawing.

    Raises:
        ConfigError: a number is out of its range.
    """

    memory: int = 16
    symbols: int = 8
    lag: int = 64
    train_samples: int = 5000
    held_out: int = 0
    test_samples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.held_out, self.test_samples) < 0:
            raise ConfigError(
                f"held_out and test_samples must not be negative, got {self.held_out} and {self.test_samples}"
            )

    @property
    def title(self) -> str:
        """The task and its lengths."""
        return f"copying {self.memory} of {self.symbols} symbols after {self.lag} positions"

    def load(self, data_root: Path | None) -> Parts:
        """The sequences, drawn anew; each part with a seed of its own."""
        counts = (self.train_samples, self.held_out, self.test_samples)
        sizes = {"memory": self.memory, "symbols": self.symbols, "lag": self.lag}
        return draw_parts(draw, sizes, counts, self.seed, {})


DATA = CopyingConfig()
MODEL = BackboneConfig(d_model=64, n_layers=2)
OPTIM = OptimConfig(lr=4e-3)
TRAINER = TrainerConfig(epochs=30, batch_size=50)


def copying(
    *,
    data: CopyingConfig = DATA,
    model: BackboneConfig = MODEL,
    optim: OptimConfig = OPTIM,
    trainer: TrainerConfig = TRAINER,
    seed: int = 0,
    run: Path = Path("runs/copying"),
    data_root: Path | None = None,
) -> Outcome:
    """Repeat symbols that were shown before a pause.

    Args:
        data: the sequences.
        model: the blocks and their mixer.
        optim: the optimiser.
        trainer: the loop.
        seed: determines the first weights, the order of the sequences and dropout.
        run: the run folder; the same folder and settings go on with a training that was stopped.
        data_root: not used: the sequences are drawn.

    Returns:
        The trained model, its history, the sequences, and its results on those that were not trained on.

    Raises:
        ConfigError: a setting is out of its range, or the run folder holds a run with other settings.
        RunError: the run folder cannot be written.
        MissingExtraError: Lightning is not installed.
    """
    return Experiment("copying", data, model, optim, trainer, seed).run(run, data_root)
