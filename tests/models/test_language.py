"""A language model is one system in every view: whole sequences, chunks, steps; padded batches; files."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import longwave
from longwave.errors import ConfigError, ShapeError, UnsupportedError
from longwave.layers import MIXERS
from longwave.models import BackboneConfig, LanguageModel, LanguageModelConfig

VOCABULARY = 23
RWKV = {"feedforward": "rwkv", "feedforward_options": {"d_hidden": 12}}


def model_of(mixer: str = "Mamba", dtype: torch.dtype = torch.float32, **options) -> LanguageModel:
    """A model with parameters away from their first values."""
    torch.manual_seed(0)
    in_model = {name: options.pop(name) for name in ("tied", "embedding_norm", "vocab_multiple") if name in options}
    backbone = BackboneConfig(d_model=8, n_layers=2, mixer=mixer, **{"norm": "rms", **options})
    model = LanguageModel(LanguageModelConfig(vocab_size=VOCABULARY, backbone=backbone, **in_model)).to(dtype).eval()
    with torch.no_grad():
        model.embedding.weight.mul_(50)
    return model


def tokens(batch: int = 3, time: int = 40) -> Tensor:
    return torch.randint(0, VOCABULARY, (batch, time), generator=torch.Generator().manual_seed(5))


def differ(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.parametrize(
    "options",
    [
        *({"mixer": name} for name in MIXERS),
        {"mixer": "RWKV", "norm": "layer", "embedding_norm": True, **RWKV},
        {"mixer": "Mamba2", "feedforward": "swiglu", "feedforward_options": {"d_hidden": 10, "bias": False}},
        {"mixer": "Mamba", "tied": False, "vocab_multiple": 8, "norm_eps": 1e-2},
    ],
    ids=lambda options: "-".join(map(str, options.values()))[:40],
)
@torch.no_grad()
def test_every_view_gives_the_same_logits(options: dict) -> None:
    model, x = model_of(dtype=torch.float64, **options), tokens()
    whole = model(x)
    assert whole.shape == (3, 40, VOCABULARY)
    first, state = model.prefill(x[:, :13])
    second, state = model.prefill(x[:, 13:30], state)
    parts = [first, second]
    for x_t in x[:, 30:].unbind(1):
        logits, state = model.step(x_t, state)
        parts.append(logits[:, None])
    assert differ(torch.cat(parts, 1), whole) <= 1e-10
    last, _ = model.prefill_last(x)
    assert differ(last, whole[:, -1]) <= 1e-10
    begun, _ = model.step(x[:, 0], model.initial_state(3))
    assert differ(begun, whole[:, 0]) <= 1e-10


@torch.no_grad()
def test_padding_has_no_influence() -> None:
    model, x, lengths = model_of(), tokens(), torch.tensor([40, 1, 17])
    padded, state = model.prefill(x, lengths=lengths)
    last, after = model.prefill_last(x, lengths=lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = model(x[row : row + 1, :length])
        assert differ(padded[row : row + 1, :length], alone) <= 1e-5
        assert differ(last[row], alone[0, -1]) <= 1e-5
    assert torch.equal(after.backbone[0].ssm, state.backbone[0].ssm)


@torch.no_grad()
def test_logits_are_the_backbone_s_outputs_times_the_head() -> None:
    for tied in (True, False):
        model, x = model_of(tied=tied, vocab_multiple=10), tokens()
        assert model.embedding.weight.shape == (30, 8)
        matrix = model.embedding.weight if model.head is None else model.head.weight
        assert (model.head is None) == tied
        expected = model.backbone(F.embedding(x, model.embedding.weight)) @ matrix[:VOCABULARY].T
        assert differ(model(x), expected) <= 1e-6


def test_every_parameter_has_a_gradient() -> None:
    for options in ({}, {"tied": False}, {"mixer": "RWKV", "norm": "layer", "embedding_norm": True, **RWKV}):
        model = model_of(**options).train()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        F.cross_entropy(model(tokens()).transpose(1, 2), tokens()).backward()
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


@torch.no_grad()
def test_a_residual_in_float32_is_nearer_to_the_truth() -> None:
    exact, x = model_of(), tokens()
    errors = {}
    for wide in (False, True):
        model = model_of(dtype=torch.bfloat16, residual_in_float32=wide)
        model.load_state_dict(exact.state_dict())
        logits = model(x)
        assert logits.dtype == torch.bfloat16
        _, state = model.prefill(x[:, :39])
        last, _ = model.step(x[:, 39], state)
        assert last.dtype == torch.bfloat16
        errors[wide] = float((logits - exact(x)).square().mean())
    assert errors[True] < errors[False]
    same = model_of(residual_in_float32=True)
    assert torch.equal(same(x), exact(x))  # nothing to widen


def test_a_residual_in_float32_needs_prenorm() -> None:
    with pytest.raises(ConfigError, match="residual_in_float32 needs prenorm"):
        model_of(residual_in_float32=True, prenorm=False)


@pytest.mark.parametrize("mixer", MIXERS)
@torch.no_grad()
def test_a_folder_gives_the_same_model(mixer: str, tmp_path: Path) -> None:
    """It is made without parameters first: what a mixer keeps beside them must not be lost."""
    model, x = model_of(mixer, tied=mixer != "S4D"), tokens()
    model.save(tmp_path)
    for loaded in (longwave.load(tmp_path), LanguageModel.load(tmp_path), LanguageModel.from_pretrained(tmp_path)):
        assert isinstance(loaded, LanguageModel)
        assert loaded.config == model.config
        assert torch.equal(loaded.eval()(x), model(x))
    assert longwave.load(tmp_path).training
    assert not LanguageModel.from_pretrained(tmp_path).training


MISTAKES = {
    "floats": (lambda model: model(tokens().float()), ShapeError, "int64 or int32"),
    "one row": (lambda model: model(tokens()[0]), ShapeError, r"shape \(batch, time\)"),
    "a token beyond": (
        lambda model: model(torch.tensor([[VOCABULARY]])),
        ShapeError,
        "vocab_size − 1 = 22, got 23 to 23",
    ),
    "a negative token": (
        lambda model: model.step(torch.tensor([-1]), model.initial_state(1)),
        ShapeError,
        "got -1 to -1",
    ),
    "lengths": (lambda model: model(tokens(), lengths=torch.tensor([1, 2, 41])), ShapeError, "0 and the 40 positions"),
    "an empty prompt": (lambda model: model.prefill_last(tokens()[:, :0]), ShapeError, "at least one token"),
    "an empty row": (
        lambda model: model.prefill_last(tokens(), lengths=torch.tensor([1, 0, 2])),
        ShapeError,
        "at least one token",
    ),
    "another batch": (lambda model: model.step(tokens()[:2, 0], model.initial_state(3)), ShapeError, "state"),
    "format": (lambda model: model.save_pretrained("x", format="gguf"), ConfigError, "unknown format 'gguf'"),
    "bidirectional": (
        lambda model: model_of("S4D", bidirectional=True).prefill_last(tokens()),
        UnsupportedError,
        "bidirectional",
    ),
    "vocabulary": (lambda model: LanguageModel(LanguageModelConfig(vocab_size=0)), ConfigError, "vocab_size=0"),
    "stop": (
        lambda model: LanguageModel(LanguageModelConfig(vocab_size=3, stop_tokens=[3])),
        ConfigError,
        r"stop_tokens=\[3\]",
    ),
    "an option of the network": (
        lambda model: model_of(feedforward="swiglu", feedforward_options={"hidden": 3}),
        ConfigError,
        "unknown option of swiglu 'hidden' .did you mean 'd_hidden'",
    ),
    "options of no network": (
        lambda model: model_of(feedforward_options={"d_hidden": 3}),
        ConfigError,
        "name a feedforward",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_answered(mistake: str, unchecked: None) -> None:
    make, error, message = MISTAKES[mistake]
    with pytest.raises(error, match=message):
        make(model_of())
