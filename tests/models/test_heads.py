"""The models and their backbone: streaming = whole, padding without influence, configuration errors."""

import dataclasses
import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from longwave.errors import ConfigError, ShapeError, UnsupportedError
from longwave.layers import MIXERS, S4D, map_state
from longwave.models import (
    MODELS,
    Backbone,
    BackboneConfig,
    Classifier,
    ClassifierConfig,
    DataConfig,
    Head,
    LanguageModel,
    Regressor,
    RegressorConfig,
    SequenceModel,
    SequenceModelConfig,
)

# What is read of the backbone's outputs -> a model that reads it, with two inputs and three outputs.
READS = {
    "mean": lambda backbone: Classifier(ClassifierConfig(d_input=2, n_classes=3, backbone=backbone)),
    "last": lambda backbone: Regressor(RegressorConfig(d_input=2, n_outputs=3, pooling="last", backbone=backbone)),
    "every": lambda backbone: SequenceModel(SequenceModelConfig(d_input=2, d_output=3, backbone=backbone)),
}
OPTIONS = list(itertools.product(MIXERS, READS, ["layer", "batch"]))
every_option = pytest.mark.parametrize(("mixer", "read", "norm"), OPTIONS)
OPTION_NAMES = {
    "LMU": {"d_state": 4},
    "LMUCell": {"d_state": 4},
    "LSSL": {"d_state": 4},
    "S4": {"d_state": 4},
    "DSS": {"d_state": 4},
    "S4D": {"d_state": 4},
    "S5": {"d_state": 4},
    "RTF": {"d_state": 4, "init": "montel"},
    "LRU": {"d_state": 4},
    "Mamba": {"d_state": 4},
    "Mamba2": {"d_state": 4},
    "Mamba3": {"d_state": 4},
    "RetNet": {"heads": 3},
    "RWKV": {"zero_init": False},
}


def model_of(mixer: str = "S4D", read: str = "mean", norm: str = "layer", **options) -> Head:
    torch.manual_seed(0)
    options = {"d_model": 6, "n_layers": 2, "mixer_options": OPTION_NAMES[mixer], **options}
    model = READS[read](BackboneConfig(mixer=mixer, norm=norm, **options)).double()
    model.train()(inputs(50))  # gives batch norm statistics
    return model.eval()


def inputs(length: int = 30, batch: int = 3) -> Tensor:
    return torch.randn(batch, length, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(length))


def newest(y: Tensor) -> Tensor:
    """The output for all that was seen, or at the last position."""
    return y if y.ndim == 2 else y[:, -1]


def test_every_model_is_tested() -> None:
    assert {type(model_of(read=read)) for read in READS} | {LanguageModel} == set(MODELS.values())


@every_option
@torch.no_grad()
def test_streaming_is_the_whole(mixer: str, read: str, norm: str) -> None:
    model, x = model_of(mixer, read, norm, feedforward="glu"), inputs()
    state = model.initial_state(3)
    for t in range(30):
        y_t, state = model.step(x[:, t], state)
        torch.testing.assert_close(y_t, newest(model(x[:, : t + 1])))
    state, chunks = None, []
    for chunk in x.split([7, 0, 1, 22], dim=1):
        y, state = model.prefill(chunk, state)
        chunks.append(y)
    torch.testing.assert_close(torch.cat(chunks, 1) if read == "every" else chunks[-1], model(x))


@every_option
@torch.no_grad()
def test_padding_has_no_influence(mixer: str, read: str, norm: str) -> None:
    model, x, lengths = model_of(mixer, read, norm), inputs(), torch.tensor([30, 12, 1])
    y = model(x, lengths=lengths)
    for row, length in enumerate(lengths.tolist()):
        real = y[row : row + 1, :length] if read == "every" else y[row : row + 1]
        torch.testing.assert_close(real, model(x[row : row + 1, :length]))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("read", READS)
