"""What compat.transformers() replaces, reports and puts back."""

import importlib
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from families import model_of, tokens

from longwave import compat
from longwave.errors import MissingExtraError, UnsupportedError

pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers
MODELS = "transformers.models"


def modeling(family: str) -> ModuleType:
    return importlib.import_module(f"{MODELS}.{family}.modeling_{family}")


def test_undo_restores_the_same_objects() -> None:
    mamba, qwen = modeling("mamba"), modeling("qwen3_next")
    before = vars(mamba.MambaMixer)["forward"], qwen.causal_conv1d_fn, qwen.causal_conv1d_update, list(sys.meta_path)
    report = compat.transformers()
    engaged = vars(mamba.MambaMixer)["forward"], qwen.causal_conv1d_fn, qwen.causal_conv1d_update, list(sys.meta_path)
    assert all(ours is not theirs for ours, theirs in zip(engaged, before, strict=True))
    report.undo()
    after = vars(mamba.MambaMixer)["forward"], qwen.causal_conv1d_fn, qwen.causal_conv1d_update, list(sys.meta_path)
    assert after == before
    assert all(now is then for now, then in zip(after[:3], before[:3], strict=True))


def test_twice_is_once() -> None:
    forward = modeling("mamba2").Mamba2Mixer.forward
    report = compat.transformers()
    assert compat.transformers() is report
    report.undo()
    report.undo()
    assert modeling("mamba2").Mamba2Mixer.forward is forward


def test_a_file_imported_later_is_engaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, f"{MODELS}.bamba.modeling_bamba", raising=False)
    with compat.transformers() as report:
        assert "bamba" not in report.files
        assert "when imported: bamba" in str(report)
        late = modeling("bamba")
        ours = late.BambaMixer.forward
        assert report.files["bamba"].engaged == ["BambaMixer.forward", "BambaForCausalLM.lm_head"]
    assert late.BambaMixer.forward is ours.__wrapped__


def test_nothing_is_engaged_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, f"{MODELS}.bamba.modeling_bamba", raising=False)
    with compat.transformers() as report:
        pass
    modeling("bamba")
    assert "bamba" not in report.files


@pytest.mark.parametrize("version", ["4.57.1", "5.0.0", "5.14.9"])
def test_an_old_transformers_is_refused_by_its_version(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.__version__", version)
    with pytest.raises(UnsupportedError, match=rf"transformers {version} .* pip install 'transformers>=5.15'"):
        compat.transformers()


@pytest.mark.parametrize("version", ["5.15.0", "5.23.0.dev0", "6.0.0"])
def test_a_new_one_is_taken(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.__version__", version)
    with compat.transformers() as report:
        assert report.version == version


def test_without_transformers_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match="pip install"):
        compat.transformers()


def test_a_mixer_of_another_make_is_left_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modeling("mamba").MambaMixer, "forward", lambda self, x: x)
    with compat.transformers() as report:
        assert report.files["mamba"].engaged == []
        assert "MambaMixer: this version of it has no forward(hidden_states" in str(report)


def test_the_report_names_what_has_no_operation_here() -> None:
    modeling("qwen3_next")
    with compat.transformers() as report:
        file = report.files["qwen3_next"]
        assert file.engaged == ["causal_conv1d_update", "causal_conv1d_fn"]
        assert set(file.left.values()) == {"longwave has no such operation"}
        assert len(file.left) == 2
        assert "qwen3_next: causal_conv1d_update, causal_conv1d_fn; 0 calls; not " in str(report)
        assert str(report).startswith(f"transformers {report.version} on longwave (native kernels")


def test_another_device_takes_the_path_that_was_there() -> None:
    model, x = model_of("mamba").to("meta"), tokens().to("meta")
    with compat.transformers() as report:
        assert model(x).logits.shape == (2, 21, 40)
        assert report.files["mamba"].deferred == {"tensors on meta": 2}
        assert report.files["mamba"].calls == 0


def test_another_activation_takes_the_path_that_was_there() -> None:
    model = model_of("mamba")
    for layer in model.backbone.layers:
        layer.mixer.activation = "gelu"
    plain = model(tokens()).logits
    with compat.transformers() as report:
        torch.testing.assert_close(model(tokens()).logits, plain)  # the head has sums of its own
        assert "2 deferred: the activation gelu" in str(report)


