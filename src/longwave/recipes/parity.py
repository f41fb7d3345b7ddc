"""Parity: to count modulo two, in sequences longer than those of training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longwave.data import parity as draw
from longwave.models import BackboneConfig
from longwave.recipes.drawn import draw_parts
from longwave.recipes.experiment import Experiment, Outcome, Parts
from longwave.train import OptimConfig, TrainerConfig

__all__ = ["ParityConfig", "parity", "presets"]


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
    train_samples: int = 25600
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


# One layer and 10,000 steps with lengths up to 40, as in the Mamba-3 paper, of 64 sequences instead of 256; the paper
# lets the lengths grow, here every sequence holds all of them.
DATA = ParityConfig()
MODEL = BackboneConfig(d_model=32, n_layers=1, mixer="Mamba3", norm="rms")
OPTIM = OptimConfig(lr=3e-3, label_smoothing=0.1)
TRAINER = TrainerConfig(epochs=24, batch_size=64)

# A one has to turn the state by π exactly, and a training on 40 positions would not see an error that shows after 100.
# It does where every position has to be equally sure (label_smoothing) and the model can see how the amplitude drifts:
# the norm after the mixer hides that, unless what the mixer adds is small beside the embedding (the decay of out_proj).
# Many angles that are nearly right would do for 40 positions too, hence the small state; steps begin large enough for a
# turn by π; and heavy_tail lets the state fade faster than softplus.
_STEPS = {"dt_min": 0.1, "dt_max": 1.0}
_OPTIONS: dict[str, dict[str, Any]] = {
    "Mamba2": {"d_state": 64, **_STEPS},
    "Mamba3": {"d_state": 4, "rope_fraction": 1.0, "A_activation": "softplus", **_STEPS},
}


def presets(data: ParityConfig, mixer: str) -> dict[str, Any]:
    """Defaults for Mamba-2 and Mamba-3."""
    if mixer not in _OPTIONS:
        return {}
    decay = {"*.out_proj.weight": {"lr": None, "weight_decay": 5.0, "lr_factor": 1.0}}
    return {"model.mixer_options": _OPTIONS[mixer], "optim.overrides": decay}


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
