"""Parity: to count modulo two, in sequences longer than those of training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from longwave.data import parity as draw
from longwave.models import BackboneConfig
from longwave.recipes.drawn import draw_parts
from longwave.recipes.experiment import Experiment, Outcome, Parts
from longwave.train import OptimConfig, TrainerConfig

__all__ = ["ParityConfig", "parity"]


@dataclass(frozen=True)
class ParityConfig:
    """How long sequences are, in training and in the test.

    Args:
        length: positions of a sequence in training; every beginning of it is asked for.
        test_length: positions of a sequence in the further test, which asks from ``length`` on.
        train_samples: how many sequences to train on; they stay the same in every epoch.
        held_out: how many more to measure after every epoch.
        test_samples: how many more to measure once, after the training, at both lengths; 0 while settings are being
            chosen.
        seed: of the drawing.

    Raises:
        ConfigError: a number is out of its range.
    """

    length: int = 40
    test_length: int = 256
    train_samples: int = 100000
    held_out: int = 0
    test_samples: int = 1000
    seed: int = 0

    @property
    def title(self) -> str:
        """The task and its lengths."""
        return f"parity, lengths up to {self.length}, tested up to {self.test_length}"

    def load(self, data_root: Path | None) -> Parts:
        """The sequences, drawn anew; each part with a seed of its own."""
        counts = (self.train_samples, self.held_out, self.test_samples)
        longer = {"length": self.test_length, "first": self.length}
        return draw_parts(draw, {"length": self.length}, counts, self.seed, {"longer": longer})


# One layer and 10,000 steps of 256 sequences with lengths up to 40, as in the Mamba-3 paper, which lets the lengths
# grow; here every sequence holds all of them.
DATA = ParityConfig()
MODEL = BackboneConfig(d_model=32, n_layers=1, mixer="Mamba3", norm="rms")
OPTIM = OptimConfig(lr=1e-3)
TRAINER = TrainerConfig(epochs=26, batch_size=256)


def parity(
    *,
    data: ParityConfig = DATA,
    model: BackboneConfig = MODEL,
    optim: OptimConfig = OPTIM,
    trainer: TrainerConfig = TRAINER,
    seed: int = 0,
    run: Path = Path("runs/parity"),
    data_root: Path | None = None,
) -> Outcome:
    """Say at every position whether the number of ones so far is odd.

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
    return Experiment("parity", data, model, optim, trainer, seed).run(run, data_root)
