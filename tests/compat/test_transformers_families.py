"""What every family of transformers computes with longwave engaged is what it computes without, and more is right."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from families import FAMILIES, model_of, tokens
from torch import Tensor

from longwave import compat
from longwave.testing import assert_matches

pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers
LENGTHS = (21, 13)  # of two rows
SIZES = [5, 1, 2, 13]  # of the chunks of a row


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def engaged() -> Iterator[compat.Report]:
    with compat.transformers() as report:
        yield report


def trained(model: Any) -> dict[str, Tensor]:
    """Logits, loss and gradients of a training step."""
    model.train()
    output = model(tokens(), labels=tokens())
    output.loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return {"logits": output.logits.detach(), "loss": output.loss.detach(), **gradients}


def wide(model: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The model in double precision, and nothing in it that goes back to single."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    return model.double()


def error(actual: dict[str, Tensor], truth: dict[str, Tensor]) -> float:
    """The largest error of any tensor, in units of its largest value."""
    assert actual.keys() == truth.keys()
    return max(float((actual[name] - x).abs().max() / x.abs().max()) for name, x in truth.items() if x.any())


def assert_as_good(ours: dict[str, Tensor], plain: dict[str, Tensor], truth: dict[str, Tensor]) -> None:
    """Twice the plain path's error is allowed, and one rounding, all in units of a tensor's largest value."""
    allowed = 2 * error(plain, truth) + torch.finfo(torch.float32).eps
    for name, x in truth.items():
        assert_matches(ours[name], x, allowed * float(x.abs().max()), name)


def test_logits_loss_and_gradients_are_those_of_the_plain_path(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = trained(model_of(family))
    with compat.transformers() as report:
        ours = trained(model_of(family))
        file = report.files[family.partition(" ")[0]]
        assert file.calls > 0
        assert not file.deferred
    assert_as_good(ours, plain, trained(wide(model_of(family), monkeypatch)))


@torch.no_grad()
def test_chunks_of_a_prompt_give_what_one_pass_gives(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = model_of(family), tokens()
    plain = model(x).logits
    cache, parts, places = {}, [], torch.arange(x.shape[1])[None]
    with compat.transformers():
        for chunk, place in zip(x.split(SIZES, 1), places.split(SIZES, 1), strict=True):
            output = model(chunk, position_ids=place, use_cache=True, **cache)
            cache = remembered(output)
            parts.append(output.logits)
    truth = wide(model, monkeypatch)(x).logits
    assert_as_good({"logits": torch.cat(parts, 1)}, {"logits": plain}, {"logits": truth})


@torch.no_grad()
def test_a_mask_may_begin_with_what_the_cache_has_seen(engaged: compat.Report) -> None:
    model, x = model_of("mamba"), tokens()
    mask = torch.ones_like(x)
    mask[1, :8] = 0
    first = model(x[:, :12], attention_mask=mask[:, :12], use_cache=True)
    rest = model(x[:, 12:], attention_mask=mask, **remembered(first)).logits
    torch.testing.assert_close(rest, model(x, attention_mask=mask).logits[:, 12:])


@torch.no_grad()
def test_limits_on_the_step_hold_for_single_tokens(engaged: compat.Report) -> None:
    """In plain transformers they do not."""
    model, x = model_of("mamba2", time_step_limit=(0.4, 0.6)), tokens()
    first = model(x[:, :20], use_cache=True)
    last = model(x[:, 20:], **remembered(first)).logits
    torch.testing.assert_close(last[:, -1], model(x).logits[:, -1])


def remembered(output: Any) -> dict[str, Any]:
    """The cache, under the name that the model has for it."""
    name = "cache_params" if "cache_params" in output else "past_key_values"
    return {name: output[name]}


def states(cache: dict[str, Any], row: int) -> dict[str, Tensor]:
    """Of every layer: the inputs that the convolution will see, and the recurrence's state."""
    layers = [layer for layer in next(iter(cache.values())).layers if hasattr(layer, "conv_states")]
    found = {f"{i} conv": layer.conv_states[0][row, ..., 1:] for i, layer in enumerate(layers)}
    return found | {f"{i} ssm": layer.recurrent_states[0][row] for i, layer in enumerate(layers)}


