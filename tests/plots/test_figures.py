"""Figures say what they show: axes with labels and units, one line per thing drawn, no global state."""

import sys

import pytest
import torch
from matplotlib.figure import Figure

from longwave import plots
from longwave.errors import ConfigError, DataError, ShapeError
from longwave.layers import MIXERS, HiPPO, LTIMixer
from longwave.models import Backbone, BackboneConfig
from longwave.plots.bank import mean_lag

ROWS = [{"epoch": e, "train_loss": 1 / e, "train_accuracy": 1 - 0.5 / e} for e in (1, 2, 3)]
WATCHED = [{**row, "held_out_loss": 0.5, "held_out_accuracy": 0.75} for row in ROWS]


def drawn(figure: Figure) -> Figure:
    """The figure, after it was really rendered."""
    figure.draw_without_rendering()
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    return figure


def test_learning_curves():
    loss, accuracy = drawn(
        plots.learning_curves({"one": WATCHED, "two": ROWS}, test={"two": {"accuracy": 0.9, "loss": 1.0}})
    ).axes
    assert (loss.get_xlabel(), loss.get_ylabel(), loss.get_yscale()) == ("epoch", "loss", "linear")
    assert accuracy.get_ylabel() == "accuracy (%)"
    assert [line.get_label() for line in loss.lines] == ["one, train", "one, held out", "two, train", "two, test: 1"]
    assert accuracy.lines[0].get_ydata().tolist() == pytest.approx([50, 75, 100 - 50 / 3])
    assert accuracy.lines[-1].get_label() == "two, test: 90.00 %"
    assert accuracy.lines[-1].get_xydata().tolist() == [[3, 90]]


def test_learning_curves_of_a_regression_with_its_learning_rate():
    rows = [
        {"epoch": e, "train_loss": 4.0**-e, "train_mse": 4.0**-e, "train_mae": 0.0, "train_r2": -1.0, "lr": 1e-3}
        for e in (1, 2, 3)
    ]
    axes = drawn(plots.learning_curves({"delay": rows})).axes
    assert [a.get_ylabel() for a in axes] == ["loss", "mean absolute error", "R²", "learning rate"]
    # A logarithmic scale where it can be: not of errors that are zero.
    assert [a.get_yscale() for a in axes] == ["log", "linear", "linear", "linear"]
    assert axes[3].lines[0].get_ydata().tolist() == [1e-3] * 3
    apart = [{**row, "train_mse": 2 * row["train_mse"], "train_odd": 1.0} for row in rows]
    labels = [a.get_ylabel() for a in plots.learning_curves({"delay": apart}).axes]
    assert labels == ["loss", "mean squared error", "mean absolute error", "R²", "odd", "learning rate"]


def test_one_epoch_is_a_point_and_every_run_is_drawn():
    loss, _ = drawn(plots.learning_curves({f"run {i}": ROWS[:1] for i in range(8)})).axes
    assert len(loss.lines) == 8
    assert all(line.get_marker() == "." for line in loss.lines)
    assert [tick for tick in loss.get_xticks() if 0.5 < tick < 1.5] == [1]


def test_learning_curves_need_an_epoch_of_each_run():
    with pytest.raises(ShapeError, match=r"one epoch or more of each run, got one: 3, two: 0"):
        plots.learning_curves({"one": ROWS, "two": []})
    with pytest.raises(ShapeError, match="got no run"):
        plots.learning_curves({})


def test_accuracy_over_time():
    (axes,) = drawn(plots.accuracy_over_time({"one": torch.tensor([0.1, 0.5])})).axes
    assert axes.lines[0].get_xydata().tolist() == [[1, 10], [2, 50]]


def test_kernels_show_the_same_channels_before_and_after():
    lag = torch.arange(50.0)
    slow_to_fast = torch.stack([(-lag / tau).exp() for tau in (20.0, 5.0, 1.0)])
    before, after = drawn(plots.kernels({"S4D": -3 * slow_to_fast}, before={"S4D": slow_to_fast}, channels=2)).axes
    for axes, sign in ((before, 1), (after, -1)):
        curves = [line for line in axes.lines if len(line.get_ydata()) == 49]
        assert len(curves) == 2
        for height, (curve, channel) in enumerate(zip(curves, (2, 0), strict=True)):
            shape = slow_to_fast[channel, 1:]
            expected = height + 0.48 * sign * shape / shape[0]
            torch.testing.assert_close(torch.as_tensor(curve.get_ydata()), expected)


def test_kernels_of_one_model_are_named_by_channel():
    lag = torch.arange(50.0)
    fast, slow, none = (-lag).exp(), (-lag / 20).exp(), torch.zeros(50)
    bank, pairs = torch.stack([slow, fast]), torch.stack([torch.stack([slow, none]), torch.stack([fast, slow])])
    one, two = drawn(plots.kernels({"bank": bank, "multi-input": pairs}, channels=4)).axes
    assert [axes.get_title() for axes in (one, two)] == ["bank", "multi-input"]
    assert [label.get_text() for label in one.get_yticklabels()] == ["1", "0"]
    assert [label.get_text() for label in two.get_yticklabels()][:2] == ["0 ← 1", "1 ← 0"]


