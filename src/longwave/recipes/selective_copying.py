"""Selective copying: symbols scattered among blanks have to be repeated in their order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from longwave.data import selective_copying as draw
from longwave.models import BackboneConfig
from longwave.recipes.drawn import draw_parts
from longwave.recipes.experiment import Experiment, Outcome, Parts
from longwave.train import OptimConfig, TrainerConfig

__all__ = ["SelectiveCopyingConfig", "selective_copying"]


@dataclass(frozen=True)
class SelectiveCopyingConfig:
    """How much has to be remembered, among how many blanks.

    Args:
        length: positions that are read, symbols and blanks.
        memory: how many symbols are to be remembered.
        symbols: how many there are to choose from; with blank and marker two more.
        fewest: in training every sequence has its own number of symbols, from ``fewest`` to ``memory``: a few are soon
            learned, and lead to the many. None: always ``memory``, as in the tests and in the paper.
        train_samples: how many sequences to train on; they stay the same in every epoch.
        held_out: how many more to measure after every epoch.
        test_samples: how many more to measure once, after the training; 0 while settings are being chosen.
        seed: of the drawing.

    Raises:
        ConfigError: a number is out of its range.
    """

    length: int = 256
    memory: int = 5
    symbols: int = 14
    fewest: int | None = 1
    train_samples: int = 20000
    held_out: int = 0
    test_samples: int = 1000
    seed: int = 0

    @property
    def title(self) -> str:
        """The task and its lengths."""
        return f"selective copying of {self.memory} among {self.length} positions"

    def load(self, data_root: Path | None) -> Parts:
        """The sequences, drawn anew; each part with a seed of its own."""
        counts = (self.train_samples, self.held_out, self.test_samples)
        sizes = {"length": self.length, "memory": self.memory, "symbols": self.symbols}
        return draw_parts(draw, sizes, counts, self.seed, {}, training={"fewest": self.fewest})


# The Mamba paper has 16 symbols among 4096 positions, batches of 64, a learning rate of 1e-4 and 400,000 steps; this is
# for a CPU. The layers are narrow because wide ones do much of the task without selection (docs/results.md).
DATA = SelectiveCopyingConfig()
MODEL = BackboneConfig(d_model=32, n_layers=2, mixer="Mamba", norm="rms")
OPTIM = OptimConfig(lr=4e-3)
TRAINER = TrainerConfig(epochs=20, batch_size=32)


def selective_copying(
    *,
    data: SelectiveCopyingConfig = DATA,
    model: BackboneConfig = MODEL,
    optim: OptimConfig = OPTIM,
    trainer: TrainerConfig = TRAINER,
    seed: int = 0,
    run: Path = Path("runs/selective_copying"),
    data_root: Path | None = None,
) -> Outcome:
    """Repeat symbols that were scattered among blanks.

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
    return Experiment("selective_copying", data, model, optim, trainer, seed).run(run, data_root)