@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_padding_enters_neither_outputs_nor_states(family: str, side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = model_of(family), tokens()
    place = torch.arange(x.shape[1])
    mask = torch.stack([place < n if side == "right" else place >= len(place) - n for n in LENGTHS]).long()
    with compat.transformers():
        padded = model(x, attention_mask=mask, use_cache=True)
    alone = [row[real == 1][None] for row, real in zip(x, mask, strict=True)]
    plain = [model(row, use_cache=True) for row in alone]
    double = wide(model, monkeypatch)
    for i, (row, same_precision) in enumerate(zip(alone, plain, strict=True)):
        truth = double(row, use_cache=True)
        assert_as_good(
            {"logits": padded.logits[i, mask[i] == 1], **states(remembered(padded), i)},
            {"logits": same_precision.logits[0], **states(remembered(same_precision), 0)},
            {"logits": truth.logits[0], **states(remembered(truth), 0)},
        )


def generate(model: Any, x: Tensor, **options: Any) -> list[list[int]]:
    options = {"max_new_tokens": 9, "do_sample": False, "eos_token_id": None, **options}
    return model.generate(x, **options)[:, x.shape[1] :].tolist()


def test_greedy_generation_is_identical(family: str) -> None:
    model = model_of(family)
    plain = generate(model, tokens())
    with compat.transformers():
        assert generate(model, tokens()) == plain


def test_a_left_padded_row_generates_what_it_does_alone(family: str, engaged: compat.Report) -> None:
    model, x = model_of(family), tokens()
    mask = torch.ones_like(x)
    mask[1, :8] = 0
    assert generate(model, x, attention_mask=mask)[1] == generate(model, x[1:, 8:])[0]


@torch.no_grad()
@pytest.mark.parametrize("name", ["mamba", "falcon_mamba", "mamba2"])
def test_generation_goes_on_from_right_padded_rows(name: str, engaged: compat.Report) -> None:
    """Where there is no attention, whose cache would hold the padding."""
    model, x = model_of(name), tokens()
    cache = remembered(model(x, attention_mask=(torch.arange(21) < torch.tensor(LENGTHS)[:, None]).long()))
    after = model(tokens(time=1), **cache).logits
    for i, length in enumerate(LENGTHS):
        row = torch.cat([x[i, :length], tokens(time=1)[i]])[None]
        torch.testing.assert_close(after[i, -1], model(row).logits[0, -1])


@pytest.mark.parametrize("name", ["jamba", "zamba", "bamba"])
def test_generation_in_chunks_is_generation(name: str, engaged: compat.Report) -> None:
    model = model_of(name)
    assert generate(model, tokens(), prefill_chunk_size=4) == generate(model, tokens())


@pytest.mark.parametrize("name", ["mamba", "zamba", "mamba2"])
def test_gradients_pass_from_chunk_to_chunk(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def gradients(model: Any, *chunks: Tensor) -> dict[str, Tensor]:
        cache = {}
        for chunk in chunks:
            output = model(chunk, use_cache=True, **cache)
            cache = remembered(output)
        output.logits[:, -1].square().sum().backward()
        return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    with compat.transformers():
        ours = gradients(model_of(name), *tokens().split([9, 12], 1))
    plain = gradients(model_of(name), tokens())
    assert_as_good(ours, plain, gradients(wide(model_of(name), monkeypatch), tokens()))


@pytest.mark.parametrize("name", ["mamba", "zamba", "mamba2"])
@torch.no_grad()
def test_in_16_bits_it_is_at_least_as_exact(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = model_of(name).bfloat16(), tokens()
    plain = model(x).logits
    with compat.transformers():
        ours = model(x).logits
    truth = wide(model, monkeypatch)(x).logits
    assert ours.dtype == plain.dtype
    assert_as_good({"logits": ours}, {"logits": plain}, {"logits": truth})


@pytest.mark.parametrize("name", ["mamba", "mamba2"])
def test_autocast_leaves_the_recurrence_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        plain = trained(model_of(name))
        with compat.transformers():
            ours = trained(model_of(name))
    assert_as_good(ours, plain, trained(wide(model_of(name), monkeypatch)))
