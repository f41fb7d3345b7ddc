"""Folders of mamba_ssm: Mamba and Mamba-2 give transformers' logits, Mamba-3 those of its layers by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from published import VOCABULARY, disturb, of_transformers, write_mamba_ssm
from torch import Tensor

from longwave.errors import CheckpointError
from longwave.layers import Mamba3
from longwave.models import LanguageModel

CONFIG = {"d_model": 32, "n_layer": 2, "vocab_size": VOCABULARY, "pad_vocab_size_multiple": 1}
FLAGS = {"rms_norm": True, "residual_in_fp32": True, "fused_add_norm": True}
MAMBA3 = {"layer": "Mamba3", "d_state": 8, "headdim": 16, "rope_fraction": 0.5, "chunk_size": 64}
MIMO = {**MAMBA3, "is_mimo": True, "mimo_rank": 2, "is_outproj_norm": True}


def tokens(time: int = 30) -> Tensor:
    return torch.randint(0, VOCABULARY, (2, time), generator=torch.Generator().manual_seed(3))


def renamed(model: Any) -> dict[str, Tensor]:
    """The tensors of a model of transformers', with mamba_ssm's names and its second copy of a tied embedding."""
    found = {name.replace("embeddings", "embedding"): tensor.clone() for name, tensor in model.state_dict().items()}
    return {**found, "lm_head.weight": found["backbone.embedding.weight"].clone()}


@pytest.mark.filterwarnings("ignore")  # of transformers
@pytest.mark.parametrize("pickled", [True, False])
@torch.no_grad()
def test_mamba_gives_the_logits_of_transformers(tmp_path: Path, pickled: bool) -> None:
    theirs = of_transformers("mamba")
    folder = write_mamba_ssm(tmp_path, {**CONFIG, "ssm_cfg": {}, **FLAGS}, renamed(theirs), pickled=pickled)
    ours, expected = LanguageModel.from_pretrained(folder)(tokens()), theirs(tokens()).logits
    assert float((ours - expected).abs().max() / expected.abs().max()) <= 1e-5


@pytest.mark.filterwarnings("ignore")  # of transformers
@torch.no_grad()
def test_mamba_2_gives_the_logits_of_transformers(tmp_path: Path) -> None:
    theirs = of_transformers("mamba2-groups")
    options = {"layer": "Mamba2", "d_state": 16, "headdim": 8, "ngroups": 4, "dt_limit": [0.01, 0.2], "bias": True}
    config = {**CONFIG, "d_intermediate": 0, "attn_layer_idx": [], "attn_cfg": {}, **FLAGS, "tie_embeddings": True}
    folder = write_mamba_ssm(tmp_path, {**config, "ssm_cfg": options}, renamed(theirs))
    for layer in theirs.backbone.layers:  # mamba_ssm's ε
        layer.norm.variance_epsilon = layer.mixer.norm.variance_epsilon = 1e-5
    theirs.backbone.norm_f.variance_epsilon = 1e-5
    ours, expected = LanguageModel.from_pretrained(folder)(tokens()), theirs(tokens()).logits
    assert float((ours - expected).abs().max() / expected.abs().max()) <= 1e-5


def mamba_3(options: dict[str, Any], rows: int = 64) -> tuple[dict[str, Tensor], list[Mamba3]]:
    """The tensors of a Mamba-3 with feed-forward networks, by the published names, and its two layers."""
    torch.manual_seed(0)
    tensors = {"backbone.embedding.weight": torch.randn(rows, 32), "backbone.norm_f.weight": torch.rand(32) + 0.5}
    layers = []
    for i in range(2):
        layer = Mamba3(32, **{name: value for name, value in options.items() if name != "layer"})
        disturb(layer)
        tensors |= {f"backbone.layers.{i}.mixer.{name}": tensor for name, tensor in layer.state_dict().items()}
        tensors |= {f"backbone.layers.{i}.{norm}.weight": torch.rand(32) + 0.5 for norm in ("norm", "norm2")}
        tensors[f"backbone.layers.{i}.mlp.fc1.weight"] = torch.randn(2 * 128, 32) / 6
        tensors[f"backbone.layers.{i}.mlp.fc2.weight"] = torch.randn(32, 128) / 12
        layers.append(layer)
    return {**tensors, "lm_head.weight": tensors["backbone.embedding.weight"]}, layers


@pytest.mark.parametrize("options", [MAMBA3, MIMO, {**MAMBA3, "A_activation": "softplus"}], ids=["siso", "mimo", "old"])
@torch.no_grad()
def test_mamba_3_gives_the_logits_of_its_layers_by_hand(tmp_path: Path, options: dict[str, Any]) -> None:
    tensors, layers = mamba_3(options)
    config = {**CONFIG, "pad_vocab_size_multiple": 16, "d_intermediate": 100, "ssm_cfg": options, **FLAGS}
    ours = LanguageModel.from_pretrained(write_mamba_ssm(tmp_path, config, tensors))

    def norm(x: Tensor, name: str) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * tensors[f"backbone.{name}.weight"]

    x = tensors["backbone.embedding.weight"][tokens()]
    for i, layer in enumerate(layers):
        x = x + layer(norm(x, f"layers.{i}.norm"))
        value, gate = F.linear(norm(x, f"layers.{i}.norm2"), tensors[f"backbone.layers.{i}.mlp.fc1.weight"]).chunk(
            2, -1
        )
        x = x + F.linear(value * F.silu(gate), tensors[f"backbone.layers.{i}.mlp.fc2.weight"])
    expected = F.linear(norm(x, "norm_f"), tensors["lm_head.weight"])[..., :VOCABULARY]
    assert float((ours(tokens()) - expected).abs().max() / expected.abs().max()) <= 1e-5


@torch.no_grad()
def test_16_bit_checkpoints_keep_what_they_have_in_32(tmp_path: Path) -> None:
    tensors, _ = mamba_3(MIMO)
    wide = ("dt_bias", "B_bias", "C_bias", "mimo_x", "mimo_z", "mimo_o", "D")
    stored = {
        name: tensor if name.rpartition(".")[2] in wide else tensor.bfloat16() for name, tensor in tensors.items()
    }
    config = {**CONFIG, "pad_vocab_size_multiple": 16, "d_intermediate": 128, "ssm_cfg": MIMO, **FLAGS}
    model = LanguageModel.from_pretrained(write_mamba_ssm(tmp_path, config, stored))
    assert model.backbone.blocks[0].mixer.D.dtype == torch.float32
    logits = model(tokens())
    assert logits.dtype == model.embedding.weight.dtype == torch.bfloat16
    _, state = model.prefill(tokens()[:, :20])
    assert all(tensor.dtype == torch.float32 for tensor in state.backbone[0])
    again = LanguageModel.from_pretrained(tmp_path, dtype=torch.float32)
    assert all(parameter.dtype == torch.float32 for parameter in again.parameters())
    narrow = LanguageModel.from_pretrained(tmp_path, dtype=torch.bfloat16).state_dict()
    assert narrow["backbone.blocks.0.mixer.dt_bias"].dtype == torch.float32
    assert narrow["backbone.blocks.0.mixer.B_bias"].dtype == torch.bfloat16
    exact = again(tokens())
    assert float((logits - exact).abs().max() / exact.abs().max()) <= 2**-4  # a few roundings to 8 bits


def without(name: str) -> Callable[[dict], object]:
    return lambda tensors: tensors.pop(name)


Change = Callable[[dict], object]
FAULTS: dict[str, tuple[Change, Change, str]] = {
    "attention": (lambda c: c.update(attn_layer_idx=[1]), lambda t: None, r"layers \[1\] are attention"),
    "unknown field": (lambda c: c.update(colour=1), lambda t: None, "no colour"),
    "unknown layer": (
        lambda c: c["ssm_cfg"].update(layer="Mamba4"),
        lambda t: None,
        "unknown layer of ssm_cfg 'Mamba4'",
    ),
    "unknown option": (lambda c: c["ssm_cfg"].update(dstate=4), lambda t: None, "did you mean 'd_state'"),
    "no layers": (lambda c: c.update(n_layer=0), lambda t: None, "n_layers=0"),
    "no options": (lambda c: c.update(ssm_cfg=3), lambda t: None, "config.json"),
    "missing key": (lambda c: None, without("backbone.layers.1.mixer.D"), "backbone.layers.1.mixer.D is missing"),
    "unknown key": (lambda c: None, lambda t: t.update(extra=torch.zeros(1)), "extra is unknown"),
    "unknown key of a layer": (
        lambda c: None,
        lambda t: t.update({"backbone.layers.0.mixer.A_log": torch.zeros(1)}),
        "backbone.layers.0.mixer.A_log is unknown",
    ),
    "misshapen key": (
        lambda c: None,
        lambda t: t.update({"backbone.norm_f.weight": torch.zeros(5)}),
        r"backbone.norm_f.weight has floats of shape \(5,\) instead of floats of shape \(32,\)",
    ),
    "integers": (
        lambda c: None,
        lambda t: t.update({"backbone.norm_f.weight": torch.zeros(32, dtype=torch.int64)}),
        "backbone.norm_f.weight has torch.int64",
    ),
    "another head": (
        lambda c: None,
        lambda t: t.update({"lm_head.weight": torch.zeros(64, 32)}),
        "lm_head.weight differs from backbone.embedding.weight",
    ),
    "no embedding": (lambda c: None, without("backbone.embedding.weight"), "backbone.embedding.weight is missing"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_does_not_fit_is_named(tmp_path: Path, case: str, unchecked: None) -> None:
    change_config, change_tensors, message = FAULTS[case]
    tensors, _ = mamba_3(MAMBA3)
    config = {**CONFIG, "pad_vocab_size_multiple": 16, "d_intermediate": 128, "ssm_cfg": dict(MAMBA3), **FLAGS}
    change_config(config)
    change_tensors(tensors)
    with pytest.raises(CheckpointError, match=message) as caught:
        LanguageModel.from_pretrained(write_mamba_ssm(tmp_path, config, tensors))
    assert "\n" not in str(caught.value)
