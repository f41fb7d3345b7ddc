"""Figures say what they show: axes with labels and units, one line per thing drawn, no global state."""

import sys

import pytest
import torch
from matplotlib.figure import Figure

from longwave import plots
from longwave.errors import ShapeError
from longwave.plots.bank import mean_lag

ROWS = [{"epoch": e, "train_loss": 1 / e, "train_accuracy": 1 - 0.5 / e} for e in (1, 2, 3)]
WATCHED = [{**row, "held_out_loss": 0.5, "held_out_accuracy": 0.75} for row in ROWS]


def drawn(figure: Figure) -> Figure:
    """The figure, after it was really rendered."""
    figure.draw_without_rendering()
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    return figure


def test_learning_curves():
    loss, accuracy = drawn(plots.learning_curves({"one": WATCHED, "two": ROWS}, {"two": 0.9})).axes
    assert (loss.get_xlabel(), loss.get_ylabel()) == ("epoch", "loss (nats)")
    assert accuracy.get_ylabel() == "accuracy (%)"
    assert [line.get_label() for line in loss.lines] == ["one, train", "one, held out", "two, train"]
    assert accuracy.lines[0].get_ydata().tolist() == pytest.approx([50, 75, 100 - 50 / 3])
    assert accuracy.lines[-1].get_label() == "two, test: 90.0 %"
    assert accuracy.lines[-1].get_xydata().tolist() == [[3, 90]]


def test_accuracy_over_time():
    (axes,) = drawn(plots.accuracy_over_time({"one": torch.tensor([0.1, 0.5])})).axes
    assert axes.lines[0].get_xydata().tolist() == [[1, 10], [2, 50]]


def test_kernels_show_the_same_channels_before_and_after():
    lag = torch.arange(50.0)
    slow_to_fast = torch.stack([(-lag / tau).exp() for tau in (20.0, 5.0, 1.0)])
    before, after = drawn(plots.kernels({"S4D": slow_to_fast}, {"S4D": -3 * slow_to_fast}, channels=2)).axes
    for axes, sign in ((before, 1), (after, -1)):
        curves = [line for line in axes.lines if len(line.get_ydata()) == 49]
        assert len(curves) == 2
        for height, (curve, channel) in enumerate(zip(curves, (2, 0), strict=True)):
            shape = slow_to_fast[channel, 1:]
            expected = height + 0.48 * sign * shape / shape[0]
            torch.testing.assert_close(torch.as_tensor(curve.get_ydata()), expected)


def test_mean_lag_of_a_geometric_kernel():
    r = torch.tensor([0.5, 0.9], dtype=torch.float64)
    bank = r[:, None] ** torch.arange(2000, dtype=torch.float64)
    # Σ l q^l / Σ q^l = 1 / (1 − q) over l ≥ 1, with q = r²
    torch.testing.assert_close(mean_lag(bank), 1 / (1 - r**2))


def test_eigenvalues_of_a_pair_are_drawn_once():
    poles = torch.polar(torch.tensor([0.5, 0.5]), torch.tensor([1.0, -1.0]))
    disk, plane = drawn(plots.eigenvalues({"LRU": poles}, {"LRU": poles})).axes
    for axes in (disk, plane):
        assert [len(points.get_offsets()) for points in axes.collections] == [1, 1]
    frequency, memory = plane.collections[0].get_offsets()[0]
    assert frequency == pytest.approx(1 / (2 * torch.pi), rel=1e-6)
    assert memory == pytest.approx(1 / torch.tensor(2.0).log().item(), rel=1e-6)


def test_examples_mark_what_was_read_wrong():
    probabilities = torch.tensor([[[0.9, 0.1]], [[0.2, 0.8]]])
    figure = drawn(plots.examples(torch.rand(2, 4, 4), torch.tensor([0, 0]), probabilities))
    assert [axes.get_title() for axes in figure.axes[:2]] == ["0, read as 0", "0, read as 1 (wrong)"]
    assert figure.axes[2].get_xlabel() == "pixels read"


def test_examples_need_one_row_each(unchecked):
    with pytest.raises(ShapeError, match="2 images, 3 labels, 2 probabilities"):
        plots.examples(torch.rand(2, 4, 4), torch.zeros(3, dtype=torch.long), torch.rand(2, 5, 10))
