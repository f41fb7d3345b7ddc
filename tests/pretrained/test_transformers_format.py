"""Models that transformers wrote give its logits here, and go back to it without a changed bit."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from published import TRANSFORMERS, VOCABULARY, of_transformers

from longwave.errors import CheckpointError, UnsupportedError
from longwave.models import BackboneConfig, LanguageModel, LanguageModelConfig

pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers


@pytest.fixture(scope="module", params=TRANSFORMERS)
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A model of transformers', and the folder that it wrote."""
    model, folder = of_transformers(request.param), tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    return model, folder


def tokens(time: int = 50) -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (2, time), generator=torch.Generator().manual_seed(3))


def logits(theirs: Any) -> torch.Tensor:
    return theirs(tokens(), use_cache=False).logits  # its cache has no room for attention of another width


def differ(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@torch.no_grad()
def test_logits_are_those_of_transformers(published: tuple[Any, Path]) -> None:
    theirs, folder = published
    assert differ(LanguageModel.from_pretrained(folder)(tokens()), logits(theirs)) <= 1e-5


@torch.no_grad()
def test_there_and_back_is_bitwise_the_same(published: tuple[Any, Path], tmp_path: Path) -> None:
    theirs, folder = published
    ours = LanguageModel.from_pretrained(folder)
    back = ours.save_pretrained(tmp_path / "back", format="transformers")
    again = LanguageModel.from_pretrained(back)
    assert again.config == ours.config
    expected = ours.state_dict()
    assert expected.keys() == again.state_dict().keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in again.state_dict().items())
    reread = type(theirs).from_pretrained(back).eval()
    assert torch.equal(logits(reread), logits(theirs))
    own = LanguageModel.from_pretrained(ours.save_pretrained(tmp_path / "own"))
    assert own.config == ours.config
    assert torch.equal(own(tokens()), ours(tokens()))


@pytest.mark.parametrize("name", ["mamba", "mamba2", "falcon_mamba"])
def test_greedy_generation_is_that_of_transformers(name: str, tmp_path: Path) -> None:
    theirs = of_transformers(name)
    theirs.save_pretrained(tmp_path)
    prompt = tokens(7)
    ours = LanguageModel.from_pretrained(tmp_path).generate(prompt, max_new_tokens=12, stop=())
    options = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    assert ours.tolist() == theirs.generate(prompt, **options)[:, 7:].tolist()


@torch.no_grad()
def test_shards_are_read(tmp_path: Path) -> None:
    theirs = of_transformers("mamba")
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert differ(LanguageModel.from_pretrained(tmp_path)(tokens()), logits(theirs)) <= 1e-5


def test_padding_of_the_vocabulary_survives_transformers(tmp_path: Path) -> None:
    backbone = BackboneConfig(d_model=16, n_layers=1, mixer="Mamba", norm="rms")
    model = LanguageModel(LanguageModelConfig(vocab_size=13, vocab_multiple=8, backbone=backbone, stop_tokens=[2]))
    model.save_pretrained(tmp_path, format="transformers")
    again = LanguageModel.from_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["vocab_size"] == 16
    assert again.embedding.weight.shape == (16, 16)
    assert again(tokens(5) % 13).shape == (2, 5, 13)
    assert again.config.stop_tokens == [2]


