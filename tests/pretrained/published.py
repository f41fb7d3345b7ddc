"""Small models as transformers and mamba_ssm publish them, with random parameters everywhere."""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

VOCABULARY = 61
_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": VOCABULARY}
_HEADS = {"num_heads": 8, "head_dim": 8, "state_size": 16, "chunk_size": 8}

# name -> model type, and options beside the sizes
TRANSFORMERS: dict[str, tuple[str, dict[str, Any]]] = {
    "mamba": ("mamba", {}),
    "mamba-other-sizes": (
        "mamba",
        {"state_size": 5, "conv_kernel": 3, "expand": 3, "time_step_rank": 7, "use_bias": True, "use_conv_bias": False}
        | {"layer_norm_epsilon": 1e-3, "tie_word_embeddings": False, "residual_in_fp32": False, "eos_token_id": [3, 4]},
    ),
    "falcon_mamba": ("falcon_mamba", {"eos_token_id": 11}),
    "falcon_mamba-eps": ("falcon_mamba", {"mixer_rms_eps": 1e-2, "eos_token_id": None}),
    "mamba2": ("mamba2", {**_HEADS, "n_groups": 1}),
    "mamba2-groups": (
        "mamba2",
        {**_HEADS, "n_groups": 4, "tie_word_embeddings": True, "time_step_limit": (0.01, 0.2), "use_bias": True}
        | {"layer_norm_epsilon": 1e-3},
    ),
    "rwkv": ("rwkv", {}),
    "rwkv-widths": ("rwkv", {"attention_hidden_size": 48, "intermediate_size": 40, "tie_word_embeddings": True}),
}


def of_transformers(name: str) -> Any:
    """A model of transformers', in evaluation mode."""
    import transformers  # seconds: only where it is needed

    model_type, options = TRANSFORMERS[name]
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(model_type, **{**_SIZES, **options})
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    disturb(model)
    return model


def disturb(model: nn.Module) -> None:
    """Move every parameter away from where it begins: zeros and ones hide mistakes."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


def write_mamba_ssm(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor], *, pickled: bool = True) -> Path:
    """A folder as mamba_ssm writes it."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if pickled:
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        safetensors.torch.save_file(tensors, folder / "model.safetensors")
    return folder
