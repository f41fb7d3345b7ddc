"""What transformers publishes: Mamba, Mamba-2, FalconMamba and RWKV, read and written."""

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from longwave.errors import CheckpointError, UnsupportedError
from longwave.layers import MIXERS
from longwave.layers.options import choose
from longwave.pretrained.formats.keys import KeyMap
from longwave.shapes import Tensor


@dataclass(frozen=True)
class Family:
    """A model type.

    Args:
        architecture: the class with the language model's head.
        mixer: ours.
        keys: the names of the tensors.
        options: their name -> the mixer's, and their default.
        tied: their default of tie_word_embeddings.
        fixed: values of our configuration that every model of this type has, in the backbone and outside it.
    """

    architecture: str
    mixer: str
    keys: KeyMap
    options: Mapping[str, tuple[str, Any]]
    tied: bool
    fixed: Mapping[str, Any]


_MAMBA_KEYS = KeyMap(
    {
        "backbone.embeddings.weight": "embedding.weight",
        "backbone.embedding.weight": "embedding.weight",  # as mamba_ssm spells it
        "backbone.layers.{i}.norm.weight": "backbone.blocks.{i}.norm.weight",
        "backbone.layers.{i}.mixer.*": "backbone.blocks.{i}.mixer.*",
        "backbone.norm_f.weight": "backbone.norm.weight",
        "lm_head.weight": "head.weight",
    }
)
_RWKV_KEYS = KeyMap(
    {
        "rwkv.embeddings.weight": "embedding.weight",
        "rwkv.blocks.0.pre_ln.*": "embedding_norm.*",
        "rwkv.blocks.{i}.ln1.*": "backbone.blocks.{i}.norm.*",
        "rwkv.blocks.{i}.attention.*": "backbone.blocks.{i}.mixer.*",
        "rwkv.blocks.{i}.ln2.*": "backbone.blocks.{i}.feedforward_norm.*",
        "rwkv.blocks.{i}.feed_forward.*": "backbone.blocks.{i}.feedforward.*",
        "rwkv.ln_out.*": "backbone.norm.*",
        "head.weight": "head.weight",
    }
)
_BIASES = {"use_bias": ("bias", False), "use_conv_bias": ("conv_bias", True)}
_CONVOLUTION = {"conv_kernel": ("d_conv", 4), "expand": ("expand", 2), **_BIASES}
_MAMBA = {"state_size": ("d_state", 16), "time_step_rank": ("dt_rank", "auto"), **_CONVOLUTION}
_MAMBA2 = {
    "state_size": ("d_state", 128),
    "head_dim": ("headdim", 64),
    "n_groups": ("ngroups", 8),
    "chunk_size": ("chunk_size", 256),
    "time_step_limit": ("dt_limit", [0.0, math.inf]),
    "layer_norm_epsilon": ("norm_eps", 1e-5),
    **_CONVOLUTION,
}
_PLAIN = {"prenorm": True, "dropout": 0.0, "bidirectional": False}
_OF_MAMBA = {**_PLAIN, "norm": "rms", "feedforward": None, "embedding_norm": False}
_OF_RWKV = {
    **_PLAIN,
    "norm": "layer",
    "feedforward": "rwkv",
    "embedding_norm": True,
    "norm_eps": 1e-5,  # the last norm's, whatever config.json says of the others
    "residual_in_float32": False,
}

# model_type -> what it is
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "mamba": Family("MambaForCausalLM", "Mamba", _MAMBA_KEYS, _MAMBA, True, _OF_MAMBA),
        "falcon_mamba": Family(
            "FalconMambaForCausalLM",
            "Mamba",
            _MAMBA_KEYS,
            {**_MAMBA, "mixer_rms_eps": ("norm_eps", 1e-6)},
            True,
            _OF_MAMBA,
        ),
        "mamba2": Family("Mamba2ForCausalLM", "Mamba2", _MAMBA_KEYS, _MAMBA2, False, _OF_MAMBA),
        "rwkv": Family(
            "RwkvForCausalLM", "RWKV", _RWKV_KEYS, {"attention_hidden_size": ("d_attention", None)}, False, _OF_RWKV
        ),
    }
)
# Options that shape a new model's parameters, of which a trained one knows nothing any more.
_INITIAL = ("dt_min", "dt_max", "dt_init", "dt_scale", "dt_init_floor", "A_init_range", "zero_init")
_OURS = "longwave"  # an entry of config.json that transformers keeps and does not read