LTI_MIXERS = [name for name, mixer in MIXERS.items() if issubclass(mixer, LTIMixer)]


@pytest.mark.parametrize(
    ("mixer", "layers", "both_ways"), [("S4D", 8, False), ("LRU", 3, True), *((name, 1, True) for name in LTI_MIXERS)]
)
def test_every_layer_of_a_model_is_drawn(mixer, layers, both_ways):
    options = {"d_state": 4}
    config = BackboneConfig(d_model=4, n_layers=layers, mixer=mixer, mixer_options=options, bidirectional=both_ways)
    mixers = Backbone(config).lti_mixers()
    figure = drawn(plots.kernels({name: mixer.kernel(40) for name, mixer in mixers.items()}))
    assert [axes.get_title() for axes in figure.axes] == list(mixers)
    figure = drawn(plots.eigenvalues({name: mixer.to_state_space().poles() for name, mixer in mixers.items()}))
    assert [axes.get_title() for axes in figure.axes[::2]] == [f"{name}: unit disk" for name in mixers]
    assert all(axes.collections and axes.get_xlim() == figure.axes[1].get_xlim() for axes in figure.axes[1::2])


def test_kernels_need_layers_and_lags():
    with pytest.raises(ShapeError, match=r"one layer or more, .* got \[\]"):
        plots.kernels({})
    with pytest.raises(ShapeError, match=r"three positions or more, got \[50, 2\]"):
        plots.kernels({"a": torch.ones(3, 50), "b": torch.ones(3, 2)})
    with pytest.raises(ShapeError, match="one layer or more, got none"):
        plots.eigenvalues({})


def test_mean_lag_of_a_geometric_kernel():
    r = torch.tensor([0.5, 0.9], dtype=torch.float64)
    bank = r[:, None] ** torch.arange(2000, dtype=torch.float64)
    # Σ l q^l / Σ q^l = 1 / (1 − q) over l ≥ 1, with q = r²
    torch.testing.assert_close(mean_lag(bank), 1 / (1 - r**2))


def test_eigenvalues_of_a_pair_are_drawn_once():
    poles = torch.polar(torch.tensor([0.5, 0.5]), torch.tensor([1.0, -1.0]))
    disk, plane = drawn(plots.eigenvalues({"LRU": poles}, before={"LRU": poles})).axes
    for axes in (disk, plane):
        assert [len(points.get_offsets()) for points in axes.collections] == [1, 1]
    frequency, memory = plane.collections[0].get_offsets()[0]
    assert frequency == pytest.approx(1 / (2 * torch.pi), rel=1e-6)
    assert memory == pytest.approx(1 / torch.tensor(2.0).log().item(), rel=1e-6)
    assert plane.get_xlim() == (0.1, 1)
    assert plane.get_ylim() == (1, 10)


def test_real_and_unstable_eigenvalues_have_a_place():
    poles = torch.tensor([0.0, 0.5, 1.0, 1.1])
    _, plane = drawn(plots.eigenvalues({"one": poles})).axes
    assert len(plane.collections[0].get_offsets()) == 4


def test_confusion_counts_true_classes_by_row():
    labels, predictions = torch.tensor([0, 0, 0, 2]), torch.tensor([0, 1, 1, 2])
    axes, _ = drawn(plots.confusion(labels, predictions, ["a", "b", "c"])).axes
    assert [text.get_text() for text in axes.texts] == ["1", "2", "0", "0", "0", "0", "0", "0", "1"]
    shares = axes.images[0].get_array()
    torch.testing.assert_close(torch.as_tensor(shares)[0], torch.tensor([1 / 3, 2 / 3, 0]))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("taken for", "true class")
    assert not drawn(plots.confusion(labels, predictions, [str(i) for i in range(21)])).axes[0].texts


@pytest.mark.usefixtures("unchecked")
def test_confusion_needs_pairs_and_names():
    with pytest.raises(ShapeError, match="got 2 and 1"):
        plots.confusion(torch.tensor([0]), torch.tensor([0, 1]), ["a", "b"])
    with pytest.raises(ShapeError, match="classes has 2 names, but class numbers go from 0 to 2"):
        plots.confusion(torch.tensor([0]), torch.tensor([2]), ["a", "b"])


def hippo_axes(figure: Figure, measure: str) -> list:
    """The row of a measure: three memories, their measures, the error."""
    rows = {
        axes.get_ylabel().partition("\n")[0]: number for number, axes in enumerate(figure.axes) if axes.get_ylabel()
    }
    first = rows[measure]
    return figure.axes[first : first + 3], figure.axes[first + 4 : first + 7], figure.axes[first + 3]


