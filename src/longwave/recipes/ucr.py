"""Time-series classification problems of the UCR and UEA archives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from longwave.data import split
from longwave.data import ucr as read
from longwave.models import BackboneConfig
from longwave.recipes.experiment import Experiment, Outcome, Parts
from longwave.train import OptimConfig, TrainerConfig

__all__ = ["UCRConfig", "presets", "ucr"]

_SPLIT_SEED = 0  # of the series that are held out: the same ones whatever the run's seed


@dataclass(frozen=True)
class UCRConfig:
    """Which problem, with the archive's own split.

    Args:
        problem: its name in the archive, such as JapaneseVowels, BasicMotions, GunPoint.
        held_out: the share of the training series that is kept from training and measured after every epoch.
        test: measure the test series once, after the training; false while settings are being chosen.
        fill: what becomes of missing values: "refuse" is an error, "linear" interpolates.
    """

    problem: str = "JapaneseVowels"
    held_out: float = 0.0
    test: bool = True
    fill: Literal["refuse", "linear"] = "refuse"

    @property
    def title(self) -> str:
        """The problem."""
        return self.problem

    def load(self, data_root: Path | None) -> Parts:
        """The series, standardised channel by channel with the training part's figures."""
        train, test = read(self.problem, data_root, fill=self.fill)
        train, held_out = split(train, self.held_out, _SPLIT_SEED) if self.held_out else (train, None)
        return Parts(train, held_out, test if self.test else None)


DATA = UCRConfig()
MODEL = BackboneConfig(d_model=64, n_layers=2, dropout=0.1)
OPTIM = OptimConfig(lr=4e-3)
TRAINER = TrainerConfig(epochs=60, batch_size=16)

# For a problem the defaults that differ from those above. Those of JapaneseVowels were chosen on 81 held-out series
# (--data.held_out 0.3 --data.test false, seeds 0, 1, 2; 60 epochs each), of which one is 1.2 %:
#   two directions  dt         d_model  dropout  decay  held out, %
#   no              1e-3..0.1  64       0.1      0.01   96.3  97.5  96.3
#   no              0.01..1    64       0.1      0.01   95.1  97.5  95.1
#   no              0.01..1    64       0.3      0.01   95.1  98.8  95.1
#   no              0.01..1    128      0.3      0.1    98.8  97.5  95.1
#   yes             0.01..1    64       0.1      0.01   97.5  97.5  97.5
#   yes             0.01..1    128      0.3      0.1    98.8  97.5  98.8   taken
PRESETS: dict[str, dict[str, Any]] = {
    "JapaneseVowels": {
        "model.bidirectional": True,
        "model.d_model": 128,
        "model.dropout": 0.3,
        "optim.weight_decay": 0.1,
    },
    "BasicMotions": {"trainer.epochs": 100, "trainer.batch_size": 10},
    "GunPoint": {"trainer.epochs": 150, "trainer.batch_size": 10},
    "ItalyPowerDemand": {"trainer.epochs": 100},
}


def presets(data: UCRConfig, mixer: str) -> dict[str, Any]:
    """Defaults for the problem; S4D's time scales are those of its short series."""
    short = data.problem == "JapaneseVowels" and mixer == "S4D"
    steps = {"model.mixer_options": {"dt_min": 0.01, "dt_max": 1.0}} if short else {}
    return PRESETS.get(data.problem, {}) | steps


def ucr(
    *,
    data: UCRConfig = DATA,
    model: BackboneConfig = MODEL,
    pooling: Literal["mean", "last"] = "mean",
    optim: OptimConfig = OPTIM,
    trainer: TrainerConfig = TRAINER,
    seed: int = 0,
    run: Path = Path("runs/ucr"),
    data_root: Path | None = None,
) -> Outcome:
    """Classify the series of a UCR or UEA problem, of one or several channels, of equal or unequal lengths.

    Args:
        data: which problem.
        model: the blocks and their mixer.
        pooling: what of the sequence is classified: "mean", or the "last" position.
        optim: the optimiser.
        trainer: the loop.
        seed: determines the first weights, the order of the series and dropout.
        run: the run folder; the same folder and settings go on with a training that was stopped.
        data_root: the folder that holds data sets; else $LONGWAVE_DATA and the cache are searched.

    Returns:
        The trained model, its history, the series, and its results on those that were not trained on.

    Raises:
        DataError: the problem is unknown, or its files are missing or damaged.
        ConfigError: a setting is out of its range, or the run folder holds a run with other settings.
        RunError: the run folder cannot be written.
        MissingExtraError: Lightning is not installed.
    """
    return Experiment("ucr", data, model, optim, trainer, seed, pooling=pooling).run(run, data_root)
