"""What all experiments have in common: build a model for the data, train it, measure it once, leave a run folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch

from longwave.data import Sequences
from longwave.errors import ConfigError
from longwave.models import (
    BackboneConfig,
    Classifier,
    ClassifierConfig,
    DataConfig,
    Head,
    Regressor,
    RegressorConfig,
    SequenceModel,
    SequenceModelConfig,
)
from longwave.train import OptimConfig, Run, TrainerConfig, evaluate, fit, is_first_process

__all__ = ["Experiment", "Outcome", "Parts", "Resampled", "TaskConfig", "build", "measure"]

_log = logging.getLogger(__name__)

POSITIONS = 2**21  # of a batch that is measured, all rows together

History = list[dict[str, int | float]]


class Resampled(NamedTuple):
    """Test data at another sampling interval, ``rate`` in units of that of training."""

    samples: Sequences
    rate: float


class Parts(NamedTuple):
    """The parts of a data set.

    Args:
        train: what the model is trained on.
        held_out: what is kept from training and measured after every epoch, to choose settings by.
        test: what is measured once, after the training; None: it is not read.
        resampled: test data under other conditions, by the condition's name.
    """

    train: Sequences
    held_out: Sequences | None = None
    test: Sequences | None = None
    resampled: Mapping[str, Resampled] = {}


@runtime_checkable
class TaskConfig(Protocol):
    """A recipe's choice of data: a frozen dataclass, whose fields are ``--data.*``."""

    @property
    def title(self) -> str:
        """What the task is called in tables."""
        ...

    def load(self, data_root: Path | None) -> Parts:
        """Read the data."""
        ...


class Outcome(NamedTuple):
    """A trained model and how it did.

    Args:
        model: the model, in evaluation mode.
        history: a row of figures per epoch.
        parts: the data.
        results: what results.json holds.
    """

    model: Head[Any]
    history: History
    parts: Parts
    results: dict[str, Any]

    @property
    def test(self) -> Sequences:
        """The test data, where they were read."""
        assert self.parts.test is not None
        return self.parts.test


@dataclass(frozen=True)
class Experiment:
    """One training of one model on one data set.

    Args:
        recipe: the recipe's name, which config.yaml begins with.
        data: which data.
        model: the backbone; channels and classes come from the data.
        pooling: "mean" or "last", where a sequence has one target; None where every position has one.
        optim: the optimiser.
        trainer: the loop.
        seed: determines the first weights, the order of the samples, dropout and augmentation.

    Raises:
        ConfigError: the seed is negative.
    """

    recipe: str
    data: TaskConfig
    model: BackboneConfig
    pooling: str | None = field(default=None, kw_only=True)
    optim: OptimConfig
    trainer: TrainerConfig
    seed: int

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"seed must not be negative, got {self.seed}")

    def run(self, folder: Path, data_root: Path | None) -> Outcome:
        """Train, or go on where a training in the same folder stopped, and measure once at the end.

        Args:
            folder: the run folder.
            data_root: the folder that holds data sets; None: the usual places are searched.
        """
        parts = self.data.load(data_root)
        model = build(self.model, self.pooling, parts.train, self.seed)
        run = Run(folder)
        run.open(self._settings())
        with run.logging():
            said = "%s: %d training sequences, %d parameters, run folder %s"
            _log.info(said, self.data.title, len(parts.train), _parameters(model), folder)
            settings = {"objective": _objective(parts.train), "optim": self.optim, "trainer": self.trainer}
            history = fit(model, parts.train, parts.held_out, **settings, seed=self.seed, run=run)
            results = self._results(model, parts, history, run) if is_first_process() else {}
        return Outcome(model, history, parts, results)

    def _results(self, model: Head[Any], parts: Parts, history: History, run: Run) -> dict[str, Any]:
        """What results.json holds; a run that has it was measured before, and is not measured again."""
        results = Run.read(run.folder).results
        if results:
            return results
        results = {"recipe": self.recipe, "task": self.data.title, "parameters": _parameters(model)}
        results |= {"epochs": len(history), "seconds": round(sum(row["seconds"] for row in history), 1)}
        for part, figures in measure(model, parts).items():
            results |= {f"{part}_{name}": value for name, value in figures.items()}
        run.write_results(results)
        return results

    def _settings(self) -> dict[str, Any]:
        pooling = {} if self.pooling is None else {"pooling": self.pooling}
        settings = {"recipe": self.recipe, "data": self.data, "model": self.model, **pooling}
        return settings | {"optim": self.optim, "trainer": self.trainer, "seed": self.seed}


def build(backbone: BackboneConfig, pooling: str | None, samples: Sequences, seed: int) -> Head[Any]:
    """The model for some data as it is before training: the same for the same seed.

    Args:
        backbone: the stack between encoder and decoder.
        pooling: of one vector from a sequence; None where every position has a target.
        samples: the training data: they decide on the head, its width, the units and the classes' names.
        seed: of the first weights.

    Raises:
        ConfigError: something in the configuration is unknown or out of its range, or the data have no targets.
    """
    mean, std = samples.standardisation
    y_mean, y_std = samples.target_scale
    data = DataConfig(
        input_mean=mean, input_std=std, output_mean=y_mean, output_std=y_std, classes=list(samples.classes)
    )
    shared: dict[str, Any] = {"d_input": samples.channels, "backbone": backbone, "data": data}
    one = {"pooling": pooling or "mean"}
    torch.manual_seed(seed)
    match _objective(samples):
        case "classify":
            return Classifier(ClassifierConfig(n_classes=_classes(samples), **one, **shared))
        case "regress":
            return Regressor(RegressorConfig(n_outputs=samples.y.shape[1], **one, **shared))
        case "label":
            return SequenceModel(SequenceModelConfig(d_output=_classes(samples), **shared))
        case "track":
            return SequenceModel(SequenceModelConfig(d_output=samples.y.shape[2], **shared))


def measure(model: Head[Any], parts: Parts) -> dict[str, dict[str, int | float]]:
    """The figures of every part that was not trained on, logged in a line each.

    Args:
        model: the trained model.
        parts: the data; those that have been resampled are measured at their own rate.

    Returns:
        For each part its figures: loss, accuracy or errors, and the number of samples.
    """
    there = {"held_out": parts.held_out, "test": parts.test}
    measured = {part: Resampled(samples, 1.0) for part, samples in there.items() if samples is not None}
    results: dict[str, dict[str, int | float]] = {}
    for part, (samples, rate) in {**measured, **parts.resampled}.items():
        batch_size = max(1, min(100, POSITIONS // samples.longest))
        figures = evaluate(model, samples, _objective(samples), batch_size=batch_size, rate=rate)
        results[part] = {**figures, "samples": len(samples)}
        said = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
        _log.info("%s: %s on %d sequences", part.replace("_", " "), said, len(samples))
    return results


def _objective(samples: Sequences) -> Literal["classify", "regress", "label", "track"]:
    if samples.objective is None:
        raise ConfigError("these data have no targets to learn: give y beside x")
    return samples.objective


def _classes(samples: Sequences) -> int:
    return len(samples.classes) or int(samples.y.max()) + 1


def _parameters(model: Head[Any]) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
