"""``longwave predict RUN FILE``: what a trained model says of sequences, as CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from longwave.cli.output import write_output
from longwave.cli.runs import model_of, run_parser
from longwave.data import Sequences, read_array
from longwave.errors import DataError
from longwave.models import Classifier, Head, SequenceModel
from longwave.shapes import Float, Tensor
from longwave.train import predict

__all__ = ["run"]

_DESCRIPTION = """Write what the model of a run folder says of the sequences in a file, as CSV. Of a classifier: the
class and the probability of each. Of an estimator of numbers: the numbers. Where every position has an output: a line
for each position."""


def run(words: list[str]) -> None:
    """Predict for every sequence of a file, from model/ alone."""
    parser = run_parser("predict", " ".join(_DESCRIPTION.split()), "RUN FILE [options]")
    parser.add_argument("run", metavar="RUN", type=Path, help="the run folder")
    parser.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        help=".npy or .npz of (samples, length[, channels]) raw values, as the training data had them; "
        "an .npz holds them as x, with lengths if they differ",
    )
    parser.add_argument("--out", type=Path | None, help="the CSV file to write; else it is printed")
    parser.add_argument(
        "--rate", type=float, default=1.0, help="the sampling interval of the data in units of that of training"
    )
    parser.add_argument("--batch_size", type=int, default=100, help="sequences at a time")
    asked = parser.parse_args(words)
    model = model_of(asked.run)
    samples = _as_trained(model, read_array(asked.file), asked.file)
    outputs = predict(model, samples, asked.batch_size, rate=asked.rate)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(_lines(model, outputs, samples))
    if asked.out is None:
        print(text.getvalue(), end="")
    else:
        write_output(asked.out, text.getvalue())


def _as_trained(model: Head[Any], samples: Sequences, file: Path) -> Sequences:
    """The samples, standardised as the training data were."""
    if samples.channels != model.config.d_input:
        raise DataError(
            f"{file} has {samples.channels} channels, but the model reads {model.config.d_input}: "
            f"give an array of (samples, length, {model.config.d_input})"
        )
    data = model.config.data
    if not data.input_mean:
        return samples
    return dataclasses.replace(samples, mean=torch.tensor(data.input_mean), std=torch.tensor(data.input_std))


def _lines(model: Head[Any], outputs: Float[Tensor, "samples *positions outputs"], samples: Sequences) -> Iterator[Any]:
    """The lines of the table, the heading first."""
    classes = model.config.data.classes
    if isinstance(model, Classifier) and not classes:
        classes = [str(number) for number in range(outputs.shape[-1])]
    at = ["sample", "position"] if isinstance(model, SequenceModel) else ["sample"]
    if classes:
        yield [*at, "prediction", *(f"p({name})" for name in classes)]
    else:
        yield [*at, *(f"output {number}" for number in range(outputs.shape[-1]))]
    for sample, row in enumerate(outputs.tolist()):
        if isinstance(model, SequenceModel):
            length = len(row) if samples.lengths is None else int(samples.lengths[sample])
            yield from ([sample, position, *_said(output, classes)] for position, output in enumerate(row[:length]))
        else:
            yield [sample, *_said(row, classes)]


def _said(output: list[float], classes: list[str]) -> list[str]:
    """A prediction with its probabilities, or numbers."""
    if not classes:
        return [f"{number:.6g}" for number in output]
    p = torch.tensor(output).softmax(0)
    return [classes[int(p.argmax())], *(f"{share:.6f}" for share in p.tolist())]
