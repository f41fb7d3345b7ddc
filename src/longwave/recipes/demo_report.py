"""What the demonstration shows of its models: figures, pictures and a table."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from longwave import plots
from longwave.data import SIDE
from longwave.layers import LTIMixer
from longwave.models import Head
from longwave.pretrained.files import write_whole
from longwave.recipes.experiment import Outcome
from longwave.shapes import Float, Tensor

__all__ = ["Entry", "Streamed", "draw", "summarise"]

_READING = (
    "Same streamed: predictions that are the same pixel by pixel, through step, as from the whole sequence, and the "
    "largest difference of a logit between the two."
)
_RANDOM = (
    "The random A of each layer: the eigenvalues of a real Gaussian matrix, shifted to be stable (rightmost real part "
    "−1/2, like S4D's) and scaled to the extent of HiPPO-LegS's; drawn with the seed of the weights, then trained."
)

_ROW = (
    "{name}|{test_accuracy:.2%}|{streamed_identical}/{test_samples}|{streamed_max_logit_difference:.1e}|"
    "{training_seconds:.0f} s|{streaming_seconds:.0f} s"
)


class Streamed(NamedTuple):
    """What a model says after each position, read one by one, and the seconds it took for all sequences together."""

    logits: Float[Tensor, "samples time n_classes"]
    seconds: float


@dataclass(frozen=True)
class Entry:
    """One of the models that are compared.

    Args:
        name: what it is called in pictures.
        initial: the model before training.
        outcome: the trained model and how it did.
        logits: what the trained model says of the test images, as whole sequences.
        streamed: what it says of them, read one pixel at a time.
    """

    name: str
    initial: Head[Any]
    outcome: Outcome
    logits: Float[Tensor, "samples n_classes"]
    streamed: Streamed

    def figures(self) -> dict[str, str | int | float]:
        """What results.json and the table say of it."""
        last, whole = self.streamed.logits[:, -1], self.logits
        return {
            "name": self.name,
            "test_accuracy": self.outcome.results["test_accuracy"],
            "test_samples": len(whole),
            "training_seconds": self.outcome.results["seconds"],
            "streamed_identical": int((last.argmax(1) == whole.argmax(1)).sum()),
            "streamed_max_logit_difference": (last - whole).abs().max().item(),
            "largest_logit": whole.abs().max().item(),
            "streaming_seconds": round(self.streamed.seconds, 1),
        }


def draw(entries: Sequence[Entry], folder: Path) -> None:
    """Write the pictures: learning curves, accuracy by pixels read, kernels, eigenvalues, examples of the first model.

    Args:
        entries: the models that are compared.
        folder: where the PNG files go.
    """
    labels, length = entries[0].outcome.test.y, entries[0].streamed.logits.shape[1]
    curves = {e.name: (e.streamed.logits.argmax(2) == labels[:, None]).double().mean(0) for e in entries}
    before = {entry.name: _first_layer(entry.initial) for entry in entries}
    after = {entry.name: _first_layer(entry.outcome.model) for entry in entries}
    banks = [{name: layer.kernel(length) for name, layer in layers.items()} for layers in (before, after)]
    poles = [{name: layer.to_state_space().poles() for name, layer in layers.items()} for layers in (before, after)]
    figures = {
        "learning_curves": plots.learning_curves(
            {entry.name: entry.outcome.history for entry in entries},
            test={entry.name: {"accuracy": entry.outcome.results["test_accuracy"]} for entry in entries},
            title="S4D on sequential MNIST",
        ),
        "accuracy_over_time": plots.accuracy_over_time(curves, title="Accuracy while the test images are read"),
        "kernels": plots.kernels(
            banks[1], before=banks[0], title="Convolution kernels of the first layer before and after training"
        ),
        "eigenvalues": plots.eigenvalues(
            poles[1], before=poles[0], title="Eigenvalues of the first layer before and after training"
        ),
        "examples": _draw_examples(entries[0]),
    }
    for name, figure in figures.items():
        content = io.BytesIO()
        figure.savefig(content, format="png")
        write_whole(folder / f"{name}.png", content.getvalue())


def summarise(results: Mapping[str, Mapping[str, str | int | float]], folder: Path) -> None:
    """Print the models' figures as a table, how the random A was drawn, and where everything lies."""
    from rich import get_console
    from rich.table import Table

    table = Table(title="S4D on sequential MNIST, 784 steps")
    table.add_column("A begins as")
    for heading in ("test", "same streamed", "largest Δ", "training", "streaming"):
        table.add_column(heading, justify="right")
    for figures in results.values():
        row = _ROW.format(**figures)
        table.add_row(*row.split("|"))
    get_console().print(table)
    get_console().print(f"{_READING}\n{_RANDOM}\nPictures, metrics, models: {folder}/", highlight=False)


def _draw_examples(entry: Entry) -> plots.Figure:
    """Six images that were read right, and up to two that were not."""
    test, logits = entry.outcome.test, entry.streamed.logits
    right = logits[:, -1].argmax(1) == test.y
    chosen = right.nonzero().flatten().tolist()[:: max(1, int(right.sum()) // 6)][:6]
    chosen += (~right).nonzero().flatten().tolist()[:2]
    images = test.x[chosen].float().reshape(len(chosen), SIDE, SIDE)
    return plots.examples(images, test.y[chosen], logits[chosen].softmax(-1))


def _first_layer(model: Head[Any]) -> LTIMixer:
    return next(iter(model.backbone.lti_mixers().values()))
