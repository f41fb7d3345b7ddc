"""Losses and metrics are exact means over targets: against plain formulas, split into batches in any way."""

import pytest
import torch

from longwave.train import OBJECTIVES


def drawn(objective: str):
    """Outputs and targets of twelve sequences, one target in five missing."""
    torch.manual_seed(2)
    positions = () if OBJECTIVES[objective].pooled else (7,)
    outputs = torch.randn(12, *positions, 3)
    missing = torch.rand(12, *positions) < 0.2
    if objective in ("classify", "label"):
        return outputs, torch.randint(3, missing.shape).masked_fill(missing, -100)
    return outputs, (outputs + torch.randn_like(outputs)).masked_fill(missing[..., None], torch.nan)


def measured(objective: str, outputs, y, parts: int):
    pieces = zip(outputs.tensor_split(parts), y.tensor_split(parts), strict=True)
    totals = [OBJECTIVES[objective].sums(*piece).totals for piece in pieces]
    return OBJECTIVES[objective].figures(torch.stack(totals).sum(0))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_figures_do_not_depend_on_the_batches(objective):
    outputs, y = drawn(objective)
    assert measured(objective, outputs, y, 1) == pytest.approx(measured(objective, outputs, y, 5), rel=1e-6)


@pytest.mark.parametrize("objective", ["classify", "label"])
def test_cross_entropy_and_accuracy(objective):
    outputs, y = drawn(objective)
    logits, y = outputs[y != -100].double(), y[y != -100]
    expected = {
        "loss": -logits.log_softmax(-1)[torch.arange(len(y)), y].mean().item(),
        "accuracy": (logits.argmax(-1) == y).double().mean().item(),
    }
    assert measured(objective, *drawn(objective), 3) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("objective", ["classify", "label"])
def test_smoothed_targets_are_a_mixture_with_all_classes(objective):
    outputs, y = drawn(objective)
    log_p = outputs[y != -100].double().log_softmax(-1)
    given = log_p[torch.arange(len(log_p)), y[y != -100]]
    expected = -(0.7 * given + 0.3 * log_p.mean(-1)).sum()
    assert OBJECTIVES[objective].sums(outputs, y, smoothing=0.3).loss.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("objective", ["regress", "track"])
def test_errors_and_r2(objective):
    outputs, y = drawn(objective)
    given = ~y[..., 0].isnan()
    error, y = (outputs - y)[given].double(), y[given].double()
    expected = {
        "loss": error.square().mean().item(),
        "mse": error.square().mean().item(),
        "mae": error.abs().mean().item(),
        "r2": (1 - error.square().sum(0) / (y - y.mean(0)).square().sum(0)).mean().item(),
    }
    assert measured(objective, *drawn(objective), 3) == pytest.approx(expected, rel=1e-5)


def test_the_loss_counts_in_units_of_the_targets_and_the_metrics_do_not():
    outputs, y = drawn("regress")
    unit = torch.tensor([1.0, 10.0, 0.1])
    numbers = OBJECTIVES["regress"]
    got = numbers.figures(numbers.sums(outputs * unit, y * unit, unit).totals)
    assert got["loss"] == pytest.approx(measured("regress", outputs, y, 1)["loss"], rel=1e-5)
    assert got["mse"] == pytest.approx(measured("regress", outputs * unit, y * unit, 1)["mse"], rel=1e-5)


@pytest.mark.parametrize(("shift", "r2"), [(0.0, 1.0), (0.5, 0.0)])
def test_r2_of_equal_targets_says_whether_they_are_met(shift, r2):
    y = torch.full((9, 1), 0.1)
    assert measured("regress", y + shift, y, 2)["r2"] == r2


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_missing_targets_have_no_gradient(objective):
    outputs, y = drawn(objective)
    outputs.requires_grad_()
    OBJECTIVES[objective].sums(outputs, y).loss.backward()
    missing = y == -100 if y.dtype == torch.int64 else y[..., 0].isnan()
    assert outputs.grad is not None
    assert torch.equal(outputs.grad[missing], torch.zeros_like(outputs.grad[missing]))
    assert (outputs.grad[~missing] != 0).all()
