"""Induction heads: what followed the marker when it came before, however long ago."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from longwave.data import induction_heads as draw
from longwave.models import BackboneConfig
from longwave.recipes.drawn import draw_parts
from longwave.recipes.experiment import Experiment, Outcome, Parts
from longwave.train import OptimConfig, TrainerConfig

__all__ = ["InductionHeadsConfig", "induction_heads"]


@dataclass(frozen=True)
class InductionHeadsConfig:
    """How long sequences are, in training and in the tests.

    Args:
        length: positions of a sequence in training.
        symbols: how many there are, the marker included.
        distances: between the markers in training: all equally likely, as in the tests and in the paper, or their
            logarithms. A short distance is soon learned, and leads to the long ones.
        test_lengths: further lengths to test at.
        train_samples: how many sequences to train on; they stay the same in every epoch.
        held_out: how many more to measure after every epoch.
        test_samples: how many more to measure once, after the training, at each length; 0 while settings are being
            chosen.
        seed: of the drawing.

    Raises:
        ConfigError: a number is out of its range.
    """

    length: int = 256
    symbols: int = 16
    distances: Literal["uniform", "logarithmic"] = "logarithmic"
    test_lengths: tuple[int, ...] = (64, 1024, 4096, 16384, 65536)
    train_samples: int = 16384
    held_out: int = 0
    test_samples: int = 1000
    seed: int = 0

    @property
    def title(self) -> str:
        """The task and its length."""
        return f"induction heads, {self.symbols} symbols, length {self.length}"

    def load(self, data_root: Path | None) -> Parts:
        """The sequences, drawn anew; each part with a seed of its own."""
        counts = (self.train_samples, self.held_out, self.test_samples)
        tests = {f"length_{length}": {"length": length} for length in self.test_lengths}
        sizes = {"length": self.length, "symbols": self.symbols}
        return draw_parts(draw, sizes, counts, self.seed, tests, training={"distances": self.distances})


# The Mamba paper has 25 epochs of 8,192 batches of 8 sequences, drawn anew, at a constant rate of 1e-3. In so much less
# time, how far the model reaches hangs on how fast A and the bias of dt learn: over 256 positions little is forgotten,
# so their gradients are small, and at the usual 1e-3 they stop where a state fades within 65,536.
DATA = InductionHeadsConfig()
MODEL = BackboneConfig(d_model=64, n_layers=2, mixer="Mamba", norm="rms")
OPTIM = OptimConfig(lr=3e-3, slow_lr=1e-2, weight_decay=0.0)
TRAINER = TrainerConfig(epochs=3, batch_size=16)


def induction_heads(
    *,
    data: InductionHeadsConfig = DATA,
    model: BackboneConfig = MODEL,
    optim: OptimConfig = OPTIM,
    trainer: TrainerConfig = TRAINER,
    seed: int = 0,
    run: Path = Path("runs/induction_heads"),
    data_root: Path | None = None,
) -> Outcome:
    """Find what followed a marker when it came before, in sequences up to 256 times as long as those of training.

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
    return Experiment("induction_heads", data, model, optim, trainer, seed, pooling="last").run(run, data_root)
