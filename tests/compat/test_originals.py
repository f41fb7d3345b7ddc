"""The public names of mamba_ssm and causal_conv1d: where they are imported from, and their signatures."""

import importlib
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from longwave import compat
from longwave.compat.originals import CONTENTS
from longwave.errors import ConfigError, LongwaveError, UnsupportedError

_NORM = "x, weight, bias, residual=None, x1=None, weight1=None, bias1=None, eps=1e-06, dropout_p=0.0, rowscale=None, "
_CONVOLVED = "zxbcdt, conv1d_weight, conv1d_bias, dt_bias, A, D, chunk_size, "
_INNER = (
    "xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, out_proj_weight, out_proj_bias, A, B=None, "
    "C=None, D=None, delta_bias=None, B_proj_bias=None, C_proj_bias=None, delta_softplus=True"
)
_SCAN = "u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False"
_MAMBA2_END = "layer_idx=None, process_group=None, sequence_parallel=True, device=None, dtype=None"
_GATED = "hidden_size, eps=1e-05, group_size=None, norm_before_gate=True, device=None, dtype=None"
_LOW = "x, conv_state, weight, bias=None, activation=None, cache_seqlens=None"

SIGNATURES = {
    "causal_conv1d": {
        "causal_conv1d_fn": "x, weight, bias=None, seq_idx=None, initial_states=None, return_final_states=False, "
        "final_states_out=None, activation=None",
        "causal_conv1d_update": f"{_LOW}, conv_state_indices=None",
    },
    "causal_conv1d.causal_conv1d_interface": {
        "causal_conv1d_ref": "x, weight, bias=None, initial_states=None, return_final_states=False, "
        "final_states_out=None, activation=None, seq_idx=None",
        "causal_conv1d_update_ref": _LOW,
    },
    "causal_conv1d.causal_conv1d_varlen": {
        "causal_conv1d_varlen_states": "x, cu_seqlens, state_len",
        "causal_conv1d_varlen_states_ref": "x, cu_seqlens, state_len",
    },
    "causal_conv1d.cpp_functions": {
        "causal_conv1d_fwd_function": "x, weight, bias, seq_idx, initial_states, final_states_out, silu_activation",
        "causal_conv1d_bwd_function": "x, weight, bias, dout, seq_idx, initial_states, dfinal_states, dx, "
        "return_dinitial_states, silu_activation",
        "causal_conv1d_update_function": "x, conv_state, weight, bias, silu_activation, cache_seqlens, "
        "conv_state_indices",
    },
    "mamba_ssm.ops.selective_scan_interface": {
        "selective_scan_fn": _SCAN,
        "selective_scan_ref": _SCAN,
        "mamba_inner_fn": f"{_INNER}, checkpoint_lvl=1, b_rms_weight=None, c_rms_weight=None, dt_rms_weight=None, "
        "b_c_dt_rms_eps=1e-06",
        "mamba_inner_ref": _INNER,
    },
    "mamba_ssm.ops.triton.selective_state_update": {
        "selective_state_update": "state, x, dt, A, B, C, D=None, z=None, dt_bias=None, dt_softplus=False, "
        "state_batch_indices=None",
        "selective_state_update_ref": "state, x, dt, A, B, C, D=None, z=None, dt_bias=None, dt_softplus=False",
    },
    "mamba_ssm.ops.triton.ssd_combined": {
        "mamba_chunk_scan_combined": "x, dt, A, B, C, chunk_size, D=None, z=None, dt_bias=None, initial_states=None, "
        "seq_idx=None, cu_seqlens=None, dt_softplus=False, dt_limit=(0.0, inf), return_final_states=False, "
        "return_varlen_states=False, state_dtype=None",
        "mamba_split_conv1d_scan_combined": f"{_CONVOLVED}initial_states=None, seq_idx=None, dt_limit=(0.0, inf), "
        "return_final_states=False, activation='silu', rmsnorm_weight=None, rmsnorm_eps=1e-06, outproj_weight=None, "
        "outproj_bias=None, headdim=None, ngroups=1, norm_before_gate=True, state_dtype=None",
        "mamba_chunk_scan": "x, dt, A, B, C, chunk_size, D=None, z=None, dt_bias=None, dt_softplus=False",
        "ssd_selective_scan": "x, dt, A, B, C, D=None, z=None, dt_bias=None, dt_softplus=False, dt_limit=(0.0, inf)",
        "mamba_split_conv1d_scan_ref": f"{_CONVOLVED}dt_limit=(0.0, inf), activation='silu', rmsnorm_weight=None, "
        "rmsnorm_eps=1e-06, outproj_weight=None, outproj_bias=None, headdim=None, ngroups=1, norm_before_gate=True",
    },
    "mamba_ssm.ops.triton.layernorm_gated": {
        "rmsnorm_fn": "x, weight, bias, z=None, eps=1e-06, group_size=None, norm_before_gate=True",
        "layernorm_fn": "x, weight, bias, z=None, eps=1e-06, group_size=None, norm_before_gate=True, is_rms_norm=False",
        "RMSNorm": _GATED,
        "LayerNorm": _GATED,
    },
    "mamba_ssm.ops.triton.layer_norm": {
        "layer_norm_fn": f"{_NORM}prenorm=False, residual_in_fp32=False, is_rms_norm=False, return_dropout_mask=False",
        "rms_norm_fn": f"{_NORM}prenorm=False, residual_in_fp32=False, return_dropout_mask=False",
        "RMSNorm": "hidden_size, eps=1e-05, dropout_p=0.0, device=None, dtype=None",
    },
    "mamba_ssm.modules.mamba_simple": {
        "Mamba": "d_model, d_state=16, d_conv=4, expand=2, dt_rank='auto', dt_min=0.001, dt_max=0.1, dt_init='random', "
        "dt_scale=1.0, dt_init_floor=0.0001, conv_bias=True, bias=False, use_fast_path=True, layer_idx=None, "
        "device=None, dtype=None",
        "Mamba.forward": "self, hidden_states, inference_params=None",
        "Mamba.step": "self, hidden_states, conv_state, ssm_state",
        "Mamba.allocate_inference_cache": "self, batch_size, max_seqlen, dtype=None, **kwargs",
    },
    "mamba_ssm.modules.mamba2": {
        "Mamba2": "d_model, d_state=128, d_conv=4, conv_init=None, expand=2, headdim=64, d_ssm=None, ngroups=1, "
        "A_init_range=(1, 16), D_has_hdim=False, rmsnorm=True, norm_before_gate=False, dt_min=0.001, dt_max=0.1, "
        "dt_init_floor=0.0001, dt_limit=(0.0, inf), bias=False, conv_bias=True, chunk_size=256, use_mem_eff_path=True, "
        + _MAMBA2_END,
        "Mamba2.forward": "self, u, seqlen=None, seq_idx=None, cu_seqlens=None, inference_params=None",
        "Mamba2.step": "self, hidden_states, conv_state, ssm_state",
    },
    "mamba_ssm.modules.mamba2_simple": {
        "Mamba2Simple": "d_model, d_state=64, d_conv=4, conv_init=None, expand=2, headdim=128, ngroups=1, "
        "A_init_range=(1, 16), dt_min=0.001, dt_max=0.1, dt_init_floor=0.0001, dt_limit=(0.0, inf), "
        "learnable_init_states=False, activation='swish', bias=False, conv_bias=True, chunk_size=256, "
        "use_mem_eff_path=True, layer_idx=None, device=None, dtype=None",
        "Mamba2Simple.forward": "self, u, seq_idx=None",
    },
    "mamba_ssm.modules.mamba3": {
        "Mamba3": "d_model, d_state=128, expand=2, headdim=64, ngroups=1, rope_fraction=0.5, dt_min=0.001, dt_max=0.1, "
        "dt_init_floor=0.0001, A_floor=0.0001, is_outproj_norm=False, is_mimo=False, mimo_rank=4, "
        "fuse_pregate_headwise_norm=True, chunk_size=64, dropout=0.0, layer_idx=None, n_layer=None, device=None, "
        "dtype=None, *, A_activation='heavy_tail'",
        "Mamba3.forward": "self, u, seq_idx=None, cu_seqlens=None, inference_params=None",
    },
    "mamba_ssm.ops.triton.mamba3.mamba3_siso_combined": {
        "mamba3_siso_combined": "Q, K, V, ADT, DT, Trap, Q_bias, K_bias, Angles, D=None, Z=None, Input_States=None, "
        "chunk_size=64, return_final_states=False, cu_seqlens=None",
    },
    "mamba_ssm.ops.tilelang.mamba3.mamba3_mimo": {
        "mamba3_mimo": "Q, K, V, ADT, DT, Trap, Q_bias, K_bias, MIMO_V, MIMO_Z, MIMO_Out, Angles, D, Z, chunk_size, "
        "rotary_dim_divisor, dtype, return_state=False, cu_seqlens=None, fuse_pregate_headwise_rms_norm=False, "
        "outproj_norm_weight=None, outproj_norm_eps=1e-05",
    },
    "mamba_ssm.modules.block": {
        "Block": "dim, mixer_cls, mlp_cls, norm_cls=LayerNorm, fused_add_norm=False, residual_in_fp32=False",
        "Block.forward": "self, hidden_states, residual=None, inference_params=None, **mixer_kwargs",
    },
    "mamba_ssm.modules.mlp": {
        "GatedMLP": "in_features, hidden_features=None, out_features=None, activation=silu, bias=False, "
        "multiple_of=128, device=None, dtype=None",
    },
    "mamba_ssm.models.config_mamba": {
        "MambaConfig": "d_model=2560, d_intermediate=0, n_layer=64, vocab_size=50277, ssm_cfg=made, "
        "attn_layer_idx=made, attn_cfg=made, rms_norm=True, residual_in_fp32=True, fused_add_norm=True, "
        "pad_vocab_size_multiple=8, tie_embeddings=True",
    },
    "mamba_ssm.models.mixer_seq_simple": {
        "MambaLMHeadModel": "config, initializer_cfg=None, device=None, dtype=None",
        "MambaLMHeadModel.forward": "self, input_ids, position_ids=None, inference_params=None, num_last_tokens=0, "
        "**mixer_kwargs",
        "create_block": "d_model, d_intermediate, ssm_cfg=None, attn_layer_idx=None, attn_cfg=None, "
        "norm_epsilon=1e-05, rms_norm=False, residual_in_fp32=False, fused_add_norm=False, layer_idx=None, "
        "device=None, dtype=None",
    },
    "mamba_ssm.utils.generation": {
        "InferenceParams": "max_seqlen, max_batch_size, seqlen_offset=0, batch_size_offset=0, "
        "key_value_memory_dict=made, lengths_per_sample=None",
        "InferenceParams.reset": "self, max_seqlen, max_batch_size",
        "GenerationMixin.generate": "self, input_ids, max_length, top_k=1, top_p=0.0, min_p=0.0, temperature=1.0, "
        "return_dict_in_generate=False, output_scores=False, repetition_penalty=1.0, eos_token_id=None, "
        "teacher_outputs=None, vocab_size=None, cg=False, enable_timing=False, streamer=None",
    },
    "mamba_ssm.utils.hf": {"load_config_hf": "model_name", "load_state_dict_hf": "model_name, device=None, dtype=None"},
}


