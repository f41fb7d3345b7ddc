"""Predictions in the order of the set, whatever the batches; figures of them; padding is NaN."""

import dataclasses
import sys

import pytest
import torch

from longwave.data import Sequences
from longwave.errors import ConfigError
from longwave.models import (
    BackboneConfig,
    Classifier,
    ClassifierConfig,
    Regressor,
    RegressorConfig,
    SequenceModel,
    SequenceModelConfig,
)
from longwave.train import evaluate, predict

BACKBONE = BackboneConfig(d_model=4, n_layers=1, mixer_options={"d_state": 4}, dropout=0.5)
LENGTHS = torch.tensor([9, 3, 12, 12, 1, 7, 5])


@pytest.fixture
def x():
    return torch.randn(7, 12, 2, generator=torch.Generator().manual_seed(0))


def ragged(x, y, **options) -> Sequences:
    return Sequences(x, y, lengths=LENGTHS, **options)


def test_pooled_outputs_are_in_the_order_of_the_set(x):
    model = Regressor(RegressorConfig(d_input=2, n_outputs=3, backbone=BACKBONE))
    outputs = predict(model, ragged(x, torch.zeros(7, 3)), batch_size=3)
    alone = [model(x[i : i + 1, :length]) for i, length in enumerate(LENGTHS.tolist())]
    torch.testing.assert_close(outputs, torch.cat(alone))
    assert not model.training
    assert not outputs.requires_grad


def test_outputs_at_every_position_end_where_the_sequence_does(x):
    model = SequenceModel(SequenceModelConfig(d_input=2, d_output=3, backbone=BACKBONE))
    outputs = predict(model, ragged(x, torch.zeros(7, 12, 3)), batch_size=2)
    assert outputs.shape == (7, 12, 3)
    for i, length in enumerate(LENGTHS.tolist()):
        torch.testing.assert_close(outputs[i, :length], model(x[i : i + 1, :length])[0])
        assert outputs[i, length:].isnan().all()


def test_nothing_is_augmented(x):
    model = Classifier(ClassifierConfig(d_input=2, n_classes=2, backbone=BACKBONE))
    plain = ragged(x, torch.zeros(7, dtype=torch.int64))
    varied = dataclasses.replace(
        Sequences(x, plain.y), lengths=None, augment=lambda x, generator: x + torch.rand(x.shape, generator=generator)
    )
    assert torch.equal(predict(model, varied), predict(model, Sequences(x, plain.y)))
    assert evaluate(model, varied, "classify") == evaluate(model, Sequences(x, plain.y), "classify")


def test_rate_reaches_the_model(x):
    model = Classifier(ClassifierConfig(d_input=2, n_classes=2, backbone=BACKBONE)).eval()
    samples = Sequences(x, torch.zeros(7, dtype=torch.int64))
    torch.testing.assert_close(predict(model, samples, rate=2.0), model(x, rate=2.0))
    expected = -model(x, rate=2.0).log_softmax(1)[:, 0].mean().item()
    assert evaluate(model, samples, "classify", rate=2.0)["loss"] == pytest.approx(expected, rel=1e-5)
    assert evaluate(model, samples, "classify")["loss"] != pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "last", None])
def test_long_sequences_are_taken_in_by_chunks(x, pooling, monkeypatch):
    if pooling is None:
        model = SequenceModel(SequenceModelConfig(d_input=2, d_output=3, backbone=BACKBONE))
        samples = ragged(x, torch.zeros(7, 12, dtype=torch.int64))
    else:
        model = Classifier(ClassifierConfig(d_input=2, n_classes=2, pooling=pooling, backbone=BACKBONE))
        samples = ragged(x, torch.zeros(7, dtype=torch.int64))
    whole = predict(model, samples)
    monkeypatch.setattr(sys.modules["longwave.train.predict"], "CHUNK", 5)
    torch.testing.assert_close(predict(model, samples), whole, equal_nan=True)


def test_evaluation_is_that_of_the_predictions(x):
    model = SequenceModel(SequenceModelConfig(d_input=2, d_output=3, backbone=BACKBONE))
    y = torch.randint(3, (7, 12))
    samples = ragged(x, y)
    outputs, given = predict(model, samples), torch.arange(12) < LENGTHS[:, None]
    expected = {
        "loss": torch.nn.functional.cross_entropy(outputs[given], y[given]).item(),
        "accuracy": (outputs.argmax(2) == y)[given].double().mean().item(),
    }
    for batch_size in (2, 100):
        assert evaluate(model, samples, "label", batch_size=batch_size) == pytest.approx(expected, rel=1e-5)


def test_an_unknown_objective_is_answered_with_the_nearest(x):
    model = Classifier(ClassifierConfig(d_input=2, n_classes=2, backbone=BACKBONE))
    with pytest.raises(ConfigError, match=r"unknown objective 'clasify' \(did you mean 'classify'"):
        evaluate(model, Sequences(x, torch.zeros(7, dtype=torch.int64)), "clasify")
