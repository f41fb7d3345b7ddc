"""One token of a mixer as one native call: when it is one, and that nothing that changed in between is missed."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from families import model_of, tokens
from torch import Tensor, nn

from longwave import compat
from longwave.ops import _native
from longwave.ops._decoding import OneCall

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of transformers
    pytest.mark.skipif(not _native.available(), reason="no native kernels"),
]
NAMES = pytest.mark.parametrize("name", ["mamba", "mamba2"])
LAYERS = 2


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[OneCall]]:
    """The mixers that were called as one, in a block in which ours are engaged."""
    made, step = [], OneCall.step

    def counted(self: OneCall, *moving: Tensor) -> Tensor:
        made.append(self)
        return step(self, *moving)

    monkeypatch.setattr(OneCall, "step", counted)
    with compat.transformers():
        yield made


def mixers(model: Any) -> list[Any]:
    return [layer.mixer for layer in model.backbone.layers]


@torch.no_grad()
def begun(model: Any, rows: int = 2) -> Any:
    """The cache after some tokens."""
    return model(tokens(rows)[:, :9], use_cache=True).cache_params


def goes_on(model: Any, cache: Any, rows: int = 2) -> Tensor:
    return model(tokens(rows)[:, 9:10], cache_params=cache, use_cache=True).logits


def whole(model: Any, cache: Any, rows: int = 2) -> Tensor:
    """The same token with a gradient, which is never one call."""
    with torch.enable_grad():
        return goes_on(model, cache, rows).detach()


@NAMES
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_one_token_is_one_call_of_a_mixer(name: str, rows: int, bias: bool, calls: list[OneCall]) -> None:
    model = model_of(name, use_bias=bias, use_conv_bias=bias)
    want = whole(model, begun(model, rows), rows)
    torch.testing.assert_close(goes_on(model, begun(model, rows), rows), want)
    assert len(calls) == LAYERS


@NAMES
@torch.no_grad()
def test_a_first_token_is_one_call_too(name: str, calls: list[OneCall]) -> None:
    model, x, got = model_of(name), tokens(2)[:, :3], {}
    want = model(x).logits
    for _ in range(2):
        logits = []
        for token in x.split(1, 1):
            output = model(token, use_cache=True, **got)
            got = {"cache_params": output.cache_params}
            logits.append(output.logits)
        torch.testing.assert_close(torch.cat(logits, 1), want)
        got["cache_params"].reset()  # begins again, in the same tensors
    assert len(calls) == 2 * 3 * LAYERS


@NAMES
@torch.no_grad()
def test_results_do_not_depend_on_the_threads(name: str, calls: list[OneCall]) -> None:
    model, before, logits = model_of(name, hidden_size=128, expand=4, num_heads=32), torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            logits.append(goes_on(model, begun(model)))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*logits)
    assert len(calls) == 2 * LAYERS


def in_place(model: Any) -> None:
    for weight in model.backbone.layers.parameters():
        weight.mul_(1.25)


def loaded(model: Any) -> None:
    model.load_state_dict({name: 1.25 * v for name, v in model.state_dict().items()})


def replaced(model: Any) -> None:
    for mixer in mixers(model):
        mixer.A_log = nn.Parameter(1.25 * mixer.A_log)
        mixer.out_proj.weight = nn.Parameter(1.25 * mixer.out_proj.weight)
        mixer.conv1d.weight = nn.Parameter(1.25 * mixer.conv1d.weight)


def reassigned(model: Any) -> None:
    for mixer in mixers(model):
        for weight in (*mixer.in_proj.parameters(), *mixer.conv1d.parameters()):
            weight.data = 1.25 * weight.data


def made_anew(model: Any) -> None:
    for mixer in mixers(model):
        mixer.out_proj.weight = nn.Parameter(1.25 * mixer.out_proj.weight)


def optimised(model: Any) -> None:
    for weight in model.parameters():
        weight.grad = weight.detach().clone()
    torch.optim.AdamW(model.parameters(), lr=0.1, fused=True).step()


def other_linear(model: Any) -> None:
    for mixer in mixers(model):
        out, matrix = mixer.out_proj, nn.Linear(mixer.intermediate_size, 32, bias=mixer.out_proj.bias is None)
        mixer.out_proj = matrix
        assert (matrix.bias is None) != (out.bias is None)


@NAMES
@pytest.mark.parametrize("change", [in_place, loaded, replaced, reassigned, made_anew, optimised, other_linear])
@torch.no_grad()
def test_a_weight_that_changed_is_seen(name: str, change: Callable[[Any], None], calls: list[OneCall]) -> None:
    model = model_of(name)
    before = goes_on(model, begun(model))
    change(model)
    want = whole(model, begun(model))
    torch.testing.assert_close(goes_on(model, begun(model)), want)
    assert not torch.allclose(before, want)
    assert len(calls) == 2 * LAYERS


@NAMES
@torch.no_grad()
def test_a_cache_goes_on_through_a_change(name: str, calls: list[OneCall]) -> None:
    """Between two tokens of one sequence."""
    logits = []
    for grad in (True, False):
        model = model_of(name)
        cache = begun(model)
        goes_on(model, cache)
        in_place(model)
        with torch.set_grad_enabled(grad):
            logits.append(goes_on(model, cache).detach())
    torch.testing.assert_close(*logits)


@NAMES
@torch.no_grad()
def test_precisions_change_too(name: str, calls: list[OneCall]) -> None:
    model = model_of(name)
    goes_on(model, begun(model))
    assert len(calls) == LAYERS
    model.bfloat16()
    goes_on(model, begun(model))
    assert len(calls) == LAYERS  # 16 bits are more than one call
    model.float()
    torch.testing.assert_close(goes_on(model, begun(model)), whole(model, begun(model)))
    assert len(calls) == 2 * LAYERS


class Doubled(nn.Linear):
    """What an adapter may be: it has the weight, and does something else with it."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def doubled(model: Any) -> None:
    for mixer in mixers(model):
        mixer.in_proj.__class__ = Doubled