@pytest.fixture
def installed() -> Iterator[None]:
    compat.install()
    yield
    compat.uninstall()


def _name(default: object) -> str:
    """A default as the table has it; that of a dataclass's field shows its maker alone."""
    return "made" if "factory" in repr(default) else getattr(default, "__name__", None) or repr(default)


def written(signature: inspect.Signature) -> str:
    """Names, order and defaults, without annotations."""
    parts = []
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        stars = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
        given = "" if parameter.default is parameter.empty else f"={_name(parameter.default)}"
        parts.append(f"{stars}{name}{given}")
    return ", ".join(parts)


@pytest.mark.parametrize("module", CONTENTS)
def test_every_module_can_be_imported_with_its_names(module: str, installed: None) -> None:
    found = importlib.import_module(module)
    for names in CONTENTS[module].values():
        for name in names:
            assert getattr(found, name).__module__.startswith("longwave.compat.")
    assert found.__spec__ is not None


@pytest.mark.parametrize("module", SIGNATURES)
def test_signatures_are_those_of_the_originals(module: str, installed: None) -> None:
    for path, expected in SIGNATURES[module].items():
        found = importlib.import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
        assert written(inspect.signature(found)) == expected, path


def test_a_package_has_its_modules_as_attributes(installed: None) -> None:
    import causal_conv1d  # pyright: ignore[reportMissingImports]
    import mamba_ssm  # pyright: ignore[reportMissingImports]

    assert mamba_ssm.ops.triton.ssd_combined.mamba_chunk_scan_combined
    assert mamba_ssm.__version__.endswith("+longwave")
    assert causal_conv1d.__version__.endswith("+longwave")


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("mamba_ssm.modules.mha", "no attention"),
        ("mamba_ssm.distributed.tensor_parallel", "over processes"),
        ("mamba_ssm.ops.cute.mamba3", "without a function of its own"),
        ("mamba_ssm.ops.gpu_selector", r"it has mamba_ssm.ops.sel.*triton"),
        ("causal_conv1d.nowhere", "it has causal_conv1d.causal_conv1d_interface"),
    ],
)
def test_what_is_not_offered_is_named_at_its_import(module: str, message: str, installed: None) -> None:
    with pytest.raises(ImportError, match=message) as caught:
        importlib.import_module(module)
    assert isinstance(caught.value, UnsupportedError)


