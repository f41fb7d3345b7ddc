"""mamba_ssm's language model: models.mixer_seq_simple, models.config_mamba and utils.hf."""

import copy
import json
import math
import os
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from torch import nn

from longwave import pretrained
from longwave.compat.block import Block, GatedMLP, add_norm
from longwave.compat.cached import Cache, Cached, Params
from longwave.compat.generation import GenerationMixin
from longwave.compat.mamba import Mamba
from longwave.compat.mamba2 import Mamba2
from longwave.compat.mamba3 import Mamba3
from longwave.compat.residual_norms import RMSNorm
from longwave.errors import CheckpointError, ConfigError, UnsupportedError
from longwave.layers.options import choose
from longwave.models import checkpoint
from longwave.pretrained.files import CONFIG, read_json, read_tensors
from longwave.pretrained.formats import mamba_ssm
from longwave.shapes import Float, Int, Tensor

_MIXERS = {"Mamba1": Mamba, "Mamba2": Mamba2, "Mamba3": Mamba3}


@dataclass
class MambaConfig:
    """What a `MambaLMHeadModel` is made of; config.json of the published models has these fields.

    Args:
        d_model: channels.
        d_intermediate: hidden channels of the feed-forward networks, rounded up; 0: there are none.
        n_layer: blocks.
        vocab_size: tokens.
        ssm_cfg: options of the mixers, and as ``layer`` which one: "Mamba1", "Mamba2" or "Mamba3".
        attn_layer_idx, attn_cfg: attention layers, of which there may be none.
        rms_norm: root-mean-square norms, not layer norms.
        residual_in_fp32: whether the residual stream is float32 where the parameters have 16 bits.
        fused_add_norm: without meaning.
        pad_vocab_size_multiple: the embedding has as many rows as the next multiple of this.
        tie_embeddings: the head is the embedding's matrix.
    """

    d_model: int = 2560
    d_intermediate: int = 0
    n_layer: int = 64
    vocab_size: int = 50277
    ssm_cfg: dict[str, Any] = field(default_factory=dict)
    attn_layer_idx: list[int] = field(default_factory=list)
    attn_cfg: dict[str, Any] = field(default_factory=dict)
    rms_norm: bool = True
    residual_in_fp32: bool = True
    fused_add_norm: bool = True
    pad_vocab_size_multiple: int = 8
    tie_embeddings: bool = True


def create_block(
    d_model: int,
    d_intermediate: int,
    ssm_cfg: dict[str, Any] | None = None,
    attn_layer_idx: list[int] | None = None,
    attn_cfg: dict[str, Any] | None = None,
    norm_epsilon: float = 1e-5,
    rms_norm: bool = False,
    residual_in_fp32: bool = False,
    fused_add_norm: bool = False,
    layer_idx: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Block:
    """Make a block of a language model; the arguments are those of `MambaConfig` and `Block`.

    Raises:
        UnsupportedError: it would be an attention layer.
        ConfigError: there is no such mixer.
    """
    if layer_idx in (attn_layer_idx or []):
        raise UnsupportedError(f"layer {layer_idx} is attention, which longwave has not: leave attn_layer_idx empty")
    options = copy.deepcopy(ssm_cfg or {})
    mixer = choose("layer of ssm_cfg", options.pop("layer", "Mamba1"), _MIXERS)
    where: dict[str, Any] = {"device": device, "dtype": dtype}
    mlp = partial(GatedMLP, hidden_features=d_intermediate, out_features=d_model, **where)
    block = Block(
        d_model,
        partial(mixer, layer_idx=layer_idx, **options, **where),
        mlp if d_intermediate else nn.Identity,
        partial(RMSNorm if rms_norm else nn.LayerNorm, eps=norm_epsilon, **where),
        fused_add_norm,
        residual_in_fp32,
    )
    block.layer_idx = layer_idx
    return block


def _init_weights(
    module: nn.Module,
    n_layer: int,
    initializer_range: float = 0.02,
    rescale_prenorm_residual: bool = True,
    n_residuals_per_layer: int = 1,
) -> None:
    """Begin with embeddings of a small deviation, no biases, and what is added to the stream the smaller, the more
    additions there are."""
    if isinstance(module, nn.Linear) and module.bias is not None and not getattr(module.bias, "_no_reinit", False):
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=initializer_range)
    for name, parameter in module.named_parameters():
        if rescale_prenorm_residual and name in ("out_proj.weight", "fc2.weight"):
            nn.init.kaiming_uniform_(parameter, a=math.sqrt(5))
            with torch.no_grad():
                parameter /= math.sqrt(n_residuals_per_layer * n_layer)


