"""MambaLMHeadModel: the published state dict and files, generation on a CPU, and our own model's logits."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from longwave.compat.generation import InferenceParams, decode, sample
from longwave.compat.language import MambaConfig, MambaLMHeadModel, load_config_hf, load_state_dict_hf
from longwave.errors import CheckpointError, ConfigError, UnsupportedError
from longwave.models import LanguageModel

SMALL = {"d_state": 8, "headdim": 8}
CONFIGS: dict[str, dict[str, Any]] = {
    "mamba": {},
    "mamba2": {"ssm_cfg": {"layer": "Mamba2", **SMALL}, "pad_vocab_size_multiple": 16, "tie_embeddings": False},
    "mamba3": {"ssm_cfg": {"layer": "Mamba3", **SMALL}, "d_intermediate": 40},
    "layer-norm": {"rms_norm": False, "residual_in_fp32": False},
}


def made(name: str, **options: Any) -> MambaLMHeadModel:
    torch.manual_seed(0)
    config = {"d_model": 16, "n_layer": 2, "vocab_size": 61, **CONFIGS[name], **options}
    model = MambaLMHeadModel(MambaConfig(**config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def prompt(time: int = 7) -> Tensor:
    return torch.randint(0, 61, (2, time), generator=torch.Generator().manual_seed(1))


def test_the_state_dict_is_the_published_one() -> None:
    model = made("mamba3")
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes["backbone.embedding.weight"] == shapes["lm_head.weight"] == (64, 16)
    assert shapes["backbone.norm_f.weight"] == (16,)
    layer = {name.removeprefix("backbone.layers.1."): shape for name, shape in shapes.items() if ".1." in name}
    assert {"norm.weight", "norm2.weight", "mixer.in_proj.weight", "mixer.B_norm.weight"} <= layer.keys()
    assert (layer["mlp.fc1.weight"], layer["mlp.fc2.weight"]) == ((256, 16), (16, 128))
    assert "backbone.layers.0.norm2.weight" not in made("mamba").state_dict()
    assert made("mamba2").state_dict()["lm_head.weight"].shape == (64, 16)
    assert "backbone.layers.0.norm.bias" in made("layer-norm").state_dict()


def test_what_is_added_to_the_stream_begins_small() -> None:
    torch.manual_seed(0)
    model = MambaLMHeadModel(MambaConfig(d_model=64, n_layer=8, vocab_size=500, d_intermediate=128))
    block = model.backbone.layers[0]
    for weight in (block.mixer.out_proj.weight, block.mlp.fc2.weight):
        bound = (1 / weight.shape[1]) ** 0.5 / 4  # 2 additions in each of 8 blocks
        assert 0.97 * bound < float(weight.detach().abs().max()) <= bound
    assert 0.019 < float(model.backbone.embedding.weight.detach().std()) < 0.021
    assert bool((block.mixer.dt_proj.bias != 0).all())
    assert model.lm_head.weight is model.backbone.embedding.weight


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_decoding_is_the_whole_forward(name: str) -> None:
    model, tokens = made(name), prompt(9)
    whole = model(tokens).logits
    params = InferenceParams(max_seqlen=9, max_batch_size=2, key_value_memory_dict=model.allocate_inference_cache(2, 9))
    found = [model(tokens[:, :4], inference_params=params, num_last_tokens=1).logits]
    for t in range(4, 9):
        params.seqlen_offset = t
        found.append(model(tokens[:, t : t + 1], inference_params=params, num_last_tokens=1).logits)
    torch.testing.assert_close(torch.cat(found, 1), whole[:, 3:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_files_are_read_by_us_and_by_the_model(name: str, tmp_path: Path) -> None:
    model, tokens = made(name), prompt()
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["n_layer"] == 2
    again = MambaLMHeadModel.from_pretrained(tmp_path)
    assert torch.equal(again(tokens).logits, model(tokens).logits)
    assert (again.lm_head.weight is again.backbone.embedding.weight) == model.config.tie_embeddings
    marked = [name for name, p in again.named_parameters() if getattr(p, "_no_weight_decay", False)]
    assert len(marked) == len([name for name, p in model.named_parameters() if getattr(p, "_no_weight_decay", False)])
    ours = LanguageModel.from_pretrained(tmp_path)
    torch.testing.assert_close(ours(tokens), model(tokens).logits[..., :61], rtol=1e-5, atol=1e-5)
    assert load_config_hf(tmp_path)["d_model"] == 16
    stored = load_state_dict_hf(tmp_path, dtype=torch.bfloat16)
    assert stored.keys() == model.state_dict().keys()
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    narrow = MambaLMHeadModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert narrow.backbone.layers[0].mixer.D.dtype == torch.float32
    assert narrow(tokens).logits.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "no colour"),
        ({"attn_layer_idx": [1]}, "attention"),
        ({"ssm_cfg": {"layer": "Mamba4"}}, "unknown layer of ssm_cfg 'Mamba4'"),
        ({"ssm_cfg": {"d_stat": 4}}, "d_stat"),
        ({"n_layer": 3}, "backbone.layers.2.*missing"),
    ],
)
def test_folders_that_do_not_fit(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    made("mamba").save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(CheckpointError, match=message):
        MambaLMHeadModel.from_pretrained(tmp_path)


def test_attention_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="layer 1 is attention"):
        made("mamba", attn_layer_idx=[1])


def test_greedy_generation_takes_the_likeliest() -> None:
    model, tokens = made("mamba"), prompt()
    found = model.generate(tokens, max_length=12, cg=True, return_dict_in_generate=True, output_scores=True)
    assert torch.equal(found.sequences[:, :7], tokens)
    assert len(found.scores) == 5
    with torch.no_grad():
        logits = model(found.sequences).logits[:, 6:-1]
    assert torch.equal(found.sequences[:, 7:], logits.argmax(-1))
    torch.testing.assert_close(torch.stack(found.scores, 1), logits, rtol=1e-4, atol=1e-5)
    assert torch.equal(model.generate(tokens, max_length=12), found.sequences)
    assert model.generate(tokens, 12, return_dict_in_generate=True).scores is None


class Text:
    """Collects what a streamer gets."""

    def __init__(self) -> None:
        self.pieces: list[Tensor] = []
        self.ended = False

    def put(self, value: Tensor) -> None:
        self.pieces.append(value.reshape(len(value), -1))

    def end(self) -> None:
        self.ended = True


def test_options_of_generation(capsys: pytest.CaptureFixture[str]) -> None:
    model, tokens, text = made("mamba"), prompt(), Text()
    plain = model.generate(tokens, max_length=12)
    assert torch.equal(model.generate(tokens, 12, streamer=text, enable_timing=True), plain)
    assert torch.equal(torch.cat(text.pieces, 1), plain)
    assert text.ended
    assert "Prompt processing + decoding time" in capsys.readouterr().out
    teacher = torch.cat([tokens, torch.tensor([[1, 2], [3, 4]])], 1)
    assert torch.equal(model.generate(tokens, 12, teacher_outputs=teacher)[:, 7:9], teacher[:, 7:])
    assert int(model.generate(tokens, 40, top_k=0, temperature=50.0, vocab_size=5)[:, 7:].max()) < 5
    row = tokens[:1]
    stop = int(model.generate(row, 9)[0, 8])
    ended = model.generate(row, 40, eos_token_id=stop)
    assert int(ended[0, -1]) == stop
    assert ended.shape[1] <= 9
    once = decode(row, model, 40, repetition_penalty=1e6).sequences[0]
    assert len(set(once[7:].tolist())) == 33  # no token comes again
    assert not set(once[7:].tolist()) & set(row[0].tolist())
    torch.manual_seed(0)
    drawn = model.generate(tokens, 12, top_k=3, temperature=0.8)
    torch.manual_seed(0)
    assert torch.equal(model.generate(tokens, 12, top_k=3, temperature=0.8), drawn)


def test_tokens_are_drawn_from_the_likeliest() -> None:
    logits = torch.tensor([0.5, 0.25, 0.15, 0.1]).log().expand(4000, 4)
    torch.manual_seed(0)

    def shares(**options: float) -> Tensor:
        return sample(logits, **options).bincount(minlength=4) / 4000  # pyright: ignore[reportArgumentType]

    def near(found: Tensor, *expected: float) -> None:
        assert float((found - torch.tensor(expected)).abs().max()) < 4 * 0.5 / 4000**0.5

    near(shares(top_k=0), 0.5, 0.25, 0.15, 0.1)
    near(shares(top_k=2), 2 / 3, 1 / 3, 0, 0)
    near(shares(top_k=0, top_p=0.8), 5 / 9, 2.5 / 9, 1.5 / 9, 0)
    near(shares(top_k=0, top_p=0.5), 1, 0, 0, 0)
    near(shares(top_k=0, min_p=0.4), 2 / 3, 1 / 3, 0, 0)
    near(shares(top_k=0, temperature=0.5), 0.25 / 0.345, 0.0625 / 0.345, 0.0225 / 0.345, 0.01 / 0.345)
    assert bool((sample(logits) == 0).all())


@pytest.mark.parametrize("option", [{"top_k": -1}, {"top_p": 1.5}, {"min_p": -0.1}, {"temperature": 0.0}])
def test_options_out_of_range(option: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(option))):
        sample(torch.zeros(1, 3), **{"top_k": 2, **option})
