"""What every mixer claims: one system, whichever way it is run."""

import itertools

import pytest
import torch

from longwave.layers import LTIMixer, map_state
from mixer_cases import MIXER_CASES, WIDTH, MixerCase
from mixer_views import (
    LENGTHS,
    TOLERANCE,
    assert_states_close,
    chunked,
    convolved,
    deviation,
    deviation_of_states,
    every_dtype,
    every_mixer,
    inputs,
    random_state,
    states_equal,
    stepped,
    true_run,
)


@pytest.mark.parametrize(
    ("case", "length"),
    [
        pytest.param(case, length, id=f"{case.id}-{length}")
        for case in MIXER_CASES
        for length in (LENGTHS if case.long else LENGTHS[:-1])
    ],
)
@every_dtype
@pytest.mark.usefixtures("unchecked")  # thousands of steps: the annotations are checked in the other tests
@torch.no_grad()
def test_every_view_gives_the_same_numbers(case: MixerCase, dtype: torch.dtype, length: int) -> None:
    layer, x = case.build(dtype), inputs(length, dtype, batch=1)
    y = layer(x)
    prefilled, state_prefilled = chunked(layer, x, sizes_of(length))
    by_step, state_stepped = stepped(layer, x)
    views, final = {"prefill": prefilled, "step": by_step}, layer.prefill(x)[1]
    if isinstance(layer, LTIMixer):
        views["simulate"], final = true_run(layer, x)
        views["kernel"] = convolved(layer, x)
    errors = {name: deviation(view, y) for name, view in views.items()}
    errors["state, prefill"] = deviation_of_states(state_prefilled, final)
    errors["state, step"] = deviation_of_states(state_stepped, final)
    assert max(errors.values()) <= TOLERANCE[dtype], errors


def sizes_of(length: int) -> list[int]:
    """A few uneven chunks, one of them empty."""
    first, second = length // 3, length // 7
    return [first, 0, second, length - first - second]


@every_dtype
@every_mixer
def test_a_given_state_is_where_it_goes_on(case: MixerCase, dtype: torch.dtype) -> None:
    layer, x = case.build(dtype), inputs(40, dtype)
    state = random_state(layer, 2)
    truth, final = true_run(layer, x, state)
    for y, after in (layer.prefill(x, state), stepped(layer, x, state)):
        assert deviation(y.detach(), truth.detach()) <= TOLERANCE[dtype]
        assert deviation_of_states(map_state(torch.detach, after), map_state(torch.detach, final)) <= TOLERANCE[dtype]


@every_mixer
def test_padding_has_no_influence(case: MixerCase) -> None:
    layer, x, lengths = case.build(torch.float64), inputs(30, torch.float64, batch=4), torch.tensor([30, 11, 1, 0])
    start = random_state(layer, 4)
    for row, length in enumerate(lengths.tolist()):
        x[row, length:] *= 1e9  # large enough that rounding relative to it would show
    y, state = layer.prefill(x, start, lengths=lengths)
    forward = layer(x, lengths=lengths)
    for row, length in enumerate(lengths.tolist()):
        alone, end = layer.prefill(x[row : row + 1, :length], map_state(lambda s, row=row: s[row : row + 1], start))
        torch.testing.assert_close(y[row, :length], alone[0])
        assert_states_close(map_state(lambda s, row=row: s[row : row + 1], state), end)
        torch.testing.assert_close(forward[row, :length], layer(x[row : row + 1, :length])[0])


@every_mixer
def test_packed_sequences_are_those_sequences(case: MixerCase) -> None:
    layer, x = case.build(torch.float64), inputs(30, torch.float64)
    reset = torch.zeros(2, 30, dtype=torch.bool)
    reset[0, [0, 7, 8]] = reset[1, 19] = True
    start = random_state(layer, 2)
    y, state = layer.prefill(x, start, reset=reset)
    for row, begins in ((0, [0, 7, 8, 30]), (1, [19, 30])):
        for begin, end in itertools.pairwise(begins):
            alone, final = layer.prefill(x[row : row + 1, begin:end])
            torch.testing.assert_close(y[row, begin:end], alone[0])
        assert_states_close(map_state(lambda s, row=row: s[row : row + 1], state), final)
    torch.testing.assert_close(y[1:, :19], layer.prefill(x[1:, :19], map_state(lambda s: s[1:], start))[0])


@every_mixer
def test_packed_rows_may_be_padded(case: MixerCase) -> None:
    layer, x, lengths = case.build(torch.float64), inputs(30, torch.float64), torch.tensor([20, 0])
    reset = torch.zeros(2, 30, dtype=torch.bool)
    reset[:, [7, 20, 25]] = True
    start = random_state(layer, 2)
    y, state = layer.prefill(x, start, lengths=lengths, reset=reset)
    alone, final = layer.prefill(x[:1, 7:20])
    torch.testing.assert_close(y[:1, 7:20], alone)
    assert_states_close(map_state(lambda s: s[:1], state), final)
    assert_states_close(map_state(lambda s: s[1:], state), map_state(lambda s: s[1:], start))


@every_mixer
def test_outputs_depend_on_their_own_row_and_past_only(case: MixerCase) -> None:
    layer, x = case.build(torch.float64), inputs(12, torch.float64, batch=3).requires_grad_()
    (gradient,) = torch.autograd.grad(layer(x)[1, 7].sum(), x)
    assert gradient[1, :8].ne(0).all()
    assert gradient[[0, 2]].eq(0).all()
    rounding = 16 * torch.finfo(torch.float64).eps * gradient.abs().max()
    assert (gradient[1, 8:].abs() <= (rounding if case.by_fft else 0)).all()


@every_mixer
@torch.no_grad()
def test_step_and_prefill_leave_their_arguments_alone(case: MixerCase) -> None:
    layer, x = case.build(), inputs(3)
    state = random_state(layer, 2)
    x_before, state_before = x.clone(), map_state(torch.clone, state)
    _, after = layer.step(x[:, 0], state)
    layer.prefill(x, state)
    assert torch.equal(x, x_before)
    assert all(states_equal(state, state_before))
    assert not any(states_equal(after, state))


@every_mixer
def test_the_initial_state_is_no_state(case: MixerCase) -> None:
    layer, x = case.build(), inputs(9)
    assert torch.equal(layer.prefill(x, layer.initial_state(2))[0], layer.prefill(x)[0])
    assert {s.dtype for s in layer.initial_state(2, dtype=torch.float64)} == {case.state_dtype(torch.float64)}
    assert {s.dtype for s in layer.initial_state(2, dtype=torch.bfloat16)} == {case.state_dtype(torch.float32)}
    for five, one in zip(layer.initial_state(5, device="meta"), layer.initial_state(1), strict=True):
        assert five.shape == (5, *one.shape[1:])


@every_mixer
def test_nothing_of_length_zero(case: MixerCase) -> None:
    layer = case.build()
    state = random_state(layer, 2)
    y, after = layer.prefill(inputs(0), state)
    assert y.shape == (2, 0, WIDTH)
    assert all(states_equal(after, state))
    assert layer(inputs(5, batch=1)[:0]).shape == (0, 5, WIDTH)
