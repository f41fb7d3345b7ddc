"""Delay: a signal has to be given back after a while, at every step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from longwave.data import delay as draw
from longwave.errors import ConfigError
from longwave.models import BackboneConfig
from longwave.recipes.drawn import draw_parts
from longwave.recipes.experiment import Experiment, Outcome, Parts
from longwave.train import OptimConfig, TrainerConfig

__all__ = ["DelayConfig", "delay"]


@dataclass(frozen=True)
class DelayConfig:
    """Which signals, and how long they have to be remembered.

    Args:
        length: positions of a sequence.
        lag: how far back the target lies, in positions.
        band: the highest frequency of the signal, in cycles per position.
        train_samples: how many sequences to train on; they stay the same in every epoch.
        held_out: how many more to measure after every epoch.
        test_samples: how many more to measure once, after the training; 0 while settings are being chosen.
        seed: of the drawing.

    Raises:
        ConfigError: a number is out of its range.
    """

    length: int = 1000
    lag: int = 250
    band: float = 0.1
    train_samples: int = 1000
    held_out: int = 0
    test_samples: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.held_out, self.test_samples) < 0:
            raise ConfigError(
                f"held_out and test_samples must not be negative, got {self.held_out} and {self.test_samples}"
            )

    @property
    def title(self) -> str:
        """The task and its lengths."""
        return f"delay by {self.lag} of {self.length} positions"

    def load(self, data_root: Path | None) -> Parts:
        """The sequences, drawn anew; each part with a seed of its own."""
        counts = (self.train_samples, self.held_out, self.test_samples)
        sizes = {"length": self.length, "lag": self.lag, "band": self.band}
        return draw_parts(draw, sizes, counts, self.seed, {})


DATA = DelayConfig()
MODEL = BackboneConfig(d_model=64, n_layers=1)
OPTIM = OptimConfig(lr=4e-3)
TRAINER = TrainerConfig(epochs=20, batch_size=20)


def delay(
    *,
    data: DelayConfig = DATA,
    model: BackboneConfig = MODEL,
    optim: OptimConfig = OPTIM,
    trainer: TrainerConfig = TRAINER,
    seed: int = 0,
    run: Path = Path("runs/delay"),
    data_root: Path | None = None,
) -> Outcome:
    """Give a signal back after a delay, at every step.

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
    return Experiment("delay", data, model, optim, trainer, seed).run(run, data_root)
