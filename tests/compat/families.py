"""Small models, randomly initialised, of every family of transformers that has a state space mixer.

A family's name may be followed by what is special about a model.
"""

import importlib
from typing import Any

import torch

VOCABULARY = 40
_COMMON = {"vocab_size": VOCABULARY, "hidden_size": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_ATTENTION = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48, "num_hidden_layers": 2}
_HEADS = {
    "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 2, "mamba_chunk_size": 8
}  # fmt: skip
_SHARED = {
    "num_key_value_heads": 4,
    "n_mamba_heads": 2,
    "num_hidden_layers": 3,
    "layers_block_type": ["linear_attention", "hybrid", "hybrid"],
}
_FACTORS = {"mamba_d_ssm": 64, "ssm_in_multiplier": 0.8, "ssm_multipliers": [0.5, 1.5, 0.7, 1.2, 0.9]}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "mamba": ("Mamba", {"num_hidden_layers": 2, "state_size": 8}),
    "falcon_mamba": ("FalconMamba", {"num_hidden_layers": 2, "state_size": 8}),
    "jamba": (
        "Jamba",
        {**_ATTENTION, "mamba_d_state": 8, "attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2},
    ),
    "zamba": ("Zamba", {**_ATTENTION, **_SHARED, "mamba_d_state": 8}),
    "mamba2": (
        "Mamba2",
        {"num_hidden_layers": 2, "state_size": 8, "num_heads": 4, "head_dim": 16, "n_groups": 2, "chunk_size": 8},
    ),
    "bamba": ("Bamba", {**_ATTENTION, **_HEADS, "attn_layer_indices": [1]}),
    "falcon_h1": ("FalconH1", {**_ATTENTION, **_HEADS, **_FACTORS, "mamba_rms_norm": True}),
    "falcon_h1 without norm": ("FalconH1", {**_ATTENTION, **_HEADS, **_FACTORS, "mamba_rms_norm": False}),
    "granitemoehybrid": (
        "GraniteMoeHybrid",
        {**_ATTENTION, **_HEADS, "layer_types": ["mamba", "attention"], "shared_intermediate_size": 48},
    ),
    "nemotron_h": (
        "NemotronH",
        {**_ATTENTION, "layer_types": ["linear_attention", "full_attention"], "head_dim": 8, "n_groups": 2}
        | {"mamba_num_heads": 4, "mamba_head_dim": 16, "ssm_state_size": 8, "chunk_size": 8},
    ),
    "zamba2": ("Zamba2", {**_ATTENTION, **_SHARED, "mamba_d_state": 8, "mamba_ngroups": 2, "chunk_size": 8}),
}


def model_of(family: str, **special: Any) -> Any:
    """A causal language model in evaluation mode."""
    name, options = FAMILIES[family]
    library = importlib.import_module("transformers")
    torch.manual_seed(0)
    config = getattr(library, f"{name}Config")(**{**_COMMON, **options, **special})
    config._experts_implementation = "eager"  # the other one has no double precision
    model = getattr(library, f"{name}ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # zeros and ones would hide mistakes
    return model


def tokens(rows: int = 2, time: int = 21) -> torch.Tensor:
    """Random ones, none of which pads or ends."""
    return torch.randint(3, VOCABULARY, (rows, time), generator=torch.Generator().manual_seed(1))
