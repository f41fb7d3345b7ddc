"""``longwave results RUN ...``: finished runs as a page of Markdown."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from longwave.cli.output import write_output
from longwave.cli.parser import Parser
from longwave.cli.runs import recipe_of
from longwave.cli.words import command_line
from longwave.errors import RunError
from longwave.recipes.published import PUBLISHED, SOURCES
from longwave.train import Record, Run

__all__ = ["page", "run"]

_HEAD = """# Results

Every line is made from the records of runs in `docs/runs`, by `longwave results docs/runs/* --out docs/results.md`.
Accuracy is in per cent, errors are mean squared; ± is the standard deviation over seeds, each of which is the command
with that `--seed`. Minutes are of training, on the machine that the run had.
"""
_NOTHING = "\nNothing has been run yet.\n"
_COLUMNS = (
    *("task", "measured on", "model", "parameters", "result", "seeds"),
    *("published", "epochs", "minutes", "command"),
)
_RIGHT = ("parameters", "result", "epochs", "minutes")


def run(words: list[str]) -> None:
    """Print the page for some run folders, or write it to a file."""
    parser = Parser(
        prog="longwave results", description="Tabulate finished runs; those that differ in the seed are one line."
    )
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="*", help="run folders")
    parser.add_argument("--out", type=Path | None, help="the Markdown file to write; else it is printed")
    asked = parser.parse_args(words)
    text = page(asked.runs or [])
    if asked.out is None:
        print(text, end="")
    else:
        write_output(asked.out, text)


def page(folders: Iterable[Path]) -> str:
    """The page for some run folders.

    Args:
        folders: finished runs; only config.yaml, metrics.csv and results.json are read.

    Raises:
        RunError: a folder is no run's, or its run is not finished.
    """
    groups: dict[str, list[Record]] = {}
    for folder in sorted(folders):
        record = Run.read(folder)
        recipe_of(record.settings, folder)
        if not record.results:
            raise RunError(f"{folder} has no results.json: its run is not finished")
        settings = {name: value for name, value in record.settings.items() if name != "seed"}
        groups.setdefault(json.dumps(settings, sort_keys=True), []).append(record)
    if not groups:
        return _HEAD + _NOTHING
    rows = sorted((row for records in groups.values() for row in _rows(records)), key=_in_order)
    tasks = dict.fromkeys(row[0] for row in rows)
    return "\n".join([_HEAD, *_table(rows), *_sources(tasks)]) + "\n"


def _rows(records: Sequence[Record]) -> Iterator[tuple[str, ...]]:
    """A row for each part that the runs of a group were measured on."""
    first = records[0]
    task = first.results["task"]
    parts = [name.removesuffix("_loss") for name in first.results if name.endswith("_loss")]
    for part in [part for part in parts if part != "held_out"] or parts:
        yield (
            task,
            part.replace("_", " "),
            _model(first.settings["model"]),
            f"{first.results['parameters']:,}",
            _result([record.results for record in records], part),
            ", ".join(str(seed) for seed in sorted(record.settings["seed"] for record in records)),
            ", ".join(f"{p.model} {p.accuracy:.2f}" for p in PUBLISHED.get(task, ()) if part == "test") or "–",
            _mean([record.results["epochs"] for record in records]),
            _mean([record.results["seconds"] / 60 for record in records]),
            f"`{command_line(first.settings)}`",
        )


def _in_order(row: tuple[str, ...]) -> list[tuple[str, int]]:
    """What sorts by task, part and model, and puts "length 4096" before "length 16384"."""
    return [(words, int(number or 0)) for cell in row[:3] for words, number in re.findall(r"(\D*)(\d*)", cell)]


def _model(model: Mapping[str, Any]) -> str:
    """A backbone in a few words."""
    options = [f"{name}={value}" for name, value in model["mixer_options"].items()]
    both = ["bidirectional"] if model["bidirectional"] else []
    return ", ".join([f"{model['mixer']} {model['n_layers']} × {model['d_model']}", *options, *both])


def _result(results: Sequence[Mapping[str, Any]], part: str) -> str:
    """The mean over seeds, and their spread where there are several."""
    if f"{part}_accuracy" in results[0]:
        figures, form = [100 * result[f"{part}_accuracy"] for result in results], ".2f"
    else:
        figures, form = [result[f"{part}_mse"] for result in results], ".3g"
    spread = f" ± {statistics.stdev(figures):{form}}" if len(figures) > 1 else ""
    return f"{statistics.mean(figures):{form}}{spread}"


def _mean(figures: Sequence[float]) -> str:
    return f"{statistics.mean(figures):.0f}" if statistics.mean(figures) >= 10 else f"{statistics.mean(figures):.2g}"


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    rule = ["---:" if column in _RIGHT else "---" for column in _COLUMNS]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in (_COLUMNS, rule, *rows)]


def _sources(tasks: Iterable[str]) -> list[str]:
    """The papers whose figures are shown."""
    named = dict.fromkeys(published.source for task in tasks for published in PUBLISHED.get(task, ()))
    return ["", "Published figures:", "", *(f"- {name}: {SOURCES[name]}" for name in named)] if named else []