def family_of(config: Mapping[str, Any]) -> Family:
    """Return what a config.json describes.

    Raises:
        ConfigError: a model type that longwave does not have.
    """
    return choose("model_type", config["model_type"], FAMILIES)


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Translate a config.json into the values of a `LanguageModelConfig`.

    Raises:
        ConfigError, CheckpointError: the model type is unknown, a size is missing, or the model is a variant of its
            type that longwave does not have.
    """
    family = family_of(config)
    for name in ("hidden_size", "num_hidden_layers", "vocab_size"):
        if name not in config:
            raise CheckpointError(f"config.json lacks {name}")
    _check_variant(config, family)
    options = {ours: config.get(theirs, default) for theirs, (ours, default) in family.options.items()}
    options = {name: _number(value) for name, value in options.items()}
    if options.get("dt_limit") == [0.0, math.inf]:  # no limit; JSON has no infinity
        del options["dt_limit"]
    fixed = {name: value for name, value in family.fixed.items() if name != "embedding_norm"}
    hidden = config.get("intermediate_size") if family.mixer == "RWKV" else None
    stop = config.get("eos_token_id")
    return {
        "vocab_size": config["vocab_size"],
        "vocab_multiple": 1,
        **config.get(_OURS, {}),
        "tied": config.get("tie_word_embeddings", family.tied),
        "embedding_norm": family.fixed["embedding_norm"],
        "stop_tokens": [] if stop is None else stop if isinstance(stop, list) else [stop],
        "backbone": {
            "norm_eps": config.get("layer_norm_epsilon", 1e-5),
            "residual_in_float32": config.get("residual_in_fp32", True),
            **fixed,
            "d_model": config["hidden_size"],
            "n_layers": config["num_hidden_layers"],
            "mixer": family.mixer,
            "mixer_options": options,
            "feedforward_options": {} if hidden is None else {"d_hidden": hidden},
        },
    }


def write_config(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Translate the values of a `LanguageModelConfig` into a config.json; `read_config` gives them back.

    Raises:
        UnsupportedError: transformers has no such language model; the message names what it has not.
    """
    backbone, options = config["backbone"], dict(config["backbone"]["mixer_options"])
    model_type = _model_type(backbone["mixer"], options)
    family = FAMILIES[model_type]
    _check_expressible(model_type, config, options)
    defaults = inspect.signature(MIXERS[family.mixer]).parameters
    theirs = {theirs: options.get(ours, defaults[ours].default) for theirs, (ours, _) in family.options.items()}
    if family.mixer == "Mamba2":
        heads = len(tensors["backbone.blocks.0.mixer.A_log"])
        theirs |= {"num_heads": heads, "head_dim": theirs["expand"] * backbone["d_model"] // heads}
        theirs["time_step_limit"] = [_spelt(limit) for limit in theirs["time_step_limit"]]
    if family.mixer == "RWKV":
        theirs["intermediate_size"] = backbone["feedforward_options"].get("d_hidden")
    else:
        theirs |= {"residual_in_fp32": backbone["residual_in_float32"], "hidden_act": "silu"}
    embedding, stop = tensors["embedding.weight"], config["stop_tokens"]
    return {
        "model_type": model_type,
        "architectures": [family.architecture],
        "dtype": str(embedding.dtype).removeprefix("torch."),
        "hidden_size": backbone["d_model"],
        "num_hidden_layers": backbone["n_layers"],
        "vocab_size": len(embedding),
        "layer_norm_epsilon": backbone["norm_eps"],
        "tie_word_embeddings": config["tied"],
        "eos_token_id": stop[0] if len(stop) == 1 else stop or None,
        _OURS: {name: config[name] for name in ("vocab_size", "vocab_multiple")},
        **theirs,
    }


def _check_variant(config: Mapping[str, Any], family: Family) -> None:
    """Refuse what the model type allows and longwave does not have."""
    if config.get("hidden_act", "silu") != "silu":
        raise CheckpointError(f"hidden_act={config['hidden_act']!r}: longwave's {family.mixer} has silu alone")
    eps = config.get("layer_norm_epsilon", 1e-5)
    if eps != family.fixed.get("norm_eps", eps):
        raise CheckpointError(f"layer_norm_epsilon={eps}: the last norm has 1e-5 in transformers, all norms have here")
    if family.mixer == "Mamba2":
        heads, width = config.get("num_heads", 128), config.get("expand", 2) * config["hidden_size"]
        if heads * config.get("head_dim", 64) != width:
            raise CheckpointError(f"num_heads={heads} and head_dim do not make expand · hidden_size = {width}")


def _model_type(mixer: str, options: Mapping[str, Any]) -> str:
    """The model type of a mixer: Mamba with norms of its own is Falcon-Mamba."""
    if mixer == "Mamba" and options.get("norm_eps") is not None:
        return "falcon_mamba"
    for model_type, family in FAMILIES.items():
        if family.mixer == mixer:
            return model_type
    raise UnsupportedError(f"transformers has no language model of {mixer}: save it with format='longwave'")


def _check_expressible(model_type: str, config: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Refuse what a model type cannot say."""
    family, backbone = FAMILIES[model_type], config["backbone"]
    known = {ours for ours, _ in family.options.values()} | set(_INITIAL)
    defaults = inspect.signature(MIXERS[family.mixer]).parameters
    lost = [name for name in options if name not in known and options[name] != defaults[name].default]
    lost += [name for name, value in family.fixed.items() if {**config, **backbone}[name] != value]
    lost += [name for name in backbone["feedforward_options"] if name not in ("d_hidden", *_INITIAL)]
    if family.mixer == "Mamba2" and options.get("norm_eps", 1e-5) != backbone["norm_eps"]:
        lost.append("norm_eps")  # one for all norms
    if lost:
        raise UnsupportedError(
            f"transformers' {model_type} cannot say this model's {', '.join(lost)}: save it with format='longwave'"
        )


def _number(value: Any) -> Any:
    """A value of config.json, where an infinity may be spelt out."""
    if isinstance(value, list):
        return [_number(item) for item in value]
    return float(value["__float__"]) if isinstance(value, dict) and "__float__" in value else value


def _spelt(value: float) -> Any:
    """The reverse of `_number`."""
    return value if math.isfinite(value) else {"__float__": "Infinity" if value > 0 else "-Infinity"}
