"""mamba_ssm's Mamba-3 scans are a loop over positions, and what the modules run."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from compared import Tensors, assert_same, normal
from torch import Tensor

from longwave.compat.mamba3 import Mamba3
from longwave.compat.mamba3_scan import mamba3_mimo, mamba3_siso_combined
from longwave.errors import ConfigError

BATCH, TIME, HEADS, DIM, GROUPS, STATE, ANGLES, RANK = 2, 7, 4, 3, 2, 8, 2, 2


def of_scan(batch: int = BATCH, ranks: tuple[int, ...] = ()) -> Tensors:
    return {
        "Q": normal(batch, TIME, *ranks, GROUPS, STATE),
        "K": normal(batch, TIME, *ranks, GROUPS, STATE, seed=1),
        "V": normal(batch, TIME, HEADS, DIM),
        "ADT": -torch.exp(normal(batch, HEADS, TIME)),
        "DT": torch.exp(normal(batch, HEADS, TIME, seed=1)),
        "Trap": normal(batch, HEADS, TIME, seed=2),
        "Q_bias": normal(HEADS, *ranks, STATE),
        "K_bias": normal(HEADS, *ranks, STATE, seed=1),
        "Angles": normal(batch, TIME, HEADS, ANGLES),
        "D": normal(HEADS),
        "Z": normal(batch, TIME, HEADS, DIM, seed=1),
    }


def turned(u: Tensor, theta: Tensor, halves: bool) -> Tensor:
    """The first pairs turned, number by number."""
    y = list(u.unbind(-1))
    for i in range(ANGLES):
        a, b = (i, i + STATE // 2) if halves else (2 * i, 2 * i + 1)
        cos, sin = torch.cos(theta[..., i]), torch.sin(theta[..., i])
        y[a], y[b] = u[..., a] * cos - u[..., b] * sin, u[..., a] * sin + u[..., b] * cos
    return torch.stack(y, -1)


def loop(
    given: Tensors, columns: Tensor, halves: bool, states: tuple[Tensor, ...] | None = None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """y of each column, before its gate, and the states; keys and queries are (batch, time, rank, groups, state)."""
    V, batch = given["V"], len(given["V"])
    dt, decay, share = given["DT"].mT, given["ADT"].mT.exp(), given["Trap"].mT.sigmoid()
    theta, S, k_before, v_before = states or (
        V.new_zeros(batch, HEADS, ANGLES),
        V.new_zeros(batch, HEADS, DIM, STATE),
        V.new_zeros(batch, columns.shape[1], HEADS, STATE),
        V.new_zeros(batch, HEADS, DIM),
    )
    outputs = []
    for t in range(V.shape[1]):
        theta = theta + math.pi * torch.tanh(given["Angles"][:, t]) * dt[:, t, :, None]
        q, k = (
            torch.stack([
                turned(given[name][:, t, r].repeat_interleave(HEADS // GROUPS, 1) + given[f"{name}_bias"][:, r],
                       theta, halves)
                for r in range(columns.shape[1])
            ], 1)
            for name in ("Q", "K")
        )  # fmt: skip
        v = V[:, t]
        beta, gamma = ((1 - share) * dt * decay)[:, t, :, None, None], (share * dt)[:, t, :, None, None]
        S = decay[:, t, :, None, None] * S
        for r in range(columns.shape[1]):
            S = S + beta * (v_before * columns[:, r])[..., None] * k_before[:, r, :, None]
            S = S + gamma * (v * columns[:, r])[..., None] * k[:, r, :, None]
        y = [(S * q[:, r, :, None]).sum(-1) + given["D"][:, None] * v * columns[:, r] for r in range(columns.shape[1])]
        outputs.append(torch.stack(y, 1))
        k_before, v_before = k, v
    return torch.stack(outputs, 1), (theta, S, k_before, v_before)


def one_column(states: tuple[Tensor, ...] | None = None, **given: Tensor) -> list[Tensor]:
    given = given | {name: given[name][:, :, None] for name in ("Q", "K")}
    given = given | {name: given[name][:, None] for name in ("Q_bias", "K_bias")}
    columns = given["V"].new_ones(HEADS, 1, DIM)
    y, (theta, S, k, v) = loop(given, columns, False, states)
    return [y[:, :, 0] * F.silu(given["Z"]), theta.sin(), S, k[:, 0], v]  # angles count up to whole turns


def with_sine(found: tuple[Tensor, ...]) -> list[Tensor]:
    y, angle, *others = found
    return [y, angle.sin(), *others]


def test_one_column_is_a_loop() -> None:
    assert_same(
        lambda **given: with_sine(mamba3_siso_combined(**given, chunk_size=4, return_final_states=True)),
        one_column,
        of_scan(),
    )


def test_it_goes_on_from_its_states() -> None:
    given = of_scan()
    whole = mamba3_siso_combined(**given, return_final_states=True)
    fixed = ("Q_bias", "K_bias", "D")

    def part(begin: int, end: int) -> Tensors:
        time = {name: 2 if name in ("ADT", "DT", "Trap") else 1 for name in given}
        return {name: x if name in fixed else x.narrow(time[name], begin, end - begin) for name, x in given.items()}

    first, *states = mamba3_siso_combined(**part(0, 3), return_final_states=True)
    rest, *last = mamba3_siso_combined(**part(3, TIME), Input_States=tuple(states), return_final_states=True)
    torch.testing.assert_close(torch.cat([first, rest], 1), whole[0], rtol=0, atol=1e-12)
    for found, expected in zip(last, whole[1:], strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_packed_sequences_have_states_of_their_own() -> None:
    given, ends = of_scan(1), torch.tensor([0, 3, 3, TIME], dtype=torch.int32)
    shapes = (HEADS, ANGLES), (HEADS, DIM, STATE), (HEADS, STATE), (HEADS, DIM)
    begun = [normal(3, *shape) for shape in shapes]
    y, *states = mamba3_siso_combined(**given, Input_States=tuple(begun), cu_seqlens=ends, return_final_states=True)
    assert [len(state) for state in states] == [3] * 4
    for row, (begin, end) in enumerate(((0, 3), (3, 3), (3, TIME))):
        if begin == end:
            assert all(torch.equal(state[row], of_row[row]) for state, of_row in zip(states, begun, strict=True))
            continue
        cut = {
            name: x if name in ("Q_bias", "K_bias", "D") else
            x.narrow(2 if name in ("ADT", "DT", "Trap") else 1, begin, end - begin)
            for name, x in given.items()
        }  # fmt: skip
        before = tuple(state[row : row + 1] for state in begun)
        alone, *after = mamba3_siso_combined(**cut, Input_States=before, return_final_states=True)
        torch.testing.assert_close(y[:, begin:end], alone, rtol=0, atol=1e-13)
        for state, expected in zip(states, after, strict=True):
            torch.testing.assert_close(state[row : row + 1], expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("norm", [False, True])
def test_several_columns_are_a_loop(norm: bool) -> None:
    def by_hand(**given: Tensor) -> list[Tensor]:
        y, (theta, S, k, v) = loop(given, given["MIMO_V"], True)
        if norm:
            y = y / (y.square().mean(-1, keepdim=True) + 1e-3).sqrt() * given["outproj_norm_weight"].view(HEADS, DIM)
        y = y * F.silu(given["Z"][:, :, None] * given["MIMO_Z"].movedim(1, 0))
        return [(y * given["MIMO_Out"].movedim(1, 0)).sum(2), theta.sin(), S, k, v]

    options: dict[str, Any] = {"chunk_size": 4, "rotary_dim_divisor": 4, "dtype": torch.float64}
    norms: dict[str, Any] = {"fuse_pregate_headwise_rms_norm": norm, "outproj_norm_eps": 1e-3}
    columns = {name: normal(HEADS, RANK, DIM, seed=i) for i, name in enumerate(("MIMO_V", "MIMO_Z", "MIMO_Out"))}
    weight = {"outproj_norm_weight": normal(HEADS * DIM)} if norm else {}
    assert_same(
        lambda **given: with_sine(mamba3_mimo(**given, **options, **norms, return_state=True)),
        by_hand,
        of_scan(ranks=(RANK,)) | columns | weight,
    )


@pytest.mark.parametrize("rank", [1, 2])
@torch.no_grad()
def test_the_module_is_the_scan_between_its_projections(rank: int) -> None:
    options: dict[str, Any] = {"is_mimo": True, "mimo_rank": rank} if rank > 1 else {}
    torch.manual_seed(0)
    layer = Mamba3(16, d_state=STATE, headdim=8, ngroups=GROUPS, rope_fraction=0.5, **options).double()
    x, keys = normal(2, TIME, 16), rank * GROUPS * STATE
    z, v, K, Q, dt, rate, trap, angles = layer.in_proj(x).split([32, 32, keys, keys, 4, 4, 4, ANGLES], -1)
    groups = rank, GROUPS, STATE
    K, Q = layer.B_norm(K.unflatten(-1, groups)), layer.C_norm(Q.unflatten(-1, groups))
    DT = F.softplus(dt + layer.dt_bias)
    ADT = -torch.where(rate >= 0, 1 + rate, 1 / (1 - rate)).clamp(min=1e-4) * DT
    z, v = (u.unflatten(-1, (4, 8)) for u in (z, v))
    shared = v, ADT.mT, DT.mT, trap.mT
    turns = angles[:, :, None].expand(-1, -1, 4, -1)
    if rank == 1:
        y = mamba3_siso_combined(
            Q[:, :, 0], K[:, :, 0], *shared, layer.C_bias[:, 0], layer.B_bias[:, 0], turns, layer.D, z
        )
    else:
        columns = layer.mimo_x, layer.mimo_z, layer.mimo_o
        y = mamba3_mimo(
            Q, K, *shared, layer.C_bias, layer.B_bias, *columns, turns, layer.D, z, 64, 4, torch.float64
        )  # fmt: skip
    torch.testing.assert_close(layer.out_proj(y.flatten(2)), layer(x), rtol=0, atol=1e-13)


def test_users_mistakes() -> None:
    given = of_scan(ranks=(RANK,)) | {"MIMO_V": normal(HEADS, RANK, DIM)}
    options: dict[str, Any] = {"chunk_size": 4, "dtype": torch.float64, "MIMO_Out": None, "MIMO_Z": None}
    with pytest.raises(ConfigError, match="Z needs MIMO_Z"):
        mamba3_mimo(**given, **options, rotary_dim_divisor=4)
    given["Z"] = None  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match=r"rotary_dim_divisor=2 makes 4 angles of 8 coordinates, but Angles has 2"):
        mamba3_mimo(**given, **options, rotary_dim_divisor=2)
    assert mamba3_mimo(**given, **options, rotary_dim_divisor=4).shape == (BATCH, TIME, RANK, HEADS, DIM)
