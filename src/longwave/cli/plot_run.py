"""``longwave plot kernels|spectrum|curves RUN``: pictures of a run."""

from __future__ import annotations

from pathlib import Path

from longwave import plots
from longwave.cli.output import write_figure
from longwave.cli.runs import model_of, run_parser
from longwave.errors import RunError, UnsupportedError
from longwave.layers import LTIMixer
from longwave.train import Run

__all__ = ["run"]


def run(kind: str, described: str, words: list[str]) -> None:
    """Draw one picture of a run, and print the name of its file."""
    parser = run_parser(f"plot {kind}", f"Draw {described}.")
    parser.add_argument("run", metavar="RUN", type=Path, help="the run folder")
    parser.add_argument("--out", type=Path | None, help=f"the picture's file (default: {kind}.png in the run folder)")
    parser.add_argument("--length", type=int, default=1000, help="positions of a kernel, for plot kernels")
    asked = parser.parse_args(words)
    file = asked.run / f"{kind}.png" if asked.out is None else asked.out
    write_figure(file, _draw(kind, asked.run, asked.length))
    print(file)


def _draw(kind: str, folder: Path, length: int) -> plots.Figure:
    name = folder.resolve().name
    if kind == "curves":
        return _curves(folder, name)
    mixers = _mixers(folder)
    if kind == "kernels":
        return plots.kernels({layer: m.kernel(length) for layer, m in mixers.items()}, title=f"Kernels of {name}")
    poles = {layer: mixer.to_state_space().poles() for layer, mixer in mixers.items()}
    return plots.eigenvalues(poles, title=f"Discrete eigenvalues of {name}")


def _curves(folder: Path, name: str) -> plots.Figure:
    record = Run.read(folder)
    if not record.metrics:
        raise RunError(f"{folder} has no metrics.csv yet: its first epoch has not ended")
    test = {name.removeprefix("test_"): value for name, value in record.results.items() if name.startswith("test_")}
    return plots.learning_curves({name: record.metrics}, test={name: test}, title=f"Training of {name}")


def _mixers(folder: Path) -> dict[str, LTIMixer]:
    mixers = model_of(folder).backbone.lti_mixers()
    if not mixers:
        raise UnsupportedError(
            f"the model of {folder} has no linear time-invariant layer, whose kernels could be drawn"
        )
    return {name.replace("blocks.", "layer "): mixer for name, mixer in mixers.items()}