def wrapped(model: Any) -> None:
    for mixer in mixers(model):
        plain = mixer.in_proj.forward
        mixer.in_proj.forward = lambda x, plain=plain: 2 * plain(x)


def parametrised(model: Any) -> None:
    for mixer in mixers(model):
        nn.utils.parametrize.register_parametrization(mixer.in_proj, "weight", Twice())


def hooked(model: Any) -> None:
    for mixer in mixers(model):
        mixer.in_proj.register_forward_hook(lambda _, __, y: 2 * y)


def hooked_before(model: Any) -> None:
    for mixer in mixers(model):
        mixer.in_proj.register_forward_pre_hook(lambda _, x: (2 * x[0],))


@NAMES
@pytest.mark.parametrize("change", [doubled, wrapped, parametrised, hooked, hooked_before])
@torch.no_grad()
def test_what_stands_in_a_projections_place_is_called(
    name: str, change: Callable[[Any], None], calls: list[OneCall]
) -> None:
    model, plain = model_of(name, use_bias=False), model_of(name, use_bias=False)
    goes_on(model, begun(model))
    change(model)
    for mixer in mixers(plain):
        mixer.in_proj.weight.mul_(2)
    del calls[:]
    torch.testing.assert_close(goes_on(model, begun(model)), whole(plain, begun(plain)))
    assert not calls


@NAMES
def test_adapters_of_peft_are_called(name: str, calls: list[OneCall]) -> None:
    peft = pytest.importorskip("peft")
    model = model_of(name)
    options = peft.LoraConfig(r=2, target_modules=["in_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    with torch.no_grad():
        before = goes_on(model, begun(model))
        del calls[:]
        adapted = peft.get_peft_model(model, options).base_model.model.eval()
        found, want = goes_on(adapted, begun(adapted)), whole(adapted, begun(adapted))
        torch.testing.assert_close(found, want)
        assert not torch.allclose(found, before)
        assert not calls


@NAMES
def test_gradients_and_autocast_are_more_than_one_call(name: str, calls: list[OneCall]) -> None:
    model = model_of(name)
    goes_on(model, begun(model)).sum().backward()
    assert mixers(model)[0].in_proj.weight.grad is not None
    with torch.no_grad(), torch.autocast("cpu"):
        goes_on(model, begun(model))
    assert not calls


@NAMES
@torch.no_grad()
def test_a_parameter_may_be_made_of_another(name: str, calls: list[OneCall]) -> None:
    model = model_of(name)
    for mixer in mixers(model):
        nn.utils.parametrize.register_parametrization(mixer, "A_log", Twice())
    goes_on(model, begun(model))
    for mixer in mixers(model):
        mixer.parametrizations.A_log.original.mul_(0.5)
    torch.testing.assert_close(goes_on(model, begun(model)), whole(model, begun(model)))
    assert not calls


@torch.no_grad()
def test_a_limit_on_the_step_may_change(calls: list[OneCall]) -> None:
    model = model_of("mamba2")
    goes_on(model, begun(model))
    for mixer in mixers(model):
        mixer.time_step_limit = (0.4, 0.6)
    torch.testing.assert_close(goes_on(model, begun(model)), whole(model, begun(model)))
