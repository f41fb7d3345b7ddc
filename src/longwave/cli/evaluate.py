"""``longwave evaluate RUN``: measure a trained model, on the data of its run or on others."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from longwave.cli.parser import Parser
from longwave.cli.runs import data_type, model_of, recipe_of, run_parser
from longwave.data import Sequences
from longwave.errors import DataError
from longwave.models import Head
from longwave.recipes.experiment import Parts, Resampled, measure
from longwave.train import Run

__all__ = ["run"]

_DESCRIPTION = "Measure the model of a run folder; nothing is trained. --data.* take the run's settings: "


def run(words: list[str]) -> None:
    """Print the figures of the parts that the model of a run was not trained on."""
    parser = run_parser("evaluate", _DESCRIPTION + "RUN --help lists them.")
    parser.add_argument("run", metavar="RUN", type=Path, help="the run folder, before all options")
    parser.add_argument("--part", choices=["train", "held_out", "test"], help="measure this part alone")
    parser.add_argument(
        "--rate", type=float, default=1.0, help="the sampling interval of the data in units of that of training"
    )
    parser.add_argument("--data_root", type=Path | None, help="the folder that holds data sets")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    if words and not words[0].startswith("-"):
        _add_data(parser, Path(words[0]))
    asked = parser.parse_args(words)
    model = model_of(asked.run)
    parts = parser.instantiate(asked).data.load(asked.data_root)
    results = measure(model, _as_trained(model, _chosen(parts, asked.part, asked.rate)))
    if asked.json:
        print(json.dumps(results, indent=2))
    else:
        _show(results)


def _add_data(parser: Parser, folder: Path) -> None:
    """Offer the fields of the data that the run was trained on, at the run's values, the test part read."""
    settings = Run.read(folder).settings
    parser.add_class_arguments(data_type(recipe_of(settings, folder)), "data")
    test = {"test": True} if "test" in settings["data"] else {}  # synthetic tasks say how many sequences instead
    parser.set_defaults({f"data.{name}": value for name, value in {**settings["data"], **test}.items()})


def _chosen(parts: Parts, part: str | None, rate: float) -> Parts:
    """Only the part that was asked for, if one was, and every part at this rate."""
    if part is not None and getattr(parts, part) is None:
        raise DataError(f"this run has no {part.replace('_', '-')} part: choose another --part, or see --data.*")
    if part is None and rate == 1.0:
        return parts
    there = {"held_out": parts.held_out, "test": parts.test} if part is None else {part: getattr(parts, part)}
    return Parts(parts.train, resampled={name: Resampled(s, rate) for name, s in there.items() if s is not None})


def _as_trained(model: Head[Any], parts: Parts) -> Parts:
    """The same data, standardised as those that the model was trained on, if they are of the same kind."""
    trained = model.config.data

    def as_trained(samples: Sequences) -> Sequences:
        if list(samples.classes) != trained.classes:
            raise DataError(f"the model knows the classes {trained.classes}, these data have {list(samples.classes)}")
        if samples.channels != model.config.d_input:
            raise DataError(f"the model reads {model.config.d_input} channels, these data have {samples.channels}")
        mean, std = (torch.tensor(figures) for figures in (trained.input_mean, trained.input_std))
        return dataclasses.replace(samples, mean=mean, std=std)

    held_out, test = (None if part is None else as_trained(part) for part in (parts.held_out, parts.test))
    resampled = {name: part._replace(samples=as_trained(part.samples)) for name, part in parts.resampled.items()}
    return Parts(parts.train, held_out, test, resampled)


def _show(results: dict[str, dict[str, int | float]]) -> None:
    from rich import get_console
    from rich.table import Table

    columns = list(next(iter(results.values()), {}))
    table = Table("part", *(column.replace("_", " ") for column in columns))
    for part, figures in results.items():
        table.add_row(part.replace("_", " "), *(f"{figures[column]:.6g}" for column in columns))
    get_console().print(table)
