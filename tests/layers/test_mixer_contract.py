"""What every mixer claims: one system, whichever way it is run."""

import copy
import itertools
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from longwave.errors import ConfigError, ShapeError
from longwave.layers import MIXERS, LTIMixer, Mixer, map_state
from mixer_cases import MIXER_CASES, WIDTH, MixerCase

# max|a − b| / max|b| between any two views of a layer: the claim the library makes.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
DTYPES = [pytest.param(torch.float32, id="float32"), pytest.param(torch.float64, id="float64")]
LENGTHS = (1, 2, 17, 1047, 16384)

every_mixer = pytest.mark.parametrize("case", MIXER_CASES, ids=lambda case: case.id)
every_mixer_with_rate = pytest.mark.parametrize("case", [c for c in MIXER_CASES if c.rate], ids=lambda case: case.id)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def inputs(length: int, dtype: torch.dtype = torch.float32, batch: int = 2) -> Tensor:
    return torch.randn(batch, length, WIDTH, dtype=dtype, generator=torch.Generator().manual_seed(length))


def deviation(a: Tensor, b: Tensor) -> float:
    """max|a − b| / max|b|."""
    return float((a.double() - b.double()).abs().max() / b.double().abs().max())


def stepped(layer: Mixer, x: Tensor, state: Any = None, rate: float = 1.0) -> tuple[Tensor, Any]:
    state = layer.initial_state(len(x)) if state is None else state
    ys = []
    for x_t in x.unbind(1):
        y_t, state = layer.step(x_t, state, rate=rate)
        ys.append(y_t)
    return torch.stack(ys, 1), state


def chunked(layer: Mixer, x: Tensor, sizes: list[int]) -> tuple[Tensor, Any]:
    state, ys = None, []
    for chunk in x.split(sizes, dim=1):
        y, state = layer.prefill(chunk, state)
        ys.append(y)
    return torch.cat(ys, 1), state


def real_parts(state: Tensor) -> Tensor:
    """A state as the dense matrices have it: a complex number is its real and imaginary part."""
    return torch.view_as_real(state).flatten(-2) if state.is_complex() else state


def deviation_of_states(state: Any, truth: Any) -> float:
    """The largest deviation of a tensor in a state from its truth, which may be real parts."""
    return max(deviation(real_parts(a), real_parts(b)) for a, b in zip(state, truth, strict=True))


def random_state(layer: Mixer, batch: int) -> Any:
    return map_state(torch.randn_like, layer.initial_state(batch))


def assert_states_close(a: Any, b: Any) -> None:
    torch.testing.assert_close(tuple(a), tuple(b))


def states_equal(a: Any, b: Any) -> list[bool]:
    """For every tensor of a state, whether both have the same."""
    return [torch.equal(x, y) for x, y in zip(a, b, strict=True)]


def true_run(layer: Mixer, x: Tensor, state: Any = None, rate: float = 1.0) -> tuple[Tensor, Any]:
    """Output and final state by the dense float64 matrices, or, where there are none, position by position."""
    if not isinstance(layer, LTIMixer):
        return stepped(layer, x, state, rate)
    system = layer.to_state_space(rate)
    start = None if state is None else real_parts(state.x)
    bank = system.A.ndim == 3
    y, final = system.simulate(x.mT[..., None] if bank else x, start)
    y = y[..., 0].mT if bank else y
    return copy.deepcopy(layer.readout).double()(y), (final,)


def convolved(layer: LTIMixer, x: Tensor) -> Tensor:
    """Output by the impulse response, convolved by FFT in float64."""
    n = 2 * x.shape[1]
    k = torch.fft.rfft(layer.kernel(x.shape[1]).double(), n)
    u = torch.fft.rfft(x.mT.double(), n)
    y = k * u if k.ndim == 2 else torch.einsum("oif,bif->bof", k, u)
    return copy.deepcopy(layer.readout).double()(torch.fft.irfft(y, n)[..., : x.shape[1]].mT)


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


@every_mixer
def test_state_dict_round_trip(case: MixerCase) -> None:
    layer, x = case.build(), inputs(20)
    torch.manual_seed(1)
    other = MIXERS[case.mixer](WIDTH, **case.options).eval()
    assert not torch.equal(other(x), layer(x))
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))
    assert not any(p.is_complex() for p in layer.parameters())
    assert all(p.is_contiguous() for p in layer.parameters())


