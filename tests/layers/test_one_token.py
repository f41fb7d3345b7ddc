"""One position of Mamba and Mamba-2 as one native call: what their parts give, and nothing that changed is missed."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import longwave
from longwave.layers.base import State
from longwave.ops import _native
from longwave.ops._decoding import OneCall

pytestmark = pytest.mark.skipif(not _native.available(), reason="no native kernels")
ROWS = pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Mamba", {"d_state": 5}),
        ("Mamba", {"bias": True, "conv_bias": False, "d_conv": 1}),
        ("Mamba2", {"d_state": 6, "headdim": 4}),
        ("Mamba2", {"headdim": 4, "ngroups": 2, "D_has_hdim": True, "bias": True, "conv_bias": False}),
        ("Mamba2", {"headdim": 8, "ngroups": 2, "norm_before_gate": True, "dt_limit": (0.3, 0.5), "norm_eps": 0.1}),
        ("Mamba2", {"headdim": 8, "rmsnorm": False}),
    ],
)
NAMES = pytest.mark.parametrize("name", ["Mamba", "Mamba2"])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[OneCall]:
    made, step = [], OneCall.step

    def counted(self: OneCall, *moving: Tensor) -> Tensor:
        made.append(self)
        return step(self, *moving)

    monkeypatch.setattr(OneCall, "step", counted)
    return made


def layer_of(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    layer = getattr(longwave, name)(8, **options).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))  # ones and zeros would hide mistakes
    return layer


def stepped(layer: Any, grad: bool, rows: int = 3) -> tuple[Tensor, ...]:
    """y and the state after a position, from a state that the positions before have left."""
    x = torch.randn(rows, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        state: State = layer.prefill(x[:, :5])[1]
    before = [part.clone() for part in state]
    with torch.set_grad_enabled(grad):
        y, after = layer.step(x[:, 5], state)
    assert all(map(torch.equal, state, before))
    return y.detach(), *(part.detach() for part in after)


def assert_same(layer: Any) -> None:
    """Both in double precision, and of numbers of size one."""
    for found, want in zip(stepped(layer, False), stepped(layer, True), strict=True):
        torch.testing.assert_close(found, want, rtol=1e-12, atol=1e-12)


@ROWS
def test_a_step_is_one_call_and_what_its_parts_give(name: str, options: dict[str, Any], calls: list[OneCall]) -> None:
    assert_same(layer_of(name, **options))
    assert len(calls) == 1


@NAMES
def test_what_changed_is_seen(name: str, calls: list[OneCall]) -> None:
    layer = layer_of(name)
    for change in (in_place, replaced, narrowed):
        stepped(layer, False)
        change(layer)
        assert_same(layer)
    assert len(calls) == 2 * 3


def in_place(layer: Any) -> None:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(1.1)


def replaced(layer: Any) -> None:
    layer.out_proj = nn.Linear(layer.d_inner, 8, dtype=torch.float64)
    layer.A_log = nn.Parameter(1.1 * layer.A_log.detach())


def narrowed(layer: Any) -> None:
    layer.float().double()


@NAMES
def test_hooks_and_norms_are_more_than_one_call(name: str, calls: list[OneCall]) -> None:
    hooked, fired = layer_of(name), []
    hooked.in_proj.register_forward_hook(lambda *_: fired.append(name))
    stepped(hooked, False)
    assert len(fired) == 2  # by the positions before, too
    stepped(layer_of("Mamba", norm_eps=1e-5), False)
    stepped(layer_of("Mamba2", headdim=4, d_ssm=8), False)
    with torch.autocast("cpu"):
        stepped(layer_of(name).float().double(), False)
    assert not calls


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


@pytest.mark.parametrize(("part", "weight"), [("", "dt_bias"), ("", "A_log"), ("", "D"), ("norm", "weight")])
def test_a_parameter_may_be_made_of_another(part: str, weight: str, calls: list[OneCall]) -> None:
    layer = layer_of("Mamba2")
    made = layer.get_submodule(part)
    nn.utils.parametrize.register_parametrization(made, weight, Twice())
    stepped(layer, False)
    with torch.no_grad():
        made.parametrizations[weight].original.mul_(0.7)
    assert_same(layer)
    assert not calls