class MixerModel(nn.Module):
    """An embedding, blocks, and a last norm.

    Args:
        d_model, n_layer, d_intermediate, vocab_size, ssm_cfg, attn_layer_idx, attn_cfg, rms_norm, fused_add_norm,
            residual_in_fp32: as in `MambaConfig`.
        norm_epsilon: ε of the norms.
        initializer_cfg: ``initializer_range``, of the embedding's deviation, and ``rescale_prenorm_residual``.
        device, dtype: of the parameters.

    Raises:
        ConfigError, UnsupportedError: as `create_block`.
    """

    def __init__(
        self,
        d_model: int,
        n_layer: int,
        d_intermediate: int,
        vocab_size: int,
        ssm_cfg: dict[str, Any] | None = None,
        attn_layer_idx: list[int] | None = None,
        attn_cfg: dict[str, Any] | None = None,
        norm_epsilon: float = 1e-5,
        rms_norm: bool = False,
        initializer_cfg: dict[str, Any] | None = None,
        fused_add_norm: bool = False,
        residual_in_fp32: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.residual_in_fp32, self.fused_add_norm = residual_in_fp32, fused_add_norm
        self.embedding = nn.Embedding(vocab_size, d_model, device=device, dtype=dtype)
        make = partial(
            create_block, d_model, d_intermediate, ssm_cfg, attn_layer_idx, attn_cfg, norm_epsilon, rms_norm,
            residual_in_fp32, fused_add_norm, device=device, dtype=dtype,
        )  # fmt: skip
        self.layers = nn.ModuleList([make(layer_idx=i) for i in range(n_layer)])
        self.norm_f = (RMSNorm if rms_norm else nn.LayerNorm)(d_model, eps=norm_epsilon, device=device, dtype=dtype)
        options = {"n_layer": n_layer, "n_residuals_per_layer": 2 if d_intermediate else 1, **(initializer_cfg or {})}
        self.apply(partial(_init_weights, **options))

    def forward(
        self, input_ids: Int[Tensor, "batch time"], inference_params: Params | None = None, **mixer_kwargs: Any
    ) -> Float[Tensor, "batch time d_model"]:
        """Map tokens to what the head reads; mixer_kwargs go to every mixer."""
        x, stream = self.embedding(input_ids), None
        for layer in self.layers:
            x, stream = layer(x, stream, inference_params=inference_params, **mixer_kwargs)
        return add_norm(self.norm_f, x, stream, self.residual_in_fp32)[0]

    def allocate_inference_cache(
        self, batch_size: int, max_seqlen: int, dtype: torch.dtype | None = None, **kwargs: Any
    ) -> dict[int, Cache]:
        """Make the caches of all layers, by their number."""
        return {
            i: layer.allocate_inference_cache(batch_size, max_seqlen, dtype=dtype, **kwargs)
            for i, layer in enumerate(self.layers)
            if isinstance(layer, Block)
        }


class CausalLMOutput(NamedTuple):
    """What a language model gives."""

    logits: Float[Tensor, "batch time vocabulary"]


@final
class MambaLMHeadModel(nn.Module, GenerationMixin):
    """mamba_ssm's language model, its state dict and its files; `longwave.LanguageModel` is ours.

    Args:
        config: what it is made of.
        initializer_cfg: as in `MixerModel`.
        device, dtype: of the parameters.

    Raises:
        ConfigError, UnsupportedError: as `create_block`.

    Source: mamba_ssm 2.3.2, models.mixer_seq_simple.

    Example:
        >>> model = MambaLMHeadModel(MambaConfig(d_model=16, n_layer=2, vocab_size=60))
        >>> model(torch.tensor([[5, 3, 8]])).logits.shape
        torch.Size([1, 3, 64])
        >>> model.generate(torch.tensor([[5, 3, 8]]), max_length=6).shape
        torch.Size([1, 6])
    """

    def __init__(
        self,
        config: MambaConfig,
        initializer_cfg: dict[str, Any] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        multiple = config.pad_vocab_size_multiple
        rows = -(-config.vocab_size // multiple) * multiple
        self.backbone = MixerModel(
            config.d_model, config.n_layer, config.d_intermediate, rows, config.ssm_cfg, config.attn_layer_idx,
            config.attn_cfg, rms_norm=config.rms_norm, initializer_cfg=initializer_cfg,
            fused_add_norm=config.fused_add_norm, residual_in_fp32=config.residual_in_fp32, device=device, dtype=dtype,
        )  # fmt: skip
        self.lm_head = nn.Linear(config.d_model, rows, bias=False, device=device, dtype=dtype)
        self.tie_weights()

    def tie_weights(self) -> None:
        """Make the head the embedding's matrix, if the configuration says so."""
        if self.config.tie_embeddings:
            self.lm_head.weight = self.backbone.embedding.weight

    def forward(
        self,
        input_ids: Int[Tensor, "batch time"],
        position_ids: Tensor | None = None,
        inference_params: Params | None = None,
        num_last_tokens: int = 0,
        **mixer_kwargs: Any,
    ) -> CausalLMOutput:
        """Map tokens to logits.

        Args:
            input_ids: the tokens.
            position_ids: without meaning.
            inference_params: with caches, what came before.
            num_last_tokens: how many positions to give logits for; 0: all.
            mixer_kwargs: for every mixer.
        """
        h = self.backbone(input_ids, inference_params=inference_params, **mixer_kwargs)
        return CausalLMOutput(self.lm_head(h[:, -num_last_tokens:]))

    def allocate_inference_cache(
        self, batch_size: int, max_seqlen: int, dtype: torch.dtype | None = None, **kwargs: Any
    ) -> dict[int, Cache]:
        """Make the caches of all layers, by their number."""
        return self.backbone.allocate_inference_cache(batch_size, max_seqlen, dtype=dtype, **kwargs)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name: str | os.PathLike[str],
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        initializer_cfg: dict[str, Any] | None = None,
    ) -> "MambaLMHeadModel":
        """Read a published model.

        Args:
            pretrained_model_name: a folder, or "owner/name" on the Hugging Face hub.
            device, dtype: of the parameters; None is the CPU and float32.
            initializer_cfg: without meaning.

        Raises:
            CheckpointError: a file is missing or damaged, or does not describe a model of mamba_ssm.

        Numerics: tensors are read one after the other into a model without parameters, as `LanguageModel` does; no code
            in a file is run.
        """
        folder = pretrained.locate(pretrained_model_name)
        config = load_config_hf(folder)
        try:
            mamba_ssm.read_config(config)  # which names what it does not know
            with torch.device("meta"):
                model = cls(MambaConfig(**config), initializer_cfg, dtype=dtype)
        except (ConfigError, CheckpointError, TypeError) as error:
            raise CheckpointError(f"{folder / CONFIG}: {error}") from error
        kept = {name: tensor.dtype for name, tensor in model.state_dict().items()}
        tensors = read_tensors(folder)
        if model.config.tie_embeddings and "backbone.embedding.weight" in tensors:
            tensors.setdefault("lm_head.weight", tensors["backbone.embedding.weight"])
        checkpoint.restore(model, tensors, folder, dtype=lambda name, _: kept[name])
        model.tie_weights()
        for module in model.modules():
            if isinstance(module, Cached):
                module.mark()
        return model if device is None else model.to(device)

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> None:
        """Write config.json and pytorch_model.bin, as mamba_ssm reads them."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self.state_dict(), folder / "pytorch_model.bin")
        (folder / CONFIG).write_text(json.dumps(asdict(self.config), indent=4))


def load_config_hf(model_name: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what the config.json of a model says; a folder, or "owner/name" on the Hugging Face hub."""
    return read_json(pretrained.locate(model_name) / CONFIG)


def load_state_dict_hf(
    model_name: str | os.PathLike[str],
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> dict[str, Tensor]:
    """Return the tensors of a model; None for `dtype` is what the files have."""
    found = read_tensors(pretrained.locate(model_name))
    return {name: stored.read(dtype or stored.like.dtype).to(device or "cpu") for name, stored in found.items()}
