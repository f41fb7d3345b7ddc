"""mamba_ssm's norms are their formulas, their gradients too."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from compared import assert_same, normal
from torch import Tensor

import oracles
from longwave.compat import gated_norms, residual_norms
from longwave.errors import ConfigError, ShapeError


def by_hand(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, rms: bool, size: int | None = None) -> Tensor:
    groups = x.unflatten(-1, (-1, size or x.shape[-1]))
    groups = groups if rms else groups - groups.mean(-1, keepdim=True)
    y = (groups / (groups.square().mean(-1, keepdim=True) + eps).sqrt()).flatten(-2) * weight
    return y if bias is None else y + bias


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("size", [None, 4])
def test_a_gated_norm_is_its_formula(first: bool, size: int | None) -> None:
    assert_same(
        lambda **given: gated_norms.rmsnorm_fn(**given, bias=None, eps=1e-3, group_size=size, norm_before_gate=first),
        lambda **given: oracles.gated_norm(**given, group_size=size, norm_before_gate=first, eps=1e-3),
        {"x": normal(2, 3, 8), "weight": normal(8), "z": normal(2, 3, 8, seed=1)},
    )


@pytest.mark.parametrize("rms", [False, True])
@pytest.mark.parametrize("gate", [None, "before", "after"])
def test_layer_norms_and_biases_are_their_formulas(rms: bool, gate: str | None) -> None:
    def formula(x: Tensor, weight: Tensor, bias: Tensor, z: Tensor | None = None) -> Tensor:
        x = x * F.silu(z) if z is not None and gate == "before" else x
        y = by_hand(x, weight, bias, 1e-3, rms, 4)
        return y * F.silu(z) if z is not None and gate == "after" else y

    given = {"x": normal(2, 3, 8), "weight": normal(8), "bias": normal(8, seed=2)}
    assert_same(
        lambda **given: gated_norms.layernorm_fn(
            **given, eps=1e-3, group_size=4, norm_before_gate=gate == "after", is_rms_norm=rms
        ),
        formula,
        given | ({} if gate is None else {"z": normal(2, 3, 8, seed=1)}),
    )


@pytest.mark.parametrize("rms", [False, True])
def test_a_residual_norm_is_its_formula(rms: bool) -> None:
    def formula(x: Tensor, residual: Tensor, x1: Tensor, weight: Tensor, bias: Tensor, weight1: Tensor) -> Any:
        s = x + x1 + residual
        return by_hand(s, weight, bias, 1e-3, rms), by_hand(s, weight1, None, 1e-3, rms), s

    names = ("x", "residual", "x1")
    streams = {name: normal(2, 3, 8, seed=i) for i, name in enumerate(names)}
    assert_same(
        lambda **given: residual_norms.layer_norm_fn(**given, eps=1e-3, prenorm=True, is_rms_norm=rms),
        formula,
        streams | {name: normal(8, seed=i) for i, name in enumerate(("weight", "bias", "weight1"))},
    )


def test_scaled_rows_and_a_linear_map_behind() -> None:
    given = {"x": normal(2, 3, 8), "weight": normal(8), "rowscale": normal(2, 3)}
    assert_same(
        lambda **given: residual_norms.rms_norm_fn(**given, bias=None, eps=1e-3),
        lambda x, weight, rowscale: by_hand(x * rowscale[..., None], weight, None, 1e-3, True),
        given,
    )
    assert_same(
        lambda **given: residual_norms.layer_norm_linear_fn(**given, norm_bias=None, eps=1e-3, prenorm=True),
        lambda x, norm_weight, residual, linear_weight, linear_bias: (
            by_hand(x + residual, norm_weight, None, 1e-3, False) @ linear_weight.T + linear_bias,
            x + residual,
        ),
        {
            "x": normal(2, 3, 8),
            "norm_weight": normal(8),
            "residual": normal(2, 3, 8, seed=2),
            "linear_weight": normal(5, 8),
            "linear_bias": normal(5),
        },
    )
    with pytest.raises(ConfigError, match="rowscale scales one addend"):
        residual_norms.rms_norm_fn(**given, bias=None, x1=given["x"])


def test_what_is_dropped_is_what_the_mask_says() -> None:
    torch.manual_seed(0)
    x, weight = normal(50, 40), torch.ones(40, dtype=torch.float64)
    y, s, kept, kept1 = residual_norms.rms_norm_fn(
        x, weight, None, x1=2 * x, dropout_p=0.25, prenorm=True, return_dropout_mask=True
    )
    torch.testing.assert_close(s, (x * kept + 2 * x * kept1) / 0.75)
    assert y.shape == x.shape
    for mask in (kept, kept1):
        assert abs(float(mask.double().mean()) - 0.75) < 4 * (0.25 * 0.75 / mask.numel()) ** 0.5
    assert not torch.equal(kept, kept1)
    assert residual_norms.rms_norm_fn(x, weight, None, return_dropout_mask=True)[1:] == (None, None)


def test_dtypes_of_the_stream() -> None:
    x, weight = normal(2, 8).bfloat16(), torch.ones(8, dtype=torch.bfloat16)
    y, s = residual_norms.rms_norm_fn(x, weight, None, prenorm=True, residual_in_fp32=True)
    assert (y.dtype, s.dtype) == (torch.bfloat16, torch.float32)
    y, s = residual_norms.rms_norm_fn(x, weight, None, residual=s, prenorm=True)
    assert (y.dtype, s.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(s, 2 * x.float())
    assert residual_norms.rms_norm_fn(x, weight, None, prenorm=True)[1].dtype == torch.bfloat16


def test_modules_have_the_originals_parameters() -> None:
    gated, layer = gated_norms.RMSNorm(8, group_size=4), gated_norms.LayerNorm(8, dtype=torch.float64)
    assert list(gated.state_dict()) == ["weight"]
    assert list(layer.state_dict()) == ["weight", "bias"]
    x, z = normal(2, 8).float(), normal(2, 8, seed=1).float()
    assert torch.equal(gated(x, z), gated_norms.rmsnorm_fn(x, gated.weight, None, z, 1e-5, 4))
    assert torch.equal(layer(x.double()), F.layer_norm(x.double(), (8,), eps=1e-5))
    residual = residual_norms.RMSNorm(8, dropout_p=0.5)
    assert list(residual.state_dict()) == ["weight"]
    y, s = residual.eval()(x, z, prenorm=True)
    assert torch.equal(s, x + z)
    assert torch.equal(y, F.rms_norm(x + z, (8,), eps=1e-5))
    with pytest.raises(ShapeError, match="group_size=3 does not divide the 8 channels"):
        gated_norms.layernorm_fn(x, gated.weight, None, group_size=3)