MAMBA = BackboneConfig(d_model=16, n_layers=1, mixer="Mamba", norm="rms")
INEXPRESSIBLE = {
    "another mixer": ({"backbone": BackboneConfig(d_model=8, n_layers=1, mixer="S4D")}, "no language model of S4D"),
    "another norm": ({"backbone": BackboneConfig(d_model=8, n_layers=1, mixer="Mamba")}, "mamba cannot say .* norm"),
    "an embedding norm": ({"backbone": MAMBA, "embedding_norm": True}, "cannot say .* embedding_norm"),
    "dropout": (
        {"backbone": BackboneConfig(d_model=8, n_layers=1, mixer="Mamba", norm="rms", dropout=0.1)},
        "cannot say .* dropout",
    ),
    "an option": (
        {
            "backbone": BackboneConfig(
                d_model=8, n_layers=1, mixer="Mamba2", mixer_options={"rmsnorm": False}, norm="rms"
            )
        },
        "mamba2 cannot say .* rmsnorm",
    ),
    "no feed-forward network": (
        {"backbone": BackboneConfig(d_model=8, n_layers=1, mixer="RWKV"), "embedding_norm": True},
        "rwkv cannot say .* feedforward",
    ),
}


@pytest.mark.parametrize("case", INEXPRESSIBLE)
def test_what_transformers_cannot_say_is_named(case: str, tmp_path: Path) -> None:
    options, message = INEXPRESSIBLE[case]
    model = LanguageModel(LanguageModelConfig(vocab_size=9, **options))
    with pytest.raises(UnsupportedError, match=message):
        model.save_pretrained(tmp_path / "new", format="transformers")
    assert not (tmp_path / "new").exists()


VARIANTS = {
    "activation": ("mamba", {"hidden_act": "gelu"}, "hidden_act='gelu'"),
    "model type": ("mamba", {"model_type": "mambo"}, "unknown model_type 'mambo' .did you mean 'mamba'"),
    "attention": ("mamba", {"model_type": "jamba"}, "unknown model_type 'jamba'"),
    "last norm": ("rwkv", {"layer_norm_epsilon": 1e-3}, "layer_norm_epsilon=0.001"),
    "heads": ("mamba2", {"num_heads": 3}, "num_heads=3"),
    "a size as text": ("mamba", {"hidden_size": "32"}, "d_model is '32' instead of int"),
    "an option as text": ("mamba", {"state_size": "16"}, "d_state"),
    "a list for a size": ("mamba2", {"expand": [2]}, "config.json"),
    "no size": ("mamba", {"hidden_size": None}, "d_model is None instead of int"),
    "another size": ("mamba", {"hidden_size": 48}, r"embeddings.weight has floats of shape \(61, 32\)"),
    "sizes beyond all bounds": ("mamba", {"hidden_size": 2**40, "vocab_size": 2**40}, "config.json"),
    "many columns": ("mamba", {"state_size": 10**9}, r"mixer.A_log has floats of shape \(64, 16\)"),
    "too many layers": ("mamba", {"num_hidden_layers": 10**9}, "too few for 1000000000 layers"),
    "more layers": ("mamba", {"num_hidden_layers": 3}, "backbone.layers.2.mixer.A_log is missing"),
    "fewer layers": ("mamba", {"num_hidden_layers": 1}, r"backbone.layers.1.mixer.A_log is unknown"),
    "a bias that is not there": ("mamba", {"use_bias": True}, "in_proj.bias is missing"),
    "untied": ("mamba", {"tie_word_embeddings": False}, "lm_head.weight is missing"),
    "stop token": ("mamba", {"eos_token_id": 61}, "stop_tokens"),
}


@pytest.mark.parametrize("case", VARIANTS)
def test_a_configuration_that_does_not_fit_is_refused(
    case: str, tmp_path: Path, unchecked: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    name, change, message = VARIANTS[case]
    of_transformers(name).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(CheckpointError, match=message) as caught:
        LanguageModel.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


def test_two_names_for_one_parameter_are_refused(tmp_path: Path) -> None:
    """A folder may spell the embedding as mamba_ssm does, but not both ways."""
    of_transformers("mamba").save_pretrained(tmp_path)
    tensors = safetensors.torch.load_file(tmp_path / "model.safetensors")
    tensors["backbone.embedding.weight"] = tensors["backbone.embeddings.weight"] + 1
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"same parameter as backbone.embedding\S* and as backbone.embedding"):
        LanguageModel.from_pretrained(tmp_path)
