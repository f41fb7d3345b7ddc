"""mamba_ssm.utils.generation: tokens drawn one after the other, with a cache in between."""

import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch

from longwave.errors import ConfigError
from longwave.shapes import Float, Int, Tensor


@dataclass
class InferenceParams:
    """What the layers of a model know of the text so far.

    Args:
        max_seqlen, max_batch_size: at most so many positions and rows.
        seqlen_offset: positions that the caches have seen; the caller moves it on.
        batch_size_offset: without meaning.
        key_value_memory_dict: the caches, by number of the layer.
        lengths_per_sample: of the rows, for whoever sets it.
    """

    max_seqlen: int
    max_batch_size: int
    seqlen_offset: int = 0
    batch_size_offset: int = 0
    key_value_memory_dict: dict[Any, Any] = field(default_factory=dict)
    lengths_per_sample: Tensor | None = None

    def reset(self, max_seqlen: int, max_batch_size: int) -> None:
        """Begin anew; the caches stay, and are overwritten."""
        self.max_seqlen, self.max_batch_size, self.seqlen_offset = max_seqlen, max_batch_size, 0
        if self.lengths_per_sample is not None:
            self.lengths_per_sample.zero_()


class Generated(NamedTuple):
    """The tokens, those of the prompt before them, and the logits that each was drawn from."""

    sequences: Int[Tensor, "batch time"]
    scores: tuple[Float[Tensor, "batch vocabulary"], ...] | None


@runtime_checkable
class Streamer(Protocol):
    """Takes in the prompt and then token after token, as transformers' TextStreamer."""

    def put(self, value: Tensor) -> None: ...

    def end(self) -> None: ...


def sample(
    logits: Float[Tensor, "batch vocabulary"],
    top_k: int = 1,
    top_p: float = 0.0,
    min_p: float = 0.0,
    temperature: float = 1.0,
) -> Int[Tensor, " batch"]:
    """Draw a token for each row from softmax(logits / temperature), restricted to the likeliest, by torch's generator.

    Args:
        logits: as the model gives them.
        top_k: only the so many likeliest; 1 takes the likeliest, always, and 0 all.
        top_p: of these, only the likeliest that together have this share of the probability; 0 are all.
        min_p: of these, only those with this share of the probability of the likeliest.
        temperature: the larger, the more alike the probabilities.

    Raises:
        ConfigError: an option is out of its range.

    Example:
        >>> sample(torch.tensor([[0.0, 3.0, 1.0]]))
        tensor([1])
    """
    if top_k < 0 or not 0 <= top_p <= 1 or not 0 <= min_p <= 1 or not temperature > 0:
        raise ConfigError(
            f"top_k={top_k}, top_p={top_p}, min_p={min_p}, temperature={temperature}: top_k must not be negative, the "
            "next two lie between 0 and 1, and the last be positive"
        )
    if top_k == 1:
        return logits.argmax(-1)
    kept, tokens = logits.float().topk(min(top_k or logits.shape[-1], logits.shape[-1]))
    p = (kept / temperature).softmax(-1)
    if 0 < top_p < 1:
        p = p.masked_fill(p.cumsum(-1) - p >= top_p, 0)
    p = p.masked_fill(p < min_p * p[:, :1], 0)
    return tokens.gather(-1, torch.multinomial(p, 1))[:, 0]


