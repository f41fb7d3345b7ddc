"""``longwave plot hippo [FILE]``: a signal, and what HiPPO memories hold of it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from longwave import plots
from longwave.cli.output import write_figure
from longwave.cli.parser import Parser
from longwave.data.arrays import load_arrays
from longwave.data.wav import WavError, read_wav
from longwave.errors import ConfigError, DataError
from longwave.math import MEASURES
from longwave.shapes import Float, Tensor

__all__ = ["run"]

_FILE = """.npy or .npz with one signal, (time,), an .npz with it as x; or .wav, of which the first channel is taken.
Without a file: a tone that rises from 0.2 to 3.2 Hz in ten seconds, on a slow swell"""


class _Signal(NamedTuple):
    """Samples, the time between them, and what that is counted in."""

    u: Float[Tensor, " time"]
    dt: float
    unit: str
    name: str


def run(kind: str, described: str, words: list[str]) -> None:
    """Draw the memories of a signal, and print the name of the picture's file."""
    parser = Parser(prog=f"longwave plot {kind}", usage=f"longwave plot {kind} [FILE] [options]")
    parser.description = f"Draw {described}."
    parser.add_argument("file", metavar="FILE", nargs="?", type=Path | None, help=" ".join(_FILE.split()))
    parser.add_argument("--measures", type=str, default=",".join(MEASURES), help="a row each, with commas between them")
    parser.add_argument("--order", type=int, default=32, help="number of coefficients, even if fourier is among them")
    parser.add_argument(
        "--theta",
        type=float | None,
        help="window or time constant of legt, lagt and fourier, in seconds, or samples if the file is no .wav "
        "(default: a quarter of the signal)",
    )
    parser.add_argument("--length", type=int | None, help="read this many samples from the beginning (default: all)")
    parser.add_argument("--out", type=Path, default=Path("hippo.png"), help="the picture's file")
    asked = parser.parse_args(words)
    u, dt, unit, name = _builtin() if asked.file is None else _read(asked.file.expanduser())
    if asked.length is not None and asked.length < 1:
        raise ConfigError(f"length={asked.length} must be positive: the number of samples to read")
    figure = plots.hippo(
        u[: asked.length],
        measures=asked.measures.split(","),
        order=asked.order,
        theta=asked.theta,
        dt=dt,
        unit=unit,
        title=f"What HiPPO remembers of {name}",
    )
    write_figure(asked.out, figure)
    print(asked.out)


def _builtin() -> _Signal:
    rate = 100.0
    return _Signal(plots.chirp(rate=rate), 1 / rate, "s", "a rising tone on a swell")


def _read(file: Path) -> _Signal:
    """The signal in a file of the user's."""
    if file.suffix == ".wav":
        return _recording(file)
    if file.suffix not in (".npy", ".npz"):
        raise DataError(f"{file} is not an .npy, .npz or .wav file; save the signal with numpy.save")
    arrays = load_arrays(file)
    if "x" not in arrays:
        raise DataError(f"{file} holds {sorted(arrays)}, but no x: save the signal with numpy.savez(file, x=...)")
    x = arrays["x"]
    if x.dtype.kind not in "fiub" or x.ndim != 1:
        raise DataError(
            f"{file}: x must be one signal of real numbers, (time,), got {x.dtype} {x.shape}: save x[0, :, 0]"
        )
    return _Signal(torch.from_numpy(x.astype(float)), 1.0, "samples", file.name)


def _recording(file: Path) -> _Signal:
    try:
        samples, rate = read_wav(file.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror or error}") from error
    except WavError as error:
        raise DataError(f"{file}: {error}") from error
    return _Signal(samples[:, 0], 1 / rate, "s", file.name)
