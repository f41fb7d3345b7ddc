"""The run folder: what was asked for, what happened, and the model that came of it."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from longwave.errors import RunError
from longwave.models.checkpoint import write_whole

__all__ = ["Run"]


@dataclass(frozen=True)
class Run:
    """A folder with config.yaml, metrics.csv, results.json, log.txt and model/.

    Args:
        folder: the run's own folder; it is made when the run is opened.

    Example:
        >>> Run("runs/smnist").model
        PosixPath('runs/smnist/model')
    """

    folder: Path

    def __init__(self, folder: str | Path) -> None:
        object.__setattr__(self, "folder", Path(folder))

    @property
    def model(self) -> Path:
        """The model's own folder, as ``model.save`` writes it and ``longwave.load`` reads it."""
        return self.folder / "model"

    def open(self, settings: Mapping[str, Any]) -> None:
        """Make the folder and write the resolved settings to config.yaml.

        Args:
            settings: every argument of the recipe, with dataclasses and paths as they are.

        Raises:
            RunError: the folder cannot be made or written to, or holds a run with other settings.
        """
        config = yaml.safe_dump(_plain(settings), sort_keys=False)
        path = self.folder / "config.yaml"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if path.exists() and path.read_text() != config:
                raise RunError(f"{self.folder} holds a run with other settings; name another folder with --run")
            write_whole(path, config)
        except OSError as error:
            raise RunError(f"run folder {self.folder} cannot be written ({error}); name another with --run") from error

    def write_metrics(self, rows: Sequence[Mapping[str, int | float]]) -> None:
        """Write one row per epoch to metrics.csv."""
        text = io.StringIO()
        table = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        write_whole(self.folder / "metrics.csv", text.getvalue())

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Write the run's final figures to results.json."""
        write_whole(self.folder / "results.json", json.dumps(_plain(results), indent=2) + "\n")

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Copy what longwave logs to log.txt, anew."""
        handler = logging.FileHandler(self.folder / "log.txt", mode="w", encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s"))
        logger = logging.getLogger("longwave")
        level = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.setLevel(level)
            logger.removeHandler(handler)
            handler.close()


def _plain(value: Any) -> Any:
    """Dataclasses, paths and mappings as what YAML and JSON can write."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value
