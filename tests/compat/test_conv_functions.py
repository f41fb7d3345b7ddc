"""causal_conv1d's functions are a loop over positions, and what they write is what the loop would have seen."""

from typing import Any

import pytest
import torch
from compared import assert_same, normal
from torch import Tensor

import oracles
from longwave.compat import causal_conv
from longwave.errors import ConfigError, ShapeError

BATCH, DIM, TIME = 2, 6, 9


def tensors(width: int = 4, *, initial: bool = True) -> dict[str, Tensor]:
    found = {"x": normal(BATCH, DIM, TIME), "weight": normal(DIM, width), "bias": normal(DIM)}
    return found | ({"initial_states": normal(BATCH, DIM, width - 1)} if initial else {})


def loop(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    initial_states: Tensor | None = None,
    activation: str | None = None,
    **ends: Tensor,
) -> tuple[Tensor, Tensor]:
    before = x.new_zeros(*x.shape[:2], weight.shape[1] - 1) if initial_states is None else initial_states
    y, final = oracles.short_conv(x.mT, weight, bias, before, activation, **ends)
    return y.mT, final


@pytest.mark.parametrize("function", [causal_conv.causal_conv1d_fn, causal_conv.causal_conv1d_ref])
@pytest.mark.parametrize(("width", "activation", "initial"), [(2, "silu", True), (3, None, False), (4, "swish", True)])
def test_the_convolution_is_a_loop(function: Any, width: int, activation: str | None, initial: bool) -> None:
    assert_same(
        lambda **given: function(**given, return_final_states=True, activation=activation),
        lambda **given: loop(**given, activation="silu" if activation else None),
        tensors(width, initial=initial),
    )


@pytest.mark.parametrize("function", [causal_conv.causal_conv1d_fn, causal_conv.causal_conv1d_ref])
def test_packed_sequences_do_not_see_one_another(function: Any) -> None:
    seq_idx = torch.tensor([[0, 0, 0, 1, 1, 1, 1, -1, -1], [4, 5, 5, 5, 5, 5, 6, 6, 6]], dtype=torch.int32)
    assert_same(
        lambda **given: function(**given, seq_idx=seq_idx, activation="silu"),
        lambda **given: loop(**given, seq_idx=seq_idx, activation="silu")[0],
        tensors(),
    )


def test_final_states_are_written_where_they_shall_be() -> None:
    given, place = tensors(), torch.zeros(BATCH, 3, DIM, dtype=torch.float64).mT
    _, final = causal_conv.causal_conv1d_fn(**given, return_final_states=True, final_states_out=place)
    assert final is place
    assert torch.equal(place, given["x"][..., -3:])


@pytest.mark.parametrize("update", [causal_conv.causal_conv1d_update, causal_conv.causal_conv1d_update_ref])
@pytest.mark.parametrize("length", [3, 4, 7])
@pytest.mark.parametrize("ring", [False, True])
def test_updates_go_on_where_the_convolution_ended(update: Any, length: int, ring: bool) -> None:
    x, weight, bias, _ = tensors().values()
    whole = causal_conv.causal_conv1d_fn(x, weight, bias, activation="silu")
    cache = torch.zeros(BATCH, DIM, length, dtype=torch.float64)
    begin = torch.tensor([5, 11], dtype=torch.int32)
    outputs, done = [], 0
    for count in (2, 1, 1, 5):
        part = x[..., done : done + count]
        seen = begin + done if ring else None
        outputs.append(update(part, cache, weight, bias, "silu", cache_seqlens=seen))
        done += count
    one = update(x[..., 0], cache, weight, bias, "silu", cache_seqlens=begin + done if ring else None)
    assert one.shape == (BATCH, DIM)
    torch.testing.assert_close(torch.cat(outputs, -1), whole, rtol=0, atol=1e-14)
    line = torch.cat([x, x[..., :1]], -1)
    for row in range(BATCH):
        for back in range(1, length + 1):  # the last inputs, in order or at their places in the ring
            at = (int(begin[row]) + TIME + 1 - back) % length if ring else length - back
            assert torch.equal(cache[row, :, at], line[row, :, -back])


