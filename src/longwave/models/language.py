"""Language models: tokens in, the logits of the next one out."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import final

import torch
from torch import nn

from longwave import pretrained
from longwave.errors import CheckpointError, ConfigError, ShapeError
from longwave.layers.checks import check_lengths, check_positive
from longwave.layers.norms import NORMS, normalise
from longwave.layers.options import choose
from longwave.layers.projection import project_by
from longwave.models import checkpoint, generate
from longwave.models.backbone import Backbone
from longwave.models.generate import GREEDY, Sampling
from longwave.models.model import Model, ModelConfig, ModelState
from longwave.pretrained.files import CONFIG, Stored
from longwave.shapes import Float, Int, Tensor

_INITIAL_STD = 0.02


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig(ModelConfig):
    """What a language model is made of, beside ``backbone``.

    Args:
        vocab_size: number of tokens.
        vocab_multiple: the embedding has as many rows as the next multiple of this; no token has those beyond.
        tied: the head is the embedding's matrix, instead of one of its own.
        embedding_norm: normalise the embedded tokens, as RWKV does.
        stop_tokens: what a text ends with: generation stops there, unless it is told otherwise.
    """

    vocab_size: int = 50277
    vocab_multiple: int = 1
    tied: bool = True
    embedding_norm: bool = False
    stop_tokens: list[int] = field(default_factory=list)


@final
class LanguageModel(Model[LanguageModelConfig]):
    """Language model: logits[t] = W norm(backbone(E[x[t]])), of the token after t; with ``tied``, W = E.

    Args:
        config: vocabulary, head and backbone, of any mixer.

    Raises:
        ConfigError: the configuration names something unknown or out of its range.

    Numerics: logits are in the precision of the parameters. Where those have 16 bits,
        ``backbone.residual_in_float32`` keeps what the blocks add up in float32, as Mamba was published.

    Source: the embedding begins normal with deviation 0.02, as Mamba's (Gu and Dao, 2023, arXiv:2312.00752, code).

    Example:
        >>> from longwave.models import BackboneConfig
        >>> backbone = BackboneConfig(d_model=16, n_layers=2, mixer="Mamba", norm="rms")
        >>> model = LanguageModel(LanguageModelConfig(vocab_size=100, backbone=backbone)).eval()
        >>> model(torch.tensor([[5, 3, 8]])).shape
        torch.Size([1, 3, 100])
        >>> model.generate(torch.tensor([[5, 3, 8]]), max_new_tokens=4).shape
        torch.Size([1, 4])
    """

    config_type = LanguageModelConfig

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__(config)
        check_positive("vocab_size", config.vocab_size)
        check_positive("vocab_multiple", config.vocab_multiple)
        if not all(0 <= token < config.vocab_size for token in config.stop_tokens):
            raise ConfigError(
                f"stop_tokens={config.stop_tokens} must lie in 0 … vocab_size − 1 = {config.vocab_size - 1}"
            )
        backbone = Backbone(config.backbone)
        rows = -(-config.vocab_size // config.vocab_multiple) * config.vocab_multiple
        self.embedding = nn.Embedding(rows, backbone.d_model)
        nn.init.normal_(self.embedding.weight, std=_INITIAL_STD)
        make_norm = choose("norm", config.backbone.norm, NORMS)
        norm = make_norm(backbone.d_model, config.backbone.norm_eps) if config.embedding_norm else None
        self.embedding_norm = norm
        self.backbone = backbone
        self.head = None if config.tied else nn.Linear(backbone.d_model, rows, bias=False)

    def prefill_last(
        self,
        x: Int[Tensor, "batch time"],
        state: ModelState | None = None,
        *,
        lengths: Int[Tensor, " batch"] | None = None,
    ) -> tuple[Float[Tensor, "batch vocabulary"], ModelState]:
        """Take in a chunk of each sequence, for the logits after its last token alone.

        Those of a whole prompt, which ``prefill`` gives, are length × vocabulary numbers.

        Args:
            x: the tokens, at least one in each row.
            state: what came before the chunk; None is nothing.
            lengths: each row's length in a right-padded batch.

        Returns:
            The logits after each row's last token, and the state after it.

        Raises:
            ShapeError, UnsupportedError: as ``prefill``; also for a row without tokens.
        """
        self._check(x, lengths)
        if not x.shape[1] or (lengths is not None and not bool((lengths > 0).all())):
            raise ShapeError("there are no logits after the last token of an empty row: give at least one token")
        before = None if state is None else state.backbone
        h, after = self.backbone.prefill(self._encode(x), before, lengths=lengths)
        last = h[:, -1] if lengths is None else h[torch.arange(len(h), device=h.device), lengths.long() - 1]
        return self._decode(last, x), ModelState(after, ())

    def generate(
        self,
        prompt: Int[Tensor, "batch time"],
        *,
        lengths: Int[Tensor, " batch"] | None = None,
        padding: str = "right",
        max_new_tokens: int = 100,
        sampling: Sampling = GREEDY,
        stop: Sequence[int] | None = None,
    ) -> Int[Tensor, "batch new"]:
        """Continue prompts, as :py:func:`longwave.models.generate.stream` says, which gives the tokens one by one.

        Args:
            prompt, lengths, padding, max_new_tokens, sampling: as there.
            stop: tokens that end a row; None are those of the configuration.

        Returns:
            The new tokens; −1 in a row that has ended before.

        Raises:
            ShapeError, ConfigError, UnsupportedError: as there.
        """
        tokens = list(
            self.stream(
                prompt, lengths=lengths, padding=padding, max_new_tokens=max_new_tokens, sampling=sampling, stop=stop
            )
        )
        return torch.stack(tokens, 1) if tokens else prompt.new_empty(len(prompt), 0)

    def stream(
        self,
        prompt: Int[Tensor, "batch time"],
        *,
        lengths: Int[Tensor, " batch"] | None = None,
        padding: str = "right",
        max_new_tokens: int = 100,
        sampling: Sampling = GREEDY,
        stop: Sequence[int] | None = None,
    ) -> Iterator[Int[Tensor, " batch"]]:
        """Continue prompts token by token; arguments and errors are those of ``generate``.

        Returns:
            An iterator over the new tokens, one of each row at a time; −1 in rows that have ended.
        """
        return generate.stream(
            self,
            prompt,
            lengths=lengths,
            padding=padding,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            stop=self.config.stop_tokens if stop is None else stop,
        )

    @classmethod
    def from_pretrained(
        cls, name: str | os.PathLike[str], *, dtype: torch.dtype | None = None, revision: str | None = None
    ) -> "LanguageModel":
        """Read a published model: ours, mamba_ssm's (Mamba, Mamba-2, Mamba-3) or transformers' (Mamba, Mamba-2,
        FalconMamba, RWKV).

        Args:
            name: a folder, or "owner/name" on the Hugging Face hub, which is downloaded once.
            dtype: of the parameters; A, D and the bias of dt are float32 at least. None is what the files have.
            revision: a branch, tag or commit on the hub.

        Returns:
            The model, on the CPU and in evaluation mode.

        Raises:
            CheckpointError: there is no such folder, a file is missing or damaged, the format is unknown, or a tensor
                is missing, unknown or misshapen.
            MissingExtraError: the name is no folder, and huggingface_hub is not installed.

        Numerics: one tensor after the other is read into a model without parameters, so that little more memory is
            used than the parameters have.
        """
        folder = pretrained.locate(name, revision)
        if checkpoint.is_ours(folder):
            config, tensors = checkpoint.read(cls, LanguageModelConfig, folder)
            return cls._of(config, tensors, folder, str, dtype).eval()
        found = pretrained.read(folder)
        try:
            config = checkpoint.parse(LanguageModelConfig, found.config, defaults=True)
        except ConfigError as error:
            raise CheckpointError(f"{folder / CONFIG}: {error}") from error
        return cls._of(config, found.tensors, folder, found.spell, dtype).eval()

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "LanguageModel":
        """Read a language model from a folder that ``save`` wrote; `longwave.load` says what is refused."""
        config, tensors = checkpoint.read(cls, LanguageModelConfig, folder)
        return cls._of(config, tensors, Path(folder), str, None)

    def save_pretrained(self, folder: str | os.PathLike[str], format: str = "longwave") -> Path:
        """Write the model to a folder, for longwave or for transformers.

        Args:
            folder: made if it is not there.
            format: ``"longwave"``, as ``save``; or ``"transformers"``, for Mamba, Mamba-2, FalconMamba and RWKV.

        Returns:
            The folder.

        Raises:
            ConfigError: the format is unknown.
            UnsupportedError: transformers has no such model.
            CheckpointError: the folder cannot be written.
        """
        if choose("format", format, {"longwave": True, "transformers": False}):
            return self.save(folder)
        return pretrained.write(folder, asdict(self.config), checkpoint.plain_tensors(self))

    @classmethod
    def _of(
        cls,
        config: LanguageModelConfig,
        tensors: dict[str, Stored],
        folder: Path,
        spell: Callable[[str], str],
        dtype: torch.dtype | None,
    ) -> "LanguageModel":
        """A model with these parameters, which are made only once: those of a new one stay on the meta device."""
        if config.backbone.n_layers > len(tensors):
            raise CheckpointError(f"{folder} has {len(tensors)} tensors, too few for {config.backbone.n_layers} layers")
        try:
            with torch.device("meta"):
                model = cls(config)
        except (ConfigError, RuntimeError, OverflowError) as error:  # sizes that no tensor can have
            raise CheckpointError(f"{folder / CONFIG}: {' '.join(str(error).split())}") from error
        wide = set(model.slow_parameters())

        def converted(name: str, stored: torch.dtype) -> torch.dtype:
            if dtype is None:
                return stored
            return torch.promote_types(dtype, torch.float32) if name in wide else dtype

        checkpoint.restore(model, tensors, folder, spell=spell, dtype=converted)
        return model

    def _check(self, x: Tensor, lengths: Tensor | None) -> None:
        self._check_tokens(x, ("batch", "time"))
        check_lengths(lengths, x)

    def _check_step(self, x_t: Tensor) -> None:
        self._check_tokens(x_t, ("batch",))

    def _check_tokens(self, x: Tensor, axes: tuple[str, ...]) -> None:
        """Tokens must be integers of the vocabulary, where the parameters are."""
        weight, size = self.embedding.weight, self.config.vocab_size
        if x.ndim != len(axes) or x.dtype not in (torch.int64, torch.int32):
            raise ShapeError(
                f"tokens must be int64 or int32 of shape ({', '.join(axes)}), got {x.dtype} {tuple(x.shape)}"
            )
        if x.device != weight.device:
            raise ShapeError(
                f"tokens are on {x.device} but the parameters on {weight.device}: move one of them with .to()"
            )
        # While compiling the values are not known yet; the eager call has this check.
        if not torch.compiler.is_compiling() and bool(((x < 0) | (x >= size)).any()):
            low, high = (int(bound) for bound in x.aminmax())
            raise ShapeError(f"tokens must lie between 0 and vocab_size − 1 = {size - 1}, got {low} to {high}")

    def _encode(self, x: Tensor) -> Tensor:
        h = self.embedding(x)
        return h if self.embedding_norm is None else normalise(self.embedding_norm, h)

    def _empty(self, batch_size: int, device: torch.device | str) -> tuple[()]:
        return ()

    def _read(self, pooled: tuple[()], h: Tensor, lengths: Tensor | None) -> tuple[Tensor, tuple[()]]:
        return h, ()

    def _decode(self, read: Tensor, x: Tensor) -> Tensor:
        weight = self.embedding.weight if self.head is None else self.head.weight
        return project_by(weight[: self.config.vocab_size], None, read.to(weight.dtype)).to(weight.dtype)
