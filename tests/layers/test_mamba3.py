"""Mamba-3 against its recurrence, written down once more: one position, one head and one column at a time."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from longwave import Mamba3
from longwave.errors import ConfigError, UnsupportedError


def recurrence(layer: Mamba3, x: Tensor, halves: bool, heavy_tail: bool) -> Tensor:
    """y of one row, x (time, d_model), from the zero state, in float64: S = α S + β v₋ k₋ᵀ + γ v kᵀ."""
    p = {name: value.detach().double() for name, value in layer.named_parameters()}
    H, P, N, G, R, S = layer.nheads, layer.headdim, layer.d_state, layer.ngroups, layer.rank, layer.angles
    ones = torch.ones(H, R, P, dtype=torch.float64)
    mimo_x, mimo_z, mimo_o = (p.get(f"mimo_{name}", ones) for name in "xzo")
    sizes = [H * P, H * P, R * G * N, R * G * N, H, H, H, S]
    state = torch.zeros(H, P, N, dtype=torch.float64)
    theta, k_before, v_before = torch.zeros(H, S), torch.zeros(H, R, N), torch.zeros(H, R, P)
    theta, k_before, v_before = theta.double(), k_before.double(), v_before.double()
    ys = []
    for x_t in x.double():
        z, v, B, C, dt, a, trap, angle = (p["in_proj.weight"] @ x_t).split(sizes)
        B, C, out = B.view(R, G, N), C.view(R, G, N), torch.zeros(H, R, P, dtype=torch.float64)
        k_now, v_now = torch.zeros_like(k_before), torch.zeros_like(v_before)
        for h in range(H):
            step = softplus(dt[h] + p["dt_bias"][h])
            rate = (1 + a[h] if a[h] >= 0 else 1 / (1 - a[h])) if heavy_tail else softplus(a[h])
            alpha, share = torch.exp(-rate.clamp(min=layer.A_floor) * step), torch.sigmoid(trap[h])
            theta[h] += math.pi * torch.tanh(angle) * step
            state[h] *= alpha
            q = []
            for r in range(R):
                for u, name in ((B, "B"), (C, "C")):
                    column = u[r, h // (H // G)]
                    column = column / (column.square().mean() + 1e-5).sqrt() * p[f"{name}_norm.weight"]
                    turned = column + p[f"{name}_bias"][h, r]
                    turned = rotate(turned, theta[h], halves)
                    if name == "B":
                        k_now[h, r] = turned
                    else:
                        q.append(turned)
                v_now[h, r] = v.view(H, P)[h] * mimo_x[h, r]
                state[h] += (1 - share) * step * alpha * torch.outer(v_before[h, r], k_before[h, r])
                state[h] += share * step * torch.outer(v_now[h, r], k_now[h, r])
            for r in range(R):
                y, gate = state[h] @ q[r] + p["D"][h] * v_now[h, r], silu(z.view(H, P)[h] * mimo_z[h, r])
                if "norm.weight" in p:
                    y = y / (y.square().mean() + 1e-5).sqrt() * p["norm.weight"].view(H, P)[h]
                out[h, r] = y * gate * mimo_o[h, r]
        k_before, v_before = k_now, v_now
        ys.append(p["out_proj.weight"] @ out.sum(1).flatten())
    return torch.stack(ys)


def rotate(u: Tensor, theta: Tensor, halves: bool) -> Tensor:
    """Pair i of u turned by theta[i]: as a complex number times e^{iθ}."""
    u = u.clone()
    for i, angle in enumerate(theta.tolist()):
        a, b = (i, i + len(u) // 2) if halves else (2 * i, 2 * i + 1)
        turned = complex(u[a], u[b]) * complex(math.cos(angle), math.sin(angle))
        u[a], u[b] = turned.real, turned.imag
    return u


@pytest.mark.parametrize("halves", (False, True))
@pytest.mark.parametrize("heavy_tail", (False, True))
@pytest.mark.parametrize(
    "options",
    (
        {},
        {"ngroups": 2, "rope_fraction": 1.0, "is_outproj_norm": True},
        {"is_mimo": True, "mimo_rank": 3},
        {"is_mimo": True, "mimo_rank": 2, "is_outproj_norm": True},
    ),
    ids=("siso", "groups-norm", "mimo", "mimo-norm"),
)
@torch.no_grad()
def test_equals_its_recurrence(options: dict[str, Any], heavy_tail: bool, halves: bool) -> None:
    torch.manual_seed(0)
    names = {
        "A_activation": "heavy_tail" if heavy_tail else "softplus",
        "pairing": "halves" if halves else "interleaved",
    }
    layer = Mamba3(6, d_state=8, headdim=3, dt_min=0.1, dt_max=0.9, **names, **options).double()
    for parameter in layer.parameters():  # away from what is zero, one or equal at initialisation
        parameter.add_(0.3 * torch.randn_like(parameter))
    x = 2 * torch.randn(1, 21, 6, dtype=torch.float64)
    want = recurrence(layer, x[0], halves, heavy_tail)
    assert float((layer(x)[0] - want).abs().max()) <= 1e-12 * float(want.abs().max())


def test_pairings_and_activations_are_those_of_the_checkpoints() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 9, 6)
    for is_mimo, published in ((False, "interleaved"), (True, "halves")):
        layers = [Mamba3(6, 8, headdim=3, is_mimo=is_mimo, pairing=p) for p in (None, "interleaved", "halves")]
        for layer in layers[1:]:
            layer.load_state_dict(layers[0].state_dict())
        same = torch.equal(layers[0](x), layers[1](x))
        assert same == (published == "interleaved")


def test_parameters_have_the_published_names_and_shapes() -> None:
    shapes = {name: tuple(p.shape) for name, p in Mamba3(768).named_parameters()}
    assert shapes == {
        "dt_bias": (24,),
        "B_bias": (24, 1, 128),
        "C_bias": (24, 1, 128),
        "D": (24,),
        "in_proj.weight": (3432, 768),
        "B_norm.weight": (128,),
        "C_norm.weight": (128,),
        "out_proj.weight": (768, 1536),
    }
    mimo = {name: tuple(p.shape) for name, p in Mamba3(64, headdim=16, is_mimo=True).named_parameters()}
    assert mimo["mimo_x"] == mimo["mimo_z"] == mimo["mimo_o"] == (8, 4, 16)
    assert mimo["B_bias"] == (8, 4, 128)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d_state": 7}, "d_state=7 must be even"),
        ({"d_state": 2}, "one pair or more"),
        ({"rope_fraction": 1.5}, "rope_fraction=1.5"),
        ({"headdim": 3}, "headdim=3"),
        ({"A_activation": "heavytail"}, "did you mean 'heavy_tail'"),
        ({"pairing": "half"}, "did you mean 'halves'"),
        ({"mimo_rank": 0}, "mimo_rank=0"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Mamba3(4, **options)


def test_no_rate() -> None:
    with pytest.raises(UnsupportedError, match=r"rate=2\.0: Mamba3"):
        Mamba3(4)(torch.zeros(1, 3, 4), rate=2.0)