def test_an_unknown_name_is_named(installed: None) -> None:
    module = importlib.import_module("mamba_ssm.modules.mlp")
    with pytest.raises(AttributeError, match=r"no mamba_ssm\.modules\.mlp\.MLP; .* has GatedMLP") as caught:
        _ = module.MLP
    assert isinstance(caught.value, LongwaveError)
    assert not hasattr(module, "MLP")
    with pytest.raises(ImportError, match="cannot import name 'MLP'"):
        exec("from mamba_ssm.modules.mlp import MLP")


def test_installing_twice_and_uninstalling(installed: None) -> None:
    before = list(sys.meta_path)
    compat.install()
    assert sys.meta_path == before
    import mamba_ssm  # pyright: ignore[reportMissingImports]  # noqa: F401

    compat.uninstall()
    compat.uninstall()
    assert not [name for name in sys.modules if name.startswith(("mamba_ssm", "causal_conv1d"))]
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("mamba_ssm")


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of that name, as if it was installed."""
    (tmp_path / "mamba_ssm").mkdir()
    (tmp_path / "mamba_ssm" / "__init__.py").write_text("__version__ = 'real'\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    compat.uninstall()
    sys.modules.pop("mamba_ssm", None)


@pytest.mark.parametrize("imported", [False, True])
def test_the_real_package_is_not_replaced_unasked(real: Path, imported: bool) -> None:
    if imported:
        assert importlib.import_module("mamba_ssm").__version__ == "real"
    with pytest.raises(ConfigError, match=r"mamba_ssm can be imported.*replace=True"):
        compat.install()
    before = importlib.import_module("mamba_ssm")
    assert before.__version__ == "real"
    compat.install(replace=True)
    assert importlib.import_module("mamba_ssm").__version__ != "real"
    compat.uninstall()
    assert importlib.import_module("mamba_ssm") is before


def test_a_module_that_is_only_loaded_is_not_replaced_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "causal_conv1d", ModuleType("causal_conv1d"))
    with pytest.raises(ConfigError, match="causal_conv1d can be imported"):
        compat.install()


SCRIPT = """
import sys
import torch
from causal_conv1d import causal_conv1d_fn
from mamba_ssm import Mamba, Mamba2
from mamba_ssm.models.config_mamba import MambaConfig
from mamba_ssm.models.mixer_seq_simple import MambaLMHeadModel
from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
try:
    from mamba_ssm.modules.mha import MHA
