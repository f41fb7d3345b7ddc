"""Generation: a prompt is taken in once, then each token is drawn from the logits after the one before."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from longwave.errors import ConfigError
from longwave.layers.checks import check_lengths, check_positive
from longwave.layers.options import choose
from longwave.layers.padding import real_positions
from longwave.models.model import ModelState
from longwave.shapes import Float, Int, Tensor


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn: from softmax(logits / temperature), restricted to the likeliest.

    Args:
        temperature: 0 takes the likeliest token, always; the larger, the more alike the probabilities.
        top_k: only the so many likeliest tokens; None are all.
        top_p: of these, only the likeliest that together have this share of the probability; 1 are all.
        seed: the same seed gives the same tokens. Row b of a batch draws with seed + b, whatever the other rows do.

    Raises:
        ConfigError: a value is out of its range.

    Source: top-p is nucleus sampling, Holtzman et al., 2020, arXiv:1904.09751, §3.1.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ConfigError(f"temperature={self.temperature} must be finite and not negative")
        if self.top_k is not None:
            check_positive("top_k", self.top_k)
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p={self.top_p} must lie in 0 < top_p ≤ 1")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed={self.seed} must not be negative")


GREEDY = Sampling(temperature=0.0)


@runtime_checkable
class Streams(Protocol):
    """A model that takes in a prompt, and then a token at a time."""

    def prefill_last(
        self, x: Tensor, state: ModelState | None = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, ModelState]: ...

    def step(self, x_t: Tensor, state: ModelState) -> tuple[Tensor, ModelState]: ...


def stream(
    model: Streams,
    prompt: Int[Tensor, "batch time"],
    *,
    lengths: Int[Tensor, " batch"] | None = None,
    padding: str = "right",
    max_new_tokens: int = 100,
    sampling: Sampling = GREEDY,
    stop: Sequence[int] = (),
) -> Iterator[Int[Tensor, " batch"]]:
    """Continue prompts token by token, without gradients; the state of a model does not grow with the text.

    Args:
        model: what continues them, in evaluation mode.
        prompt: the tokens, at least one in each row.
        lengths: how many tokens of each row are the prompt; None: all of them.
        padding: at which end of a row the others are, ``"right"`` or ``"left"``.
        max_new_tokens: at most so many.
        sampling: how tokens are drawn; the likeliest one, if nothing else is said.
        stop: tokens that end a row. When every row has ended, so does the iterator.

    Returns:
        An iterator over the new tokens, one of each row at a time, that which ends the row among them; −1 afterwards.

    Raises:
        ShapeError: prompt or lengths has the wrong shape, dtype, device or range, or a row is empty.
        ConfigError: an option is out of its range.
        UnsupportedError: the model cannot stream.

    Example:
        >>> from longwave.models import BackboneConfig, LanguageModel, LanguageModelConfig
        >>> config = LanguageModelConfig(vocab_size=9, backbone=BackboneConfig(d_model=8, n_layers=1, mixer="Mamba"))
        >>> model = LanguageModel(config).eval()
        >>> len([token for token in stream(model, torch.tensor([[1, 2]]), max_new_tokens=3)])
        3
    """
    check_positive("max_new_tokens", max_new_tokens)
    left = choose("padding", padding, {"left": True, "right": False})
    if lengths is not None and left:
        prompt = _right_padded(prompt, lengths)
    return _tokens(model, prompt, lengths, max_new_tokens, sampling, stop)


@torch.no_grad()
def _tokens(
    model: Streams,
    prompt: Tensor,
    lengths: Tensor | None,
    max_new_tokens: int,
    sampling: Sampling,
    stop: Sequence[int],
) -> Iterator[Tensor]:
    """The iterator, whose arguments are right."""
    sources = [torch.Generator().manual_seed(sampling.seed + row) for row in range(len(prompt))]
    ends = torch.tensor(list(stop), dtype=prompt.dtype, device=prompt.device)
    ended = torch.zeros(len(prompt), dtype=torch.bool, device=prompt.device)
    logits, state = model.prefill_last(prompt, lengths=lengths)
    for count in range(1, max_new_tokens + 1):
        token = _draw(logits, sampling, sources).to(prompt.dtype)
        yield token.masked_fill(ended, -1)
        ended |= torch.isin(token, ends)
        if count == max_new_tokens or bool(ended.all()):
            return
        logits, state = model.step(token, state)


def _draw(
    logits: Float[Tensor, "batch vocabulary"], sampling: Sampling, sources: list[torch.Generator]
) -> Int[Tensor, " batch"]:
    """A token for each row: where the sum of the probabilities passes a number from its own source."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    logits = logits.double() / sampling.temperature
    order = None
    if sampling.top_k is not None or sampling.top_p < 1:
        kept = logits.shape[-1] if sampling.top_k is None else min(sampling.top_k, logits.shape[-1])
        logits, order = logits.topk(kept)
    p = logits.softmax(-1)
    before = p.cumsum(-1) - p
    p = p.masked_fill(before >= sampling.top_p, 0) if sampling.top_p < 1 else p
    total = p.cumsum(-1)
    u = torch.stack([torch.rand(1, generator=source, dtype=torch.float64) for source in sources]).to(p.device)
    # The first whose sum is beyond u: one of probability zero never is, nor, for u < 1, one after the last.
    choice = torch.searchsorted(total, u * total[:, -1:], right=True).clamp(max=p.shape[-1] - 1)
    return (choice if order is None else order.gather(-1, choice))[:, 0]


def _right_padded(prompt: Tensor, lengths: Tensor) -> Tensor:
    """Left-padded rows, each moved to the beginning."""
    check_lengths(lengths, prompt)
    time = prompt.shape[1]
    index = torch.arange(time, device=prompt.device) + (time - lengths.long())[:, None]
    return prompt.gather(1, torch.where(real_positions(lengths, time), index, 0))
