"""What mamba_ssm and causal_conv1d have, module by module, and the file of this folder that has it here."""

from collections.abc import Mapping

VERSIONS = {"mamba_ssm": "2.3.2.post1+longwave", "causal_conv1d": "1.7.0+longwave"}

_CONVOLUTION = ("causal_conv1d_fn", "causal_conv1d_update")
_MIXERS = {"mamba": "Mamba", "mamba2": "Mamba2", "mamba3": "Mamba3"}
_RESIDUAL_NORMS = ("RMSNorm", "layer_norm_fn", "rms_norm_fn", "layer_norm_linear_fn")

# module -> file here -> names; a package has its modules as attributes too
CONTENTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "causal_conv1d": {"causal_conv": (*_CONVOLUTION, "causal_conv1d_varlen_states")},
    "causal_conv1d.causal_conv1d_interface": {
        "causal_conv": (*_CONVOLUTION, "causal_conv1d_ref", "causal_conv1d_update_ref")
    },
    "causal_conv1d.causal_conv1d_varlen": {
        "causal_conv": ("causal_conv1d_varlen_states", "causal_conv1d_varlen_states_ref")
    },
    "causal_conv1d.cpp_functions": {
        "causal_conv": (
            "causal_conv1d_fwd_function",
            "causal_conv1d_bwd_function",
            "causal_conv1d_update_function",
        )
    },
    "mamba_ssm": {
        "selective_scan": ("selective_scan_fn", "mamba_inner_fn"),
        **{file: (name,) for file, name in _MIXERS.items()},
        "language": ("MambaLMHeadModel",),
    },
    "mamba_ssm.models": {},
    "mamba_ssm.models.config_mamba": {"language": ("MambaConfig",)},
    "mamba_ssm.models.mixer_seq_simple": {
        "language": ("MambaLMHeadModel", "MixerModel", "create_block", "_init_weights"),
        **{file: (name,) for file, name in _MIXERS.items()},
        "block": ("Block", "GatedMLP"),
        "residual_norms": _RESIDUAL_NORMS,
    },
    "mamba_ssm.modules": {},
    "mamba_ssm.modules.block": {"block": ("Block",)},
    "mamba_ssm.modules.mlp": {"block": ("GatedMLP",)},
    "mamba_ssm.modules.mamba_simple": {"mamba": ("Mamba",)},
    "mamba_ssm.modules.mamba2": {"mamba2": ("Mamba2",)},
    "mamba_ssm.modules.mamba2_simple": {"mamba2": ("Mamba2Simple",)},
    "mamba_ssm.modules.mamba3": {"mamba3": ("Mamba3",)},
    "mamba_ssm.modules.ssd_minimal": {"ssd": ("ssd_minimal_discrete", "segsum")},
    "mamba_ssm.ops": {},
    "mamba_ssm.ops.selective_scan_interface": {
        "selective_scan": ("selective_scan_fn", "selective_scan_ref", "mamba_inner_fn", "mamba_inner_ref"),
        "causal_conv": ("causal_conv1d_fn",),
    },
    "mamba_ssm.ops.triton": {},
    "mamba_ssm.ops.triton.mamba3": {},
    "mamba_ssm.ops.triton.mamba3.mamba3_siso_combined": {"mamba3_scan": ("mamba3_siso_combined",)},
    "mamba_ssm.ops.tilelang": {},
    "mamba_ssm.ops.tilelang.mamba3": {},
    "mamba_ssm.ops.tilelang.mamba3.mamba3_mimo": {"mamba3_scan": ("mamba3_mimo",)},
    "mamba_ssm.ops.triton.selective_state_update": {
        "state_update": ("selective_state_update", "selective_state_update_ref")
    },
    "mamba_ssm.ops.triton.ssd_combined": {
        "ssd": (
            "mamba_chunk_scan_combined",
            "mamba_split_conv1d_scan_combined",
            "mamba_chunk_scan",
            "mamba_conv1d_scan_ref",
            "mamba_split_conv1d_scan_ref",
            "ssd_chunk_scan_combined_ref",
            "ssd_selective_scan",
        ),
        "gated_norms": ("rmsnorm_fn",),
    },
    "mamba_ssm.ops.triton.layernorm_gated": {
        "gated_norms": ("RMSNorm", "LayerNorm", "rmsnorm_fn", "layernorm_fn", "rms_norm_ref")
    },
    "mamba_ssm.ops.triton.layer_norm": {"residual_norms": _RESIDUAL_NORMS},
    "mamba_ssm.ops.triton.layernorm": {"residual_norms": _RESIDUAL_NORMS},  # its name until 2.0
    "mamba_ssm.utils": {},
    "mamba_ssm.utils.generation": {
        "generation": ("InferenceParams", "GenerationMixin", "decode", "sample"),
    },
    "mamba_ssm.utils.hf": {"language": ("load_config_hf", "load_state_dict_hf")},
}

# what cannot be offered -> why; everything below it as well
UNSUPPORTED: Mapping[str, str] = {
    "mamba_ssm.modules.mha": "longwave has no attention",
    "mamba_ssm.modules.moe": "longwave has no mixtures of experts",
    "mamba_ssm.modules.context_parallel": "longwave does not spread a sequence over processes",
    "mamba_ssm.ops.cute": "longwave.compat.mamba3.Mamba3.step decodes without a function of its own",
    "mamba_ssm.distributed": "longwave does not spread a layer over processes",
}
