"""What every mixer is as a module: what it saves, computes in, trains, and says of mistakes."""

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from longwave.errors import ConfigError, ShapeError
from longwave.layers import MIXERS, LTIMixer, Mixer, map_state
from mixer_cases import MIXER_CASES, WIDTH, MixerCase
from mixer_views import (
    TOLERANCE,
    deviation,
    deviation_of_states,
    every_mixer,
    every_mixer_with_rate,
    inputs,
    random_state,
    states_equal,
    stepped,
    true_run,
)


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
    tolerance = 8 * torch.finfo(torch.bfloat16).eps if case.projected else TOLERANCE[torch.float32]
    assert deviation_of_states(state, truth) <= tolerance


@every_mixer
@torch.no_grad()
def test_autocast_leaves_the_linear_system_in_32_bits(case: MixerCase) -> None:
    layer, x = case.build(), inputs(200)
    _, state = layer.prefill(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, autocast_state = layer.prefill(x)
        y_t, _ = layer.step(x[:, 0], state)
        narrow, _ = layer.prefill(x.bfloat16())
    if case.projected:
        assert deviation_of_states(autocast_state, state) <= 8 * torch.finfo(torch.bfloat16).eps
    else:
        assert all(states_equal(autocast_state, state))
    assert y.dtype == y_t.dtype == torch.float32
    assert narrow.dtype == torch.bfloat16
    assert deviation(y, layer(x)) <= 8 * torch.finfo(torch.bfloat16).eps


@every_mixer
def test_autocast_trains_the_same_way(case: MixerCase) -> None:
    layer, x = case.build(), inputs(50)
    parameters = list(layer.parameters())
    want = torch.autograd.grad(layer(x).square().sum(), parameters)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = layer(x).square().sum()
    gradients = torch.autograd.grad(loss, parameters)
    assert {g.dtype for g in gradients} == {torch.float32}
    # All of a layer's parameters in one direction: a small gradient may be a difference of large ones.
    flat, truth = (torch.cat([g.flatten() for g in each]) for each in (gradients, want))
    assert float((flat - truth).norm() / truth.norm()) <= 8 * torch.finfo(torch.bfloat16).eps


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
        (ConfigError, rf"{case.size_option}=-2", lambda: MIXERS[case.mixer](4, **{case.size_option: -2})),
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


class Step(nn.Module):
    """`step` as a module's forward, its states plain tuples: what can be exported, and read where longwave is not."""

    def __init__(self, layer: Mixer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x_t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        y_t, after = self.layer.step(x_t, state)
        return y_t, tuple(after)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("case", [case for case in MIXER_CASES if case.id in MIXERS], ids=lambda case: case.id)
@torch.no_grad()
def test_an_exported_step_is_a_step(case: MixerCase) -> None:
    layer, file = case.build(), io.BytesIO()
    state, rows = tuple(random_state(layer, 2)), {0: torch.export.Dim("batch")}
    program = torch.export.export(
        Step(layer), (inputs(1)[:, 0], state), dynamic_shapes=(rows, tuple(rows for _ in state))
    )
    assert any("longwave" in str(node.target) for node in program.graph.nodes) == (case.mixer == "RWKV")
    torch.export.save(program, file)
    file.seek(0)
    step = torch.export.load(file).module()
    for batch in (1, 70):
        state = truth = tuple(random_state(layer, batch))
        for x_t in inputs(9, batch=batch).unbind(1):
            y_t, state = step(x_t, state)
            want, truth = layer.step(x_t, truth)
            torch.testing.assert_close((y_t, *state), (want, *truth))
