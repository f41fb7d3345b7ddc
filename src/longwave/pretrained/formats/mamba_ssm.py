"""What mamba_ssm publishes: Mamba, Mamba-2 and Mamba-3, one layout with three mixers."""

from collections.abc import Mapping
from typing import Any

from longwave.errors import CheckpointError
from longwave.layers.options import choose
from longwave.pretrained.formats.keys import KeyMap

KEYS = KeyMap(
    {
        "backbone.embedding.weight": "embedding.weight",
        "backbone.layers.{i}.norm.*": "backbone.blocks.{i}.norm.*",
        "backbone.layers.{i}.mixer.*": "backbone.blocks.{i}.mixer.*",
        "backbone.layers.{i}.norm2.*": "backbone.blocks.{i}.feedforward_norm.*",
        "backbone.layers.{i}.mlp.fc1.*": "backbone.blocks.{i}.feedforward.widen.*",
        "backbone.layers.{i}.mlp.fc2.*": "backbone.blocks.{i}.feedforward.narrow.*",
        "backbone.norm_f.*": "backbone.norm.*",
        "lm_head.weight": "head.weight",
    }
)
_MIXERS = {"Mamba1": "Mamba", "Mamba2": "Mamba2", "Mamba3": "Mamba3"}

# name -> default, None where there is none; the attention layers of hybrids are refused
_FIELDS = {
    "d_model": None,
    "n_layer": None,
    "vocab_size": None,
    "d_intermediate": 0,
    "ssm_cfg": {},
    "attn_layer_idx": [],
    "attn_cfg": {},
    "rms_norm": True,
    "residual_in_fp32": True,
    "fused_add_norm": True,
    "pad_vocab_size_multiple": 8,
    "tie_embeddings": True,
}
_HOW_IT_RUNS = ("layer", "use_fast_path", "use_mem_eff_path")  # in ssm_cfg, and no options of a mixer
_MULTIPLE = 128  # to which its feed-forward network rounds its width up


def recognises(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is in this format."""
    return {"d_model", "n_layer", "vocab_size"} <= config.keys()


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Translate a config.json into the values of a `LanguageModelConfig`.

    Raises:
        CheckpointError: it describes something else than a stack of Mamba, Mamba-2 or Mamba-3 layers.

    Source: mamba_ssm's MambaConfig, create_block and GatedMLP. Options of ``ssm_cfg`` have the names that the mixers
        here have; "A_activation" may be among them, where a Mamba-3 was trained with the released softplus.
    """
    if unknown := sorted(config.keys() - _FIELDS.keys()):
        raise CheckpointError(f"mamba_ssm's config.json has no {', '.join(unknown)}: is this another format?")
    found = {**_FIELDS, **config}
    if found["attn_layer_idx"]:
        raise CheckpointError(f"layers {found['attn_layer_idx']} are attention: longwave has no attention layers")
    options = dict(found["ssm_cfg"])
    mixer = choose("layer of ssm_cfg", options.get("layer", "Mamba1"), _MIXERS)
    hidden = -(-found["d_intermediate"] // _MULTIPLE) * _MULTIPLE
    return {
        "vocab_size": found["vocab_size"],
        "vocab_multiple": found["pad_vocab_size_multiple"],
        "tied": found["tie_embeddings"],
        "embedding_norm": False,
        "stop_tokens": [],
        "backbone": {
            "d_model": found["d_model"],
            "n_layers": found["n_layer"],
            "mixer": mixer,
            "mixer_options": {name: value for name, value in options.items() if name not in _HOW_IT_RUNS},
            "norm": "rms" if found["rms_norm"] else "layer",
            "feedforward": "swiglu" if hidden else None,
            "feedforward_options": {"d_hidden": hidden, "bias": False} if hidden else {},
            "residual_in_float32": found["residual_in_fp32"],
        },
    }