def test_padding_has_no_influence_on_gradients(read: str, bidirectional: bool) -> None:
    model, x = model_of(read=read, bidirectional=bidirectional), inputs().requires_grad_()
    lengths = torch.tensor([30, 12, 1])
    real = torch.arange(30) < lengths[:, None]
    y = model(x, lengths=lengths)
    (gradient,) = torch.autograd.grad((y[real] if read == "every" else y).square().sum(), x)
    assert gradient[~real].eq(0).all()
    assert gradient[real].ne(0).all()


@every_option
@torch.no_grad()
def test_rows_of_a_stream_may_advance_at_their_own_pace(mixer: str, read: str, norm: str) -> None:
    model, x = model_of(mixer, read, norm), inputs()
    state, seen = model.initial_state(3), [x[b, :0] for b in range(3)]
    for start, lengths in ((0, [5, 0, 2]), (10, [0, 3, 4]), (20, [1, 1, 0])):
        _, state = model.prefill(x[:, start : start + 5], state, lengths=torch.tensor(lengths))
        seen = [torch.cat([old, x[b, start : start + n]]) for b, (old, n) in enumerate(zip(seen, lengths, strict=True))]
    y, _ = model.step(x[:, 29], state)
    for row, sequence in enumerate(seen):
        whole = torch.cat([sequence, x[row, 29:]])[None]
        torch.testing.assert_close(y[row : row + 1], newest(model(whole)))


@pytest.mark.parametrize("read", ["mean", "last"])
@torch.no_grad()
def test_nothing_seen_pools_to_zero(read: str) -> None:
    model = model_of(read=read)
    expected = model.decoder.bias.expand(2, 3)
    assert torch.equal(model(inputs(0, batch=2)), expected)
    assert torch.equal(model(inputs(4, batch=2), lengths=torch.tensor([0, 0])), expected)


@torch.no_grad()
def test_a_long_stream_keeps_its_mean() -> None:
    """The mean of 2,000 equal outputs of order 1 in float32, on top of 10^7 seen before: exact to rounding."""
    model = model_of().float()
    pooled = model.pooling.update(model.initial_state(1).pooled, torch.full((1, 1000, 6), 0.1), None)
    pooled = pooled._replace(value=pooled.value * 10_000, seen=pooled.seen * 10_000)
    for _ in range(2000):
        pooled = model.pooling.update(pooled, torch.full((1, 1, 6), 0.1), None)
    torch.testing.assert_close(model.pooling.read(pooled).float(), torch.full((1, 6), 0.1), rtol=2e-7, atol=0)


@torch.no_grad()
def test_step_leaves_its_state_alone() -> None:
    model, x = model_of(), inputs()
    _, state = model.prefill(x)
    before = map_state(torch.clone, state)
    model.step(x[:, 0], state)
    model.prefill(x, state)
    for a, b in zip(flat(state), flat(before), strict=True):
        assert torch.equal(a, b)


def flat(state: object) -> list[Tensor]:
    """The tensors of a nested state."""
    tensors: list[Tensor] = []
    map_state(lambda tensor: tensors.append(tensor) or tensor, state)
    return tensors


@torch.no_grad()
def test_states_are_batch_first_and_can_be_taken_apart() -> None:
    model, x = model_of("LRU"), inputs()
    _, state = model.prefill(x)
    assert all(len(tensor) == 3 for tensor in flat(state))
    second = map_state(lambda tensor: tensor[1:2], state)
    torch.testing.assert_close(model.step(x[1:2, 0], second)[0], model.step(x[:, 0], state)[0][1:2])


@pytest.mark.parametrize("read", READS)
@torch.no_grad()
def test_rate_reaches_every_layer(read: str) -> None:
    model, x = model_of(read=read), inputs()
    y = model(x, rate=2.0)
    assert not torch.allclose(y, model(x))
    state = model.initial_state(3)
    for x_t in x.unbind(1):
        y_t, state = model.step(x_t, state, rate=2.0)
    torch.testing.assert_close(y_t, newest(y))
    torch.testing.assert_close(model.prefill(x, rate=2.0)[0], y)