def test_hippo_shows_the_memory_at_each_third_and_its_error():
    u = torch.linspace(-1, 1, 60, dtype=torch.float64) ** 3
    figure = drawn(plots.hippo(u, measures=["legs", "legt"], order=4, dt=0.5, unit="s", theta=6.0))
    memory = HiPPO(4, "legt", theta=6.0, dt=0.5)
    coefficients = memory(u[None])[0]
    memories, _, error = hippo_axes(figure, "LegT")
    for axes, count in zip(memories, (20, 40, 60), strict=True):
        expected = memory.approximation_error(u[None, :count], coefficients[None, count - 1]).item()
        assert axes.get_title() == f"t = {count / 2:.3g} s, error {expected:.2g}"
        past, values = axes.lines[-1].get_data()
        assert (past[0], past[-1]) == (count / 2 - 6, count / 2)
        now = memory.reconstruct(coefficients[count - 1], torch.as_tensor(past), now=count / 2)
        torch.testing.assert_close(torch.as_tensor(values), now)
        assert axes.get_xlim() == (0, 30)
    assert error.lines[0].get_xydata()[-1].tolist() == pytest.approx([30, expected])
    assert error.lines[1].get_xdata().tolist() == [10, 20, 30]
    assert {axes.get_ylabel() for axes in figure.axes} == {
        "", "LegS\nall of the past", "LegT\nthe last 6 s", "measure\n(1/s)"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("measure", "weight"),
    [
        ("LegS", lambda t, now: torch.full_like(t, 1 / now)),
        ("LegT", lambda t, now: torch.full_like(t, 1 / 8)),
        ("Fourier", lambda t, now: torch.full_like(t, 1 / 8)),
        ("LagT", lambda t, now: ((t - now) / 8).exp() / 8),
    ],
)
def test_hippo_measures_are_those_of_the_paper(measure, weight):
    figure = plots.hippo(torch.arange(30.0), measures=[measure.lower()], order=2, theta=8.0)
    for axes, now in zip(hippo_axes(figure, measure)[1], (10, 20, 30), strict=True):
        outline = torch.as_tensor(axes.collections[0].get_paths()[0].vertices)
        above = outline[outline[:, 1] > 0]
        begin = now - 8 if measure in ("LegT", "Fourier") else 0
        assert (above[:, 0].min().item(), above[:, 0].max().item()) == (begin, now)
        torch.testing.assert_close(above[:, 1], weight(above[:, 0], now))


@pytest.mark.parametrize("u", [torch.zeros(3), torch.ones(47), torch.full((100,), 1e6, dtype=torch.float32)])
def test_hippo_of_constant_and_short_signals(u):
    figure = plots.hippo(u, order=2)
    assert len(figure.axes) == 4 * 7
    drawn(plots.hippo(u, measures=["legs"], order=1))
    assert all(axes.get_title().endswith("error 0") for axes in hippo_axes(figure, "LegS")[0])


@pytest.mark.parametrize(
    ("u", "options", "error", "message"),
    [
        (torch.zeros(2), {}, ShapeError, r"3 samples or more, got shape \(2,\)"),
        (torch.zeros(3, 3), {}, ShapeError, r"one signal \(time,\)"),
        (torch.tensor([0.0, 1.0, torch.nan, 2.0]), {}, DataError, "u is nan at sample 2"),
        (torch.zeros(9), {"order": 0}, ConfigError, "order=0 must be a positive integer"),
        (torch.zeros(9), {"order": 3}, ConfigError, "fourier: N is 3, .*give an even N"),
        (torch.zeros(9), {"measures": ["legtt"]}, ConfigError, "did you mean 'legt'"),
        (torch.zeros(9), {"measures": []}, ConfigError, "measures is empty"),
        (torch.zeros(9), {"theta": 0.0}, ConfigError, "theta=0.0 must be positive"),
    ],
)
def test_hippo_names_mistakes(unchecked, u, options, error, message):
    with pytest.raises(error, match=message):
        plots.hippo(u, **options)


def test_examples_mark_what_was_read_wrong():
    probabilities = torch.tensor([[[0.9, 0.1]], [[0.2, 0.8]]])
    figure = drawn(plots.examples(torch.rand(2, 4, 4), torch.tensor([0, 0]), probabilities))
    assert [axes.get_title() for axes in figure.axes[:2]] == ["0, read as 0", "0, read as 1 (wrong)"]
    assert figure.axes[2].get_xlabel() == "pixels read"


def test_examples_need_one_row_each(unchecked):
    with pytest.raises(ShapeError, match="2 images, 3 labels, 2 probabilities"):
        plots.examples(torch.rand(2, 4, 4), torch.zeros(3, dtype=torch.long), torch.rand(2, 5, 10))