@every_mixer
@torch.no_grad()
def test_copies_and_pickles_are_independent(case: MixerCase) -> None:
    layer, x = case.build(), inputs(20)
    y = layer(x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x), y)
        for parameter in other.parameters():
            parameter.mul_(1.5)
        assert not torch.equal(other(x), y)
        assert torch.equal(layer(x), y)


@every_mixer
def test_every_parameter_receives_a_gradient(case: MixerCase) -> None:
    layer = case.build()
    layer(inputs(50)).square().sum().backward()
    assert [name for name, p in layer.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.usefixtures("unchecked")  # thousands of calls
@every_mixer
def test_gradients_in_float64(case: MixerCase) -> None:
    layer, x = case.build(torch.float64), inputs(5, torch.float64).requires_grad_()
    state = map_state(torch.Tensor.requires_grad_, random_state(layer, 2))
    names, parameters = zip(*layer.named_parameters(), strict=True)

    def run(x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        arguments = (x, type(state)(*values[: len(state)]))
        method = MethodCall(layer)
        y, after = torch.func.functional_call(
            method, {f"layer.{name}": value for name, value in zip(names, values[len(state) :], strict=True)}, arguments
        )
        return y, *after

    assert torch.autograd.gradcheck(run, (x, *state, *parameters))


class MethodCall(nn.Module):
    """Prefill as a module's forward, for functional_call."""

    def __init__(self, layer: Mixer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return self.layer.prefill(x, state, lengths=torch.tensor([5, 3]))


@every_mixer
@torch.no_grad()
def test_16_bit_layers_compute_in_32(case: MixerCase) -> None:
    layer, x = case.build(torch.bfloat16), inputs(200).bfloat16()
    y, state = layer.prefill(x)
    assert y.dtype == torch.bfloat16
    assert {s.dtype for s in state} == {case.state_dtype(torch.float32)}
    assert layer.step(x[:, 0], state)[0].dtype == torch.bfloat16
    # The same rounded parameters in float32: what differs is the rounding of the readout's few operations.
    wide = copy.deepcopy(layer).float()
    assert deviation(y, wide(x.float())) <= 8 * torch.finfo(torch.bfloat16).eps
    truth = true_run(wide, x.float())[1]
    assert deviation_of_states(state, truth) <= TOLERANCE[torch.float32]


@every_mixer
@torch.no_grad()
def test_autocast_leaves_the_linear_system_in_32_bits(case: MixerCase) -> None:
    layer, x = case.build(), inputs(200)
    _, state = layer.prefill(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, autocast_state = layer.prefill(x)
        y_t, _ = layer.step(x[:, 0], state)
        narrow, _ = layer.prefill(x.bfloat16())
    assert all(states_equal(autocast_state, state))
    assert y.dtype == y_t.dtype == torch.float32
    assert narrow.dtype == torch.bfloat16
    assert deviation(y, layer(x)) <= 8 * torch.finfo(torch.bfloat16).eps


@pytest.mark.parametrize("rate", [0.5, 2.0, 3.7])
@every_mixer_with_rate
def test_every_view_knows_the_rate(case: MixerCase, rate: float) -> None:
    layer, x = case.build(torch.float64), inputs(40, torch.float64)
    y = layer(x, rate=rate)
    assert not torch.allclose(y, layer(x))
    for view in (layer.prefill(x, rate=rate)[0], stepped(layer, x, rate=rate)[0], true_run(layer, x, rate=rate)[0]):
        torch.testing.assert_close(view, y)
    impulse = layer.to_state_space(rate).impulse_response(9)
    torch.testing.assert_close(layer.kernel(9, rate).reshape(impulse.shape), impulse)


@every_mixer
def test_slow_parameters_exist(case: MixerCase) -> None:
    layer = case.build()
    assert bool(layer.slow_parameters()) == case.slow
    assert set(layer.slow_parameters()) <= dict(layer.named_parameters()).keys()


@every_mixer
def test_drop_in_for_sequential(case: MixerCase) -> None:
    stack = nn.Sequential(nn.Linear(1, WIDTH), case.build(), nn.Linear(WIDTH, 3))
    assert stack(torch.zeros(2, 10, 1)).shape == (2, 10, 3)


@every_mixer
def test_training_mode_differs_by_dropout_alone(case: MixerCase) -> None:
    layer, x = case.build().train(), inputs(20)
    if case.options.get("dropout"):
        y = layer(x)
        assert not torch.equal(y, layer(x))
        with pytest.raises(ValueError, match=r"eval\(\)"):
            layer.step(x[:, 0], layer.initial_state(2))
    else:
        assert torch.equal(layer(x), layer.eval()(x))


@pytest.mark.usefixtures("unchecked")
@every_mixer
def test_mistakes_are_named(case: MixerCase) -> None:
    layer, x = case.build(), inputs(6)
    state = layer.initial_state(2)
    of_another_kind = map_state(lambda s: s.real if s.is_complex() else s.half(), state)
    mistakes: list[tuple[type[Exception], str, Any]] = [
        (ShapeError, rf"x must have shape \(batch, time, {WIDTH}\), got \(2, 4\)", lambda: layer(x[:, 0])),
        (ShapeError, r"got \(2, 6, 3\)", lambda: layer(x[..., :3])),
        (ShapeError, rf"x must have shape \(batch, {WIDTH}\), got \(2, 6, 4\)", lambda: layer.step(x, state)),
        (ShapeError, r"float64 but the parameters are torch.float32", lambda: layer(x.double())),
        (ShapeError, r"x is on meta", lambda: layer(x.to("meta"))),
        (ShapeError, r"lengths must be integer with shape \(2,\)", lambda: layer(x, lengths=torch.tensor([6]))),
        (ShapeError, r"lengths must be integer", lambda: layer(x, lengths=torch.tensor([6.0, 2.0]))),
        (ShapeError, r"between 0 and the 6 positions", lambda: layer(x, lengths=torch.tensor([7, 2]))),
        (ShapeError, r"between 0 and the 6 positions", lambda: layer(x, lengths=torch.tensor([-1, 2]))),
        (ShapeError, r"reset must be boolean with shape \(2, 6\)", lambda: layer(x, reset=torch.zeros(2, 6))),
        (ShapeError, r"reset must be boolean", lambda: layer(x, reset=torch.zeros(6, dtype=torch.bool))),
        (ShapeError, r"state must have shape \(2, ", lambda: layer.prefill(x, layer.initial_state(3))),
        (ShapeError, r"begin with initial_state\(2\)", lambda: layer.step(x[:, 0], of_another_kind)),
        (ConfigError, r"rate=0", lambda: layer(x, rate=0)),
        (ConfigError, r"rate=-1.0", lambda: layer.step(x[:, 0], state, rate=-1.0)),
        (ConfigError, r"d_model=0", lambda: MIXERS[case.mixer](0)),
        (ConfigError, r"d_state=-2", lambda: MIXERS[case.mixer](4, d_state=-2)),
    ]
    if isinstance(layer, LTIMixer):  # which have a readout
        mistakes += [
            (ConfigError, r"did you mean 'glu'", lambda: MIXERS[case.mixer](4, output="glue")),
            (ConfigError, r"dropout=1.0", lambda: MIXERS[case.mixer](4, dropout=1.0)),
        ]
    for error, message, mistake in mistakes:
        with pytest.raises(error, match=message):
            mistake()


@pytest.mark.parametrize("name", MIXERS)
def test_every_mixer_works_with_its_width_alone_and_has_a_row(name: str) -> None:
    assert MIXERS[name](d_model=8)(torch.zeros(1, 3, 8)).shape == (1, 3, 8)
    assert any(case.mixer == name and case.long for case in MIXER_CASES)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("case", [case for case in MIXER_CASES if case.id in MIXERS], ids=lambda case: case.id)
def test_compiles_as_one_graph_with_the_same_numbers(case: MixerCase) -> None:
    torch.compiler.reset()  # what other tests compiled counts towards a limit
    layer, x = case.build(), inputs(30)
    layer(x).square().sum().backward()
    gradients = {name: p.grad.clone() for name, p in layer.named_parameters() if p.grad is not None}
    layer.zero_grad()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    y = compiled(x)
    y.square().sum().backward()
    torch.testing.assert_close(y, layer(x))
    torch.testing.assert_close({name: p.grad for name, p in layer.named_parameters()}, gradients)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), layer(x))
