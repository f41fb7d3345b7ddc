"""Generation: the likeliest token, draws that a seed decides, rows of a batch apart, and memory that does not grow."""

from collections import Counter

import pytest
import torch
from torch import Tensor

from longwave.errors import ConfigError, ShapeError, UnsupportedError
from longwave.models import BackboneConfig, LanguageModel, LanguageModelConfig, ModelState, Sampling
from longwave.models.generate import stream

VOCABULARY = 23


def model_of(mixer: str = "Mamba", **options) -> LanguageModel:
    torch.manual_seed(0)
    backbone = BackboneConfig(d_model=8, n_layers=2, mixer=mixer, norm="rms", **options)
    model = LanguageModel(LanguageModelConfig(vocab_size=VOCABULARY, backbone=backbone, tied=False)).eval()
    with torch.no_grad():
        model.embedding.weight.mul_(50)
        assert model.head is not None
        model.head.weight.mul_(5)
    return model


def tokens(batch: int = 3, time: int = 9) -> Tensor:
    return torch.randint(0, VOCABULARY, (batch, time), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("mixer", ["Mamba", "Mamba2", "Mamba3", "RWKV", "RetNet", "S4D", "LRU"])
@torch.no_grad()
def test_greedy_is_the_likeliest_token_of_the_whole_text_each_time(mixer: str) -> None:
    model, text = model_of(mixer), tokens()
    found = model.generate(text, max_new_tokens=8)
    for token in found.unbind(1):
        assert torch.equal(token, model(text)[:, -1].argmax(-1))
        text = torch.cat([text, token[:, None]], 1)


SAMPLINGS = [Sampling(), Sampling(0.7, top_k=5, seed=3), Sampling(2.0, top_p=0.6), Sampling(top_k=9, top_p=0.5, seed=8)]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_seed_decides(sampling: Sampling) -> None:
    model = model_of()
    torch.manual_seed(1)
    first = model.generate(tokens(), max_new_tokens=20, sampling=sampling)
    torch.manual_seed(2)  # torch's own source is not used
    assert torch.equal(model.generate(tokens(), max_new_tokens=20, sampling=sampling), first)
    other = Sampling(sampling.temperature, sampling.top_k, sampling.top_p, sampling.seed + 100)
    assert not torch.equal(model.generate(tokens(), max_new_tokens=20, sampling=other), first)


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("sampling", [Sampling(temperature=0.0), Sampling(0.8, top_p=0.9, seed=7)])
def test_a_padded_row_is_continued_as_it_is_alone(padding: str, sampling: Sampling) -> None:
    model, text, lengths = model_of(), tokens(), [9, 2, 5]
    rows = [text[row, :length] for row, length in enumerate(lengths)]
    batch = torch.full_like(text, VOCABULARY - 1)
    for row, real in enumerate(rows):
        batch[row, slice(len(real)) if padding == "right" else slice(9 - len(real), None)] = real
    options = {"max_new_tokens": 12, "stop": ()}
    found = model.generate(batch, lengths=torch.tensor(lengths), padding=padding, sampling=sampling, **options)
    for row, real in enumerate(rows):
        own = Sampling(sampling.temperature, sampling.top_k, sampling.top_p, sampling.seed + row)
        assert torch.equal(found[row], model.generate(real[None], sampling=own, **options)[0])


class Told:
    """A model whose logits are the same after every token."""

    def __init__(self, logits: list[float]) -> None:
        self.logits = torch.tensor(logits)

    def prefill_last(self, x: Tensor, state: ModelState | None = None, *, lengths: Tensor | None = None):
        return self.logits.expand(len(x), -1), ModelState((), ())

    def step(self, x_t: Tensor, state: ModelState):
        return self.logits.expand(len(x_t), -1), state


def frequencies(logits: list[float], sampling: Sampling, count: int = 4000) -> list[float]:
    drawn = stream(Told(logits), torch.tensor([[0]]), max_new_tokens=count, sampling=sampling)
    counted = Counter(int(token) for token in drawn)
    return [counted[token] / count for token in range(len(logits))]


LOGITS = [0.0, 2.0, 1.0, -1.0]
DRAWS = {
    "all": (Sampling(), [0, 1, 2, 3]),
    "temperature": (Sampling(temperature=3.0), [0, 1, 2, 3]),
    "cold": (Sampling(temperature=1e-6), [1]),
    "top_k": (Sampling(top_k=2), [1, 2]),
    "top_k of more than all": (Sampling(top_k=9), [0, 1, 2, 3]),
    "top_p": (Sampling(top_p=0.65), [1, 2]),  # the shares are .64 .24 .09 .03
    "a small top_p": (Sampling(top_p=1e-9), [1]),
    "top_k, and top_p of what it leaves": (Sampling(top_k=3, top_p=0.9), [1, 2]),
}


@pytest.mark.parametrize("draw", DRAWS)
def test_tokens_come_as_often_as_their_probability_says(draw: str) -> None:
    sampling, kept = DRAWS[draw]
    shares = torch.zeros(4, dtype=torch.float64)
    shares[kept] = (torch.tensor(LOGITS, dtype=torch.float64)[kept] / sampling.temperature).softmax(0)
    found = frequencies(LOGITS, sampling)
    for token, share in enumerate(shares.tolist()):
        assert abs(found[token] - share) <= 4 * (share * (1 - share) / 4000) ** 0.5  # four standard deviations


def test_impossible_tokens_are_never_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = [-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]
    assert frequencies(logits, Sampling(), 500)[::2] == [0, 0, 0]
    for number, token in ((0.0, 1), (1 - 2**-53, 3)):  # the smallest that a source gives, and the largest
        monkeypatch.setattr(
            torch, "rand", lambda *size, number=number, **options: torch.full(size, number, dtype=torch.float64)
        )
        assert frequencies(logits, Sampling(), 5)[token] == 1


def test_a_row_ends_with_its_stop_token() -> None:
    model = model_of()
    free = model.generate(tokens(), max_new_tokens=10, sampling=Sampling(seed=1), stop=())
    stop = [int(free[0, 3])]
    found = model.generate(tokens(), max_new_tokens=10, sampling=Sampling(seed=1), stop=stop)
    for row, whole in zip(found.tolist(), free.tolist(), strict=True):
        end = whole.index(stop[0]) + 1 if stop[0] in whole else len(whole)
        assert row == (whole[:end] + [-1] * (len(whole) - end))[: len(row)]
    alone = model.generate(tokens()[:1], max_new_tokens=10, sampling=Sampling(seed=1), stop=stop)
    assert alone[0, -1] == stop[0]
    assert alone.shape[1] <= 4


def test_the_configuration_says_where_to_stop() -> None:
    model = model_of()
    free = model.generate(tokens()[:1], max_new_tokens=10)
    model.config.stop_tokens.append(int(free[0, 0]))
    assert model.generate(tokens()[:1], max_new_tokens=10).tolist() == [[int(free[0, 0])]]
    assert torch.equal(model.generate(tokens()[:1], max_new_tokens=10, stop=()), free)


def test_tokens_come_one_by_one_and_leave_no_graph() -> None:
    model, taken = model_of(), []
    step = model.step
    model.step = lambda *args, **options: taken.append(1) or step(*args, **options)
    tokens_ = model.stream(tokens(), max_new_tokens=5)
    assert next(tokens_).shape == (3,)
    assert not taken
    assert torch.is_grad_enabled()
    assert not next(tokens_).requires_grad
    assert len(taken) == 1
    assert len(list(tokens_)) == 3
    assert len(taken) == 4


MISTAKES = {
    "temperature": (lambda: Sampling(temperature=-1.0), ConfigError, "temperature=-1.0"),
    "no number": (lambda: Sampling(temperature=float("nan")), ConfigError, "temperature=nan"),
    "top_k": (lambda: Sampling(top_k=0), ConfigError, "top_k=0"),
    "top_p": (lambda: Sampling(top_p=0.0), ConfigError, "top_p=0.0"),
    "seed": (lambda: Sampling(seed=-1), ConfigError, "seed=-1"),
    "count": (lambda: model_of().generate(tokens(), max_new_tokens=0), ConfigError, "max_new_tokens=0"),
    "padding": (lambda: model_of().generate(tokens(), padding="lft"), ConfigError, "did you mean 'left'"),
    "empty": (lambda: model_of().generate(tokens()[:, :0]), ShapeError, "at least one token"),
    "lengths": (
        lambda: model_of().generate(tokens(), lengths=torch.tensor([1, 2, 10]), padding="left"),
        ShapeError,
        "9 positions",
    ),
    "bidirectional": (
        lambda: model_of("S4D", bidirectional=True).generate(tokens()),
        UnsupportedError,
        "bidirectional",
    ),
    "dropout": (lambda: model_of(dropout=0.1).train().generate(tokens()), UnsupportedError, "eval()"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_answered(mistake: str, unchecked: None) -> None:
    make, error, message = MISTAKES[mistake]
    with pytest.raises(error, match=message):
        make()