except ImportError:
    MHA = None

torch.manual_seed(0)
x = torch.randn(2, 64, 16)
assert Mamba(d_model=16, d_state=16, d_conv=4, expand=2)(x).shape == x.shape
assert Mamba2(d_model=16, d_state=64, d_conv=4, expand=2, headdim=8)(x).shape == x.shape
model = MambaLMHeadModel(MambaConfig(d_model=16, n_layer=2, vocab_size=50))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
tokens = torch.randint(0, 50, (4, 20))
losses = []
for _ in range(5):
    logits = model(tokens[:, :-1]).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert losses[-1] < losses[0]
out = model.generate(input_ids=tokens[:, :5], max_length=9, cg=True, return_dict_in_generate=True, top_k=5)
assert out.sequences.shape == (4, 9)
print(__name__, sys.argv[1:], MHA, sys.path[0])
"""


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "longwave.compat", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def test_a_script_for_mamba_ssm_runs_unchanged(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text(textwrap.dedent(SCRIPT))
    found = run("project/train.py", "--lr", "-m", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert found.stdout == f"__main__ ['--lr', '-m'] None {folder}\n"


def test_a_module_runs_as_python_runs_it(tmp_path: Path, real: Path) -> None:
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool" / "__init__.py").write_text("")
    (tmp_path / "tool" / "__main__.py").write_text(
        "import sys, mamba_ssm; print(__name__, __package__, sys.argv[1:], sys.path[0], mamba_ssm.__version__)"
    )
    refused = run("-m", "tool", cwd=tmp_path)
    assert refused.returncode == 1
    assert "mamba_ssm can be imported" in refused.stderr
    assert "Traceback" not in refused.stderr
    found = run("--replace", "-m", "tool", "--replace", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert found.stdout == f"__main__ tool ['--replace'] {tmp_path} 2.3.2.post1+longwave\n"


def test_the_command_line_says_what_is_wrong(tmp_path: Path) -> None:
    assert "run a module" in run("--help", cwd=tmp_path).stdout
    missing = run("nowhere.py", cwd=tmp_path)
    assert missing.returncode == 2
    assert "nowhere.py: no such file" in missing.stderr
    assert run(cwd=tmp_path).returncode == 2


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_the_readmes_lines_run(readme: str) -> None:
    text = (Path(__file__).parents[2] / readme).read_text()
    (lines,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "compat.install" in block]
    assert len(list(filter(None, lines.splitlines()))) == 5
    try:
        exec(lines, {})
    finally:
        compat.uninstall()
