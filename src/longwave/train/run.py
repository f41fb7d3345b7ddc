"""The run folder: what was asked for, what happened, how to go on, and the model that came of it."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from longwave.errors import ConfigError, RunError
from longwave.pretrained.files import write_whole
from longwave.train.processes import is_first_process

__all__ = ["Record", "Run"]

_SHOWN = 3


class Record(NamedTuple):
    """What a run folder says.

    Args:
        settings: config.yaml.
        metrics: metrics.csv, one row per epoch; empty before the first.
        results: results.json; empty before the end.
    """

    settings: dict[str, Any]
    metrics: list[dict[str, int | float]]
    results: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A folder with config.yaml, metrics.csv, results.json, log.txt, model/, tensorboard/ and checkpoints/last.ckpt.

    Of several processes the first alone writes to it.

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

    @property
    def tensorboard(self) -> Path:
        """What TensorBoard draws."""
        return self.folder / "tensorboard"

    @property
    def state(self) -> Path:
        """What an interrupted training goes on from; nothing else reads it."""
        return self.folder / "checkpoints" / "last.ckpt"

    @property
    def finished(self) -> bool:
        """Whether training came to its end; the model is the last that is written, and its configuration last of it."""
        return (self.model / "config.json").exists()

    def open(self, settings: Mapping[str, Any]) -> None:
        """Make the folder and write the resolved settings to config.yaml, or find the same settings there.

        Args:
            settings: every argument of the recipe, with dataclasses and paths as they are.

        Raises:
            ConfigError: the folder holds a run with other settings.
            RunError: the folder cannot be made or written to, or holds what no settings belong to.
        """
        if not is_first_process():
            return
        config = yaml.safe_dump(_plain(settings), sort_keys=False, allow_unicode=True)
        path = self.folder / "config.yaml"
        if path.exists():
            self._require_same(yaml.safe_load(config))
            return
        if self.finished or self.state.exists():
            raise RunError(f"{self.folder} holds a run without its config.yaml; name another folder with --run")
        with self.writing():
            self.state.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, config)

    @classmethod
    def read(cls, folder: str | Path) -> Record:
        """What an existing run folder says.

        Raises:
            RunError: the folder is no run's, or a file in it is damaged.
        """
        run = cls(folder)
        if not (run.folder / "config.yaml").is_file():
            raise RunError(
                f"{run.folder} is not a run folder, it has no config.yaml; name one that longwave train made"
            )
        metrics, results = run.folder / "metrics.csv", run.folder / "results.json"
        rows = csv.DictReader(io.StringIO(metrics.read_text() if metrics.exists() else ""))
        try:
            history = [{name: _number(value) for name, value in row.items()} for row in rows]
            return Record(run._settings(), history, json.loads(results.read_text()) if results.exists() else {})
        except (ValueError, TypeError) as error:
            raise RunError(f"{run.folder} is damaged ({error}); restore it or train anew in another folder") from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other process from training in the folder, and sweep up what killed ones left half-written.

        Raises:
            RunError: another process trains in it, or it was not opened.
        """
        if not is_first_process():
            yield
            return
        if not (self.folder / "config.yaml").exists():
            raise RunError(f"run folder {self.folder} has no config.yaml: open the run with its settings first")
        with self.writing():
            file = (self.folder / ".lock").open("w")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                message = f"another process is training in {self.folder}; wait for it, or name another with --run"
                raise RunError(message) from error
            with self.writing():
                self.state.parent.mkdir(exist_ok=True)
                for partial in self.folder.rglob("*.partial"):
                    partial.unlink()
            yield

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn a failure to write, such as a full disk, into a RunError."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise RunError(
                f"run folder {self.folder} cannot be written ({reason}); make room there, or name another with --run"
            ) from error

    def write_metrics(self, rows: Sequence[Mapping[str, int | float]]) -> None:
        """Write one row per epoch to metrics.csv."""
        text = io.StringIO()
        table = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        self._write("metrics.csv", text.getvalue())

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Write the run's final figures to results.json."""
        self._write("results.json", json.dumps(_plain(results), indent=2) + "\n")

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Add what longwave logs to log.txt; of several processes only the first is heard, here and on the console."""
        logger = logging.getLogger("longwave")
        level, first = logger.level, is_first_process()
        handler = _LogFile(self) if first else logging.NullHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO if first else logging.CRITICAL)
        try:
            yield
        finally:
            logger.setLevel(level)
            logger.removeHandler(handler)
            handler.close()

    def _write(self, name: str, content: str) -> None:
        if is_first_process():
            with self.writing():
                write_whole(self.folder / name, content)

    def _settings(self) -> dict[str, Any]:
        path = self.folder / "config.yaml"
        try:
            settings = yaml.safe_load(path.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise RunError(f"{path} cannot be read ({' '.join(str(error).split())}); restore it") from error
        if not isinstance(settings, dict):
            raise RunError(f"{path} holds no settings; restore it, or name another folder with --run")
        return settings

    def _require_same(self, new: dict[str, Any]) -> None:
        """Name the first settings in which the run in the folder differs from ``new``."""
        before, after = _flat(self._settings()), _flat(new)
        names = [name for name in {**after, **before} if before.get(name, "(none)") != after.get(name, "(none)")]
        if not names:
            return
        shown = ", ".join(f"{n} {before.get(n, '(none)')} → {after.get(n, '(none)')}" for n in names[:_SHOWN])
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        raise ConfigError(
            f"{self.folder} holds a run with other settings: {shown}{more}; give those, "
            f"or name another folder with --run"
        )


class _LogFile(logging.FileHandler):
    """A log file that is written, or fails as every other file does."""

    def __init__(self, run: Run) -> None:
        self.run = run
        with run.writing():
            super().__init__(run.folder / "log.txt", encoding="utf-8")

    def handleError(self, record: logging.LogRecord) -> None:
        with self.run.writing():
            raise


def _plain(value: Any) -> Any:
    """Dataclasses, paths, tuples and mappings as what YAML and JSON can write."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names; an empty mapping is a value of its own."""
    flat = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)
