"""Data of your own: recordings in a folder for each class, or arrays with their targets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from longwave.data import arrays, split, wavs
from longwave.errors import ConfigError
from longwave.models import BackboneConfig
from longwave.recipes.experiment import Experiment, Outcome, Parts
from longwave.train import OptimConfig, TrainerConfig

__all__ = ["FilesConfig", "files"]


@dataclass(frozen=True)
class FilesConfig:
    """Where the data lie, and which part of them is not trained on.

    Args:
        path: an .npz file with x, (samples, length[, channels]), and y; or a folder with train.npz and test.npz; or a
            folder with one sub-folder of .wav files for each class, perhaps within train/ and test/. Of y, integers
            or strings are classes, other numbers are estimated; (samples,) is one target for each sequence,
            (samples, length[, outputs]) one at every position. With lengths, (samples,), rows are padded.
        test_share: the share that becomes the test set, where path has none of its own.
        held_out: the share of the others that is measured after every epoch.
        split_seed: which samples these are.
        test: measure the test set once, after the training; false while settings are being chosen.

    Raises:
        ConfigError: a share is not between 0 and 1.
    """

    path: Path
    test_share: float = 0.2
    held_out: float = 0.0
    split_seed: int = 0
    test: bool = True

    def __post_init__(self) -> None:
        for name, low in (("test_share", self.test_share > 0), ("held_out", self.held_out >= 0)):
            if not low or getattr(self, name) >= 1:
                raise ConfigError(f"{name} is a share of the samples, below 1, got {getattr(self, name)}")

    @property
    def title(self) -> str:
        """The folder's or the file's name."""
        return self.path.stem

    def load(self, data_root: Path | None) -> Parts:
        """The sequences, standardised channel by channel with the training part's figures."""
        path = self.path.expanduser()
        is_array = path.suffix in (".npy", ".npz") or (path / "train.npz").exists()
        train, test = (arrays if is_array else wavs)(path, test=self.test_share, seed=self.split_seed)
        train, held_out = split(train, self.held_out, self.split_seed) if self.held_out else (train, None)
        return Parts(train, held_out, test if self.test else None)


MODEL = BackboneConfig(d_model=64, n_layers=4, dropout=0.1)
OPTIM = OptimConfig(lr=4e-3)
TRAINER = TrainerConfig(epochs=30, batch_size=20)


def files(
    *,
    data: FilesConfig,
    model: BackboneConfig = MODEL,
    pooling: Literal["mean", "last"] = "mean",
    optim: OptimConfig = OPTIM,
    trainer: TrainerConfig = TRAINER,
    seed: int = 0,
    run: Path = Path("runs/files"),
    data_root: Path | None = None,
) -> Outcome:
    """Learn classes or numbers from your own wav files or arrays.

    Args:
        data: where the data lie.
        model: the blocks and their mixer.
        pooling: what of a sequence with one target is read out: "mean", or the "last" position.
        optim: the optimiser.
        trainer: the loop.
        seed: determines the first weights, the order of the samples and dropout.
        run: the run folder; the same folder and settings go on with a training that was stopped.
        data_root: not used; the data lie where data.path says.

    Returns:
        The trained model, its history, the data, and its results on what was not trained on.

    Raises:
        DataError: a file is missing, of another type or shape, or holds values that are not finite.
        ConfigError: a setting is out of its range, or the run folder holds a run with other settings.
        RunError: the run folder cannot be written.
        MissingExtraError: Lightning is not installed.
    """
    return Experiment("files", data, model, optim, trainer, seed, pooling=pooling).run(run, data_root)