@torch.no_grad()
def decode(
    input_ids: Int[Tensor, "batch time"],
    model: Any,
    max_length: int,
    top_k: int = 1,
    top_p: float = 0.0,
    min_p: float = 0.0,
    temperature: float = 1.0,
    repetition_penalty: float = 1.0,
    eos_token_id: int | None = None,
    teacher_outputs: Int[Tensor, "batch length"] | None = None,
    vocab_size: int | None = None,
    cg: bool = False,
    enable_timing: bool = False,
    streamer: Streamer | None = None,
) -> Generated:
    """Continue prompts of one length.

    Args:
        input_ids: the prompts.
        model: takes tokens, position_ids, inference_params and num_last_tokens, and gives ``.logits``.
        max_length: positions in the end, the prompt's among them; one token is drawn at least.
        top_k, top_p, min_p, temperature: as in `sample`.
        repetition_penalty: positive logits of tokens that are there already are divided by it, others multiplied.
        eos_token_id: when every row has drawn it at once, that is the end.
        teacher_outputs: tokens at their positions that are taken instead of drawn ones, as far as they reach.
        vocab_size: logits beyond are of no token.
        cg: without meaning: it asks for a CUDA graph, and changes no result.
        enable_timing: print how long it took.
        streamer: gets the prompt, and then each token.

    Returns:
        The tokens and the logits.

    Raises:
        ConfigError: an option is out of its range.

    Source: mamba_ssm 2.3.2, utils.generation. There ``min_p`` compares logits with probabilities.
    """
    begin = time.perf_counter()
    params = InferenceParams(max_seqlen=max_length, max_batch_size=len(input_ids))
    sequence, tokens, scores = input_ids, input_ids, []
    if streamer is not None:
        streamer.put(input_ids.cpu())
    while True:
        logits = _next_logits(model, tokens, params)[..., :vocab_size]
        scores.append(logits)
        params.seqlen_offset += tokens.shape[1]
        if teacher_outputs is not None and teacher_outputs.shape[1] > params.seqlen_offset:
            tokens = teacher_outputs[:, params.seqlen_offset, None]
        else:
            likely = _penalised(logits, sequence, repetition_penalty)
            tokens = sample(likely, top_k, top_p, min_p, temperature)[:, None].to(input_ids.dtype)
        sequence = torch.cat([sequence, tokens], 1)
        if streamer is not None:
            streamer.put(tokens.cpu())
        ended = eos_token_id is not None and bool((tokens == eos_token_id).all())
        if ended or params.seqlen_offset >= max_length - 1:
            break
    if streamer is not None:
        streamer.end()
    if enable_timing:
        print(f"Prompt processing + decoding time: {1000 * (time.perf_counter() - begin):.0f}ms")
    return Generated(sequence, tuple(scores))


class GenerationMixin:
    """`generate` for a model that `decode` takes."""

    def generate(
        self,
        input_ids: Int[Tensor, "batch time"],
        max_length: int,
        top_k: int = 1,
        top_p: float = 0.0,
        min_p: float = 0.0,
        temperature: float = 1.0,
        return_dict_in_generate: bool = False,
        output_scores: bool = False,
        repetition_penalty: float = 1.0,
        eos_token_id: int | None = None,
        teacher_outputs: Int[Tensor, "batch length"] | None = None,
        vocab_size: int | None = None,
        cg: bool = False,
        enable_timing: bool = False,
        streamer: Streamer | None = None,
    ) -> Generated | Tensor:
        """Continue prompts, as `decode` does.

        Args:
            return_dict_in_generate: whether to return a `Generated`, instead of its sequences alone.
            output_scores: whether that has the logits.
        """
        found = decode(
            input_ids, self, max_length, top_k, top_p, min_p, temperature, repetition_penalty, eos_token_id,
            teacher_outputs, vocab_size, cg, enable_timing, streamer,
        )  # fmt: skip
        found = found if output_scores else found._replace(scores=None)
        return found if return_dict_in_generate else found.sequences


def _next_logits(model: Any, tokens: Tensor, params: InferenceParams) -> Tensor:
    """The logits after the last of the tokens, (batch, vocabulary)."""
    positions = None
    if params.seqlen_offset > 0:
        positions = torch.full((len(tokens), 1), params.seqlen_offset, dtype=torch.long, device=tokens.device)
    return model(tokens, position_ids=positions, inference_params=params, num_last_tokens=1).logits[:, 0]


def _penalised(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Logits, those of tokens that have been seen made less likely.

    Source: Keskar et al., 2019, CTRL, arXiv:1909.05858, §4.1.
    """
    if penalty == 1:
        return logits
    found = logits.gather(1, seen)
    return logits.scatter(1, seen, torch.where(found < 0, found * penalty, found / penalty))