@pytest.mark.parametrize("read", READS)
def test_every_parameter_receives_a_gradient(read: str) -> None:
    for bidirectional in (False, True):
        model = model_of(read=read, bidirectional=bidirectional, feedforward="mlp", dropout=0.1).train()
        model(inputs()).square().sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_slow_parameters_are_full_names() -> None:
    for model in (model_of(), model_of("LRU", bidirectional=True)):
        slow = set(model.slow_parameters())
        assert slow <= dict(model.named_parameters()).keys()
        leaf_names = {"log_dt", "log_neg_A_real", "A_imag", "nu_log", "theta_log", "gamma_log"}
        assert {n for n in dict(model.named_parameters()) if n.split(".")[-1] in leaf_names} <= slow


@torch.no_grad()
def test_backbone_ends_with_a_norm_if_its_blocks_begin_with_one() -> None:
    h = torch.randn(2, 9, 16)
    assert Backbone(BackboneConfig(16, 2)).norm is not None
    assert Backbone(BackboneConfig(16, 2, prenorm=False)).norm is None
    y = Backbone(BackboneConfig(16, 2))(h)
    torch.testing.assert_close(y.mean(-1), torch.zeros(2, 9), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_16_bit_and_autocast(dtype: torch.dtype) -> None:
    model, x = model_of().to(dtype), inputs().to(dtype)
    assert model(x).dtype == dtype
    logits, state = model.prefill(x)
    assert logits.dtype == dtype
    assert model.step(x[:, 0], state)[0].dtype == dtype
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (model(x) - logits).abs().max() < 0.1


def test_a_bidirectional_model_does_not_stream() -> None:
    model, x = model_of(bidirectional=True), inputs()
    assert model(x).shape == (3, 3)
    with pytest.raises(UnsupportedError, match="needs the whole sequence"):
        model.prefill(x)
    with pytest.raises(UnsupportedError, match="needs the whole sequence"):
        model.step(x[:, 0], model.initial_state(3))


@pytest.mark.usefixtures("unchecked")
@torch.no_grad()
def test_mistakes_are_named() -> None:
    model, x = model_of(), inputs()
    with pytest.raises(ShapeError, match=r"x must have shape \(batch, time, 2\), got \(3, 30\)"):
        model(x[..., 0])
    with pytest.raises(ShapeError, match=r"x must have shape \(batch, 2\)"):
        model.step(x, model.initial_state(3))
    with pytest.raises(ShapeError, match=r"float32 but the parameters are torch.float64"):
        model(x.float())
    with pytest.raises(ShapeError, match=r"lengths must lie between 0 and the 30 positions"):
        model(x, lengths=torch.tensor([31, 1, 1]))
    with pytest.raises(ShapeError, match=r"state must have shape \(3, "):
        model.prefill(x, model.initial_state(2))
    state = model.initial_state(3)
    with pytest.raises(ShapeError, match=r"state has 1 parts but the backbone has 2 blocks"):
        model.step(x[:, 0], state._replace(backbone=state.backbone[:1]))
    with pytest.raises(ConfigError, match=r"rate=0"):
        model(x, rate=0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixer": "LRUU"}, "unknown mixer 'LRUU' .did you mean 'LRU'"),
        ({"mixer_options": {"d_stat": 4}}, "unknown option of S4D 'd_stat' .did you mean 'd_state'"),
        ({"mixer_options": {"d_model": 4}}, "unknown option of S4D 'd_model'"),
        ({"mixer_options": {"d_state": "4"}}, "d_state='4' must be a positive integer"),
        ({"mixer_options": {"dt_min": "small"}}, "S4D cannot take mixer_options"),
        ({"norm": "group"}, "unknown norm 'group'"),
        ({"feedforward": "gluu"}, "unknown feedforward 'gluu' .did you mean 'glu'"),
        ({"dropout": 1.5}, "dropout=1.5"),
        ({"d_model": 0}, "d_model=0 must be a positive integer"),
        ({"n_layers": 0}, "n_layers=0 must be a positive integer"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_impossible_configurations_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Classifier(ClassifierConfig(backbone=BackboneConfig(**options)))


@pytest.mark.usefixtures("unchecked")
def test_impossible_heads_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown pooling 'maen' .did you mean 'mean'"):
        Classifier(ClassifierConfig(pooling="maen"))
    with pytest.raises(ConfigError, match="n_classes=0"):
        Classifier(ClassifierConfig(n_classes=0))
    with pytest.raises(ConfigError, match="n_outputs=0"):
        Regressor(RegressorConfig(n_outputs=0))
    with pytest.raises(ConfigError, match="d_output='2'"):
        SequenceModel(SequenceModelConfig(d_output="2"))  # pyright: ignore
    with pytest.raises(ConfigError, match="d_input=0"):
        SequenceModel(SequenceModelConfig(d_input=0))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DataConfig([0.0], [1.0]), r"data.input_mean has 1 numbers, but the input has 2 channels"),
        (DataConfig([0.0, 0.0]), r"data.input_std has 0 numbers, but the input has 2 channels"),
        (DataConfig([], [1.0, 1.0]), r"data.input_mean has 0 numbers"),
        (DataConfig([0.0, float("nan")], [1.0, 1.0]), r"data.input_mean=\[0.0, nan\] must be finite"),
        (DataConfig([0.0, 0.0], [1.0, 0.0]), r"data.input_std=\[1.0, 0.0\] must be positive"),
        (DataConfig(output_mean=[0.0], output_std=[1.0]), r"data.output_mean has 1 numbers, but the output has 3"),
        (DataConfig(classes=["a", "b"]), r"data.classes has 2 names, but the model has 3 classes"),
        (DataConfig(classes=["a", "b", "a"]), r"data.classes=\['a', 'b', 'a'\] names a class twice"),
    ],
)
def test_data_that_do_not_fit_are_refused(data: DataConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Classifier(ClassifierConfig(d_input=2, n_classes=3, data=data))


def test_only_models_with_classes_name_them() -> None:
    names = DataConfig(classes=["a"])
    SequenceModel(SequenceModelConfig(d_output=1, data=names))
    with pytest.raises(ConfigError, match=r"data.classes has 1 names, but the model has 0 classes"):
        Regressor(RegressorConfig(n_outputs=1, data=names))


@pytest.mark.parametrize("dtype", (torch.float64, torch.float32, torch.bfloat16))
def test_outputs_are_in_the_unit_of_the_targets(dtype: torch.dtype, tmp_path: Path) -> None:
    data = DataConfig(output_mean=[500.0, -1.0], output_std=[20.0, 0.5])
    model = Regressor(RegressorConfig(d_input=2, n_outputs=2, data=data)).to(dtype).eval()
    plain = Regressor(RegressorConfig(d_input=2, n_outputs=2)).to(dtype).eval()
    plain.load_state_dict(model.state_dict())  # the unit is no parameter
    x = torch.randn(3, 50, 2, dtype=dtype)
    want = torch.tensor([500.0, -1.0], dtype=dtype) + torch.tensor([20.0, 0.5], dtype=dtype) * plain(x)
    assert torch.equal(model(x), want)
    torch.testing.assert_close(model.prefill(x)[0], want)
    torch.testing.assert_close(Regressor.load(model.save(tmp_path)).eval()(x), want)


def test_standardised_data_have_mean_zero_and_variance_one() -> None:
    raw = 3 * inputs(400) + torch.tensor([5.0, -7.0])
    data = DataConfig(raw.mean((0, 1)).tolist(), raw.std((0, 1)).tolist())
    x = data.standardise(raw)
    torch.testing.assert_close(x.mean((0, 1)), torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(x.std((0, 1)), torch.ones(2, dtype=torch.float64))
    assert DataConfig().standardise(raw) is raw


def test_lti_mixers_have_the_names_of_their_parameters() -> None:
    mixers = model_of(bidirectional=True).backbone.lti_mixers()
    assert list(mixers) == [f"blocks.{i}.{name}" for i in (0, 1) for name in ("mixer", "backward_mixer")]
    assert all(isinstance(mixer, S4D) for mixer in mixers.values())


def test_configurations_are_values() -> None:
    config = ClassifierConfig()
    assert config == ClassifierConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.pooling = "last"  # pyright: ignore
    assert Classifier(config).config is config