def lfm2() -> Any:
    library = importlib.import_module("transformers")
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48}
    config = library.Lfm2Config(
        vocab_size=40, num_hidden_layers=2, layer_types=["conv", "full_attention"], **sizes, pad_token_id=0
    )
    torch.manual_seed(0)
    return library.Lfm2ForCausalLM(config).eval()


@torch.no_grad()
def test_short_convolutions_of_other_models_are_ours() -> None:
    model, options = lfm2(), {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None}
    plain, generated = model(tokens()).logits, model.generate(tokens(), **options)
    with compat.transformers() as report:
        torch.testing.assert_close(model(tokens()).logits, plain)
        assert torch.equal(model.generate(tokens(), **options), generated)
        assert report.files["lfm2"].calls == 1 + 5


@torch.no_grad()
def test_packed_sequences_are_kept_apart() -> None:
    """Plain transformers refuses them without other packages, where a model hands them on to its mixers."""
    backbone, x = model_of("mamba2").backbone, tokens(rows=1)
    seq_idx = (torch.arange(21) >= 8).int()[None]
    with compat.transformers():
        packed = backbone(x, seq_idx=seq_idx, use_cache=False).last_hidden_state
        torch.testing.assert_close(packed[:, 8:], backbone(x[:, 8:]).last_hidden_state)
        torch.testing.assert_close(packed[:, :8], backbone(x[:, :8]).last_hidden_state)
    with pytest.raises(ValueError, match="packed sequences apart"):
        backbone(x, seq_idx=seq_idx, use_cache=False)


class OneGroupNorm(torch.nn.Module):
    """The gated norm of Mamba-2 before transformers 5.23."""

    def __init__(self, weight: torch.nn.Parameter, eps: float) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = weight, eps

    def forward(self, y: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        y = y * torch.nn.functional.silu(gate)
        return self.weight * y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)


def test_a_norm_of_all_groups_stays_one() -> None:
    model, x = model_of("mamba2"), tokens()
    in_groups = model(x).logits
    for layer in model.backbone.layers:
        norm = layer.mixer.norm
        layer.mixer.norm = OneGroupNorm(norm.weight, norm.variance_epsilon)
    plain = model(x).logits
    with compat.transformers():
        torch.testing.assert_close(model(x).logits, plain)
    assert not torch.allclose(plain, in_groups)


def test_older_caches_and_wrapped_mixers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 5.21 a cache has no methods to read it, and in 5.15 a wrapper hides a mixer's arguments."""
    mixer, cache = modeling("mamba").MambaMixer, importlib.import_module("transformers.cache_utils").Cache
    model, x = model_of("mamba"), tokens()
    plain, forward = model(x).logits, mixer.forward
    monkeypatch.setattr(mixer, "forward", lambda self, *args, **kwargs: forward(self, *args, **kwargs))
    for name in ("get_conv_state", "get_recurrent_state", "is_recording_past"):
        monkeypatch.delattr(cache, name)
    with compat.transformers() as report:
        begun = model(x[:, :9], use_cache=True)
        rest = model(x[:, 9:], cache_params=begun.cache_params, use_cache=True)
    torch.testing.assert_close(torch.cat([begun.logits, rest.logits], 1), plain)
    assert report.files["mamba"].calls == 4


def test_the_head_is_torchs_again_after_every_call() -> None:
    model, x = model_of("mamba"), tokens()
    with compat.transformers(), torch.no_grad():
        ours = model(x).logits
        assert type(model.lm_head) is torch.nn.Linear
        assert "forward" not in vars(model.lm_head)
        hidden = model.backbone(x)[0]
        torch.testing.assert_close(ours, model.lm_head(hidden))
        with pytest.raises(IndexError):
            model(x + 10**6)
        assert "forward" not in vars(model.lm_head)


def test_a_wrapped_head_stays_as_it_is() -> None:
    model, x = model_of("mamba"), tokens()
    calls, plain = [], model.lm_head.forward
    model.lm_head.forward = lambda h: calls.append(len(h)) or plain(h)
    with compat.transformers():
        model(x)
    assert calls == [len(x)]
    assert "forward" in vars(model.lm_head)
