"""The discretised system is kept while gradients are off, and never a moment longer than it is right."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn

from longwave.layers import LTIMixer
from longwave.layers.cache import SystemCache
from mixer_cases import LTI_CASES, MixerCase

every_mixer = pytest.mark.parametrize("case", LTI_CASES, ids=lambda case: case.id)


def optimizer_step(layer: LTIMixer) -> None:
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    with torch.enable_grad():
        layer(torch.ones(1, 5, layer.d_model)).square().sum().backward()
    optimizer.step()


def fused_optimizer_step(layer: LTIMixer) -> None:
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True)
    with torch.enable_grad():
        layer(torch.ones(1, 5, layer.d_model)).square().sum().backward()
    optimizer.step()


def new_values(layer: LTIMixer) -> dict[str, torch.Tensor]:
    return {name: value + 0.1 for name, value in layer.state_dict().items()}


def replace_by_twin(layer: LTIMixer) -> None:
    """A new parameter where the old one was freed: perhaps at the same address, with the same version."""
    values = (layer.D + 1).detach()
    layer.D = nn.Parameter(torch.zeros(0))
    layer.D = nn.Parameter(values)


def rewrap(layer: LTIMixer) -> None:
    """Another parameter on the same memory, written to as often as the old one was."""
    version = layer.D._version
    layer.D = nn.Parameter(layer.D.data)
    while layer.D._version < version:
        layer.D.add_(1)


def weights(layer: LTIMixer, *names: str) -> nn.Parameter:
    """The first of these parameters that the layer has."""
    return next(p for name in names for own, p in layer.named_parameters() if own == name)


def assign_data(layer: LTIMixer) -> None:
    parameter = weights(layer, "C", "a")
    parameter.data = parameter.data + 1


CHANGES: dict[str, Callable[[LTIMixer], object]] = {
    "in place": lambda layer: layer.D.add_(1),
    "through a view": lambda layer: weights(layer, "C", "a")[0].mul_(2),
    "detached": lambda layer: weights(layer, "B", "C", "a").detach().mul_(2),
    "optimizer": optimizer_step,
    "fused optimizer": fused_optimizer_step,
    "load_state_dict": lambda layer: layer.load_state_dict(new_values(layer)),
    "load_state_dict, assigned": lambda layer: layer.load_state_dict(new_values(layer), assign=True),
    "parameter replaced": replace_by_twin,
    "parameter rewrapped": rewrap,
    "data assigned": assign_data,
    "there and back": lambda layer: layer.half().float(),
}


@pytest.mark.parametrize("change", CHANGES)
@every_mixer
def test_every_change_of_a_parameter_is_seen(case: MixerCase, change: str) -> None:
    layer = case.build()
    with torch.no_grad():
        layer.D.add_(1)
        before = layer.system()
        assert layer.system() is before
        CHANGES[change](layer)
        after = layer.system()
        assert any(not torch.equal(a, b) for a, b in zip(after, before, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(after, layer.discretize(), strict=True))


@pytest.mark.parametrize("case", [c for c in LTI_CASES if c.rate], ids=lambda case: case.id)
def test_the_key_holds_rate_and_precision(case: MixerCase) -> None:
    layer = case.build()
    with torch.no_grad():
        assert not torch.equal(layer.system(1.0).A, layer.system(2.0).A)
        assert torch.equal(layer.system(1.0).A, layer.discretize(1.0).A)
        assert layer.double().system(1.0).A.dtype == case.state_dtype(torch.float64)


@every_mixer
def test_gradients_never_come_from_the_cache(case: MixerCase) -> None:
    layer, x = case.build(), torch.randn(2, 9, 4)
    with torch.no_grad():
        cached = layer(x)
        kept = layer.system()
    y = layer(x)
    assert torch.equal(y, cached)
    y.sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    with torch.no_grad():
        assert layer.system() is kept
    assert not any(tensor.requires_grad for tensor in kept)


@every_mixer
def test_inference_mode(case: MixerCase) -> None:
    layer, x = case.build(), torch.randn(2, 9, 4)
    y = layer(x)
    with torch.inference_mode():
        assert torch.equal(layer(x), y)
        born_inside = copy.deepcopy(layer)
        again = born_inside(x)
        # An FFT rounds by where in memory its input lies.
        assert torch.allclose(again, y) if case.by_fft else torch.equal(again, y)
    with torch.no_grad():
        assert torch.equal(layer(x), y)
    layer(x.requires_grad_()).sum().backward()
    assert x.grad is not None


def test_frozen_parameters_still_pass_gradients_to_their_input() -> None:
    layer, x = LTI_CASES[0].build().requires_grad_(False), torch.randn(1, 5, 4, requires_grad=True)
    with torch.inference_mode():
        layer(x)
    layer(x).sum().backward()
    assert x.grad is not None


@every_mixer
def test_the_cache_is_not_part_of_the_layer(case: MixerCase) -> None:
    layer = case.build()
    empty = len(pickle.dumps(layer))
    names = list(layer.state_dict())
    with torch.no_grad():
        layer.system()
    assert len(pickle.dumps(layer)) == empty
    assert list(layer.state_dict()) == names == [name for name, _ in layer.named_parameters()]


def test_parametrized_parameters_are_not_kept_too_long() -> None:
    layer = LTI_CASES[0].build()
    nn.utils.parametrizations.weight_norm(layer, "D", dim=0)
    with torch.no_grad():
        before = layer.system().D
        layer.parametrizations.D.original0.mul_(2)  # pyright: ignore
        assert torch.allclose(layer.system().D, 2 * before)


def test_a_cache_computes_once() -> None:
    calls: list[int] = []

    def compute() -> int:
        calls.append(1)
        return len(calls)

    cache, parameter = SystemCache(), torch.zeros(1)
    assert [cache.get(compute, [parameter], 0) for _ in range(3)] == [1, 2, 3]
    with torch.no_grad():
        assert [cache.get(compute, [parameter], 0) for _ in range(3)] == [4, 4, 4]
        assert cache.get(compute, [parameter], 1) == 5
        assert cache.get(compute, [parameter, torch.ones(1)], 1) == 6
        assert copy.deepcopy(cache).get(compute, [parameter], 1) == 7