def test_slots_of_a_cache() -> None:
    x, weight, bias, _ = tensors().values()
    cache = normal(5, DIM, 4)
    before, slots = cache.clone(), torch.tensor([3, -1], dtype=torch.int32)
    y = causal_conv.causal_conv1d_update(x[..., 0], cache, weight, bias, "silu", conv_state_indices=slots)
    alone = before[3:4].clone()
    expected = causal_conv.causal_conv1d_update(x[:1, :, 0], alone, weight, bias, "silu")
    assert torch.equal(y[:1], expected)
    assert not y[1].any()
    assert torch.equal(cache[3:4], alone)
    rest = [0, 1, 2, 4]
    assert torch.equal(cache[rest], before[rest])


def test_an_update_has_gradients_and_its_cache_has_not() -> None:
    x, weight, bias, _ = (tensor.clone().requires_grad_() for tensor in tensors().values())
    cache = torch.zeros(BATCH, DIM, 4, dtype=torch.float64)
    causal_conv.causal_conv1d_update(x[..., 0], cache, weight, bias).sum().backward()
    assert weight.grad is not None
    assert not cache.requires_grad


def test_states_of_packed_sequences() -> None:
    x, ends = normal(9, DIM), torch.tensor([0, 2, 2, 9], dtype=torch.int32)
    found = causal_conv.causal_conv1d_varlen_states(x, ends, 4)
    assert found.shape == (3, DIM, 4)
    assert torch.equal(found[0], torch.cat([torch.zeros(2, DIM, dtype=x.dtype), x[:2]]).mT)
    assert not found[1].any()
    assert torch.equal(found[2], x[5:].mT)


@pytest.mark.parametrize("final", [False, True])
def test_the_low_level_functions_are_the_convolution_and_its_gradients(final: bool) -> None:
    given = tensors()
    x, weight, bias, initial = given.values()
    dy, dfinal, place = normal(*x.shape, seed=3), normal(*initial.shape, seed=4), torch.empty_like(initial)
    y = causal_conv.causal_conv1d_fwd_function(x, weight, bias, None, initial, place, True)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in given.items()}
    truth, last = loop(**leaves, activation="silu")
    torch.testing.assert_close(y, truth, rtol=0, atol=1e-14)
    assert torch.equal(place, last)
    loss = (truth * dy).sum() + (last * dfinal).sum() * final
    expected = torch.autograd.grad(loss, [*leaves.values()])
    dx = torch.empty_like(x)
    found = causal_conv.causal_conv1d_bwd_function(
        x, weight, bias, dy, None, initial, dfinal if final else None, dx, True, True
    )
    assert found[0] is dx
    for actual, want in zip(found, expected, strict=True):
        torch.testing.assert_close(actual, want, rtol=0, atol=1e-13)
    assert causal_conv.causal_conv1d_bwd_function(x, weight, None, dy, None, None, None, None, False, True)[2:] == (
        None,
        None,
    )
    cache = initial.clone()
    one = causal_conv.causal_conv1d_update_function(x[..., 0], cache, weight, bias, True, None, None)
    torch.testing.assert_close(one, truth[..., 0], rtol=0, atol=1e-14)


def test_dtypes_are_those_of_x() -> None:
    given = {name: tensor.bfloat16() for name, tensor in tensors().items()}
    y, final = causal_conv.causal_conv1d_fn(**given, return_final_states=True)
    assert y.dtype == final.dtype == torch.bfloat16
    cache = torch.zeros(BATCH, DIM, 4)  # of another dtype than x
    y = causal_conv.causal_conv1d_update(given["x"][..., 0], cache, given["weight"])
    assert y.dtype == torch.bfloat16
    assert cache.dtype == torch.float32


def test_users_mistakes() -> None:
    x, weight, bias, _ = tensors().values()
    with pytest.raises(ConfigError, match="unknown activation 'relu'"):
        causal_conv.causal_conv1d_fn(x, weight, bias, activation="relu")
    with pytest.raises(ShapeError, match="conv_state holds 2 positions"):
        causal_conv.causal_conv1d_update(x, torch.zeros(BATCH, DIM, 2), weight, bias)
