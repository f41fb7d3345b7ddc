"""mamba_ssm's scans are loops over positions, their gradients too; states are moved on in place."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from compared import Tensors, assert_same, normal
from torch import Tensor

import oracles
from longwave.compat import selective_scan, ssd, state_update
from longwave.errors import ConfigError, ShapeError

BATCH, DIM, TIME, MODES = 2, 6, 7, 3


def of_scan(kind: str) -> Tensors:
    """Arguments of a selective scan; B and C of a kind."""
    rate, is_complex = torch.exp(normal(DIM, MODES)), kind.startswith("complex")
    length = 2 * TIME if is_complex else TIME
    shapes = {"each": (BATCH, MODES, length), "groups": (BATCH, 2, MODES, length), "constant": (DIM, MODES)}
    shape = shapes[kind.removeprefix("complex ")]
    weights = torch.complex128 if is_complex and len(shape) == 2 else torch.float64
    return {
        "u": normal(BATCH, DIM, TIME),
        "delta": 0.5 * normal(BATCH, DIM, TIME, seed=1),
        "A": torch.complex(-rate, 2 * normal(DIM, MODES, seed=2)) if is_complex else -rate,
        "B": normal(*shape, seed=3, dtype=weights),
        "C": normal(*shape, seed=4, dtype=weights),
        "D": normal(DIM),
        "z": normal(BATCH, DIM, TIME, seed=5),
        "delta_bias": normal(DIM, seed=6),
    }


def weights_of_loop(x: Tensor, A: Tensor) -> Tensor:
    """B or C as the oracle has them."""
    if x.ndim == 2:
        return x
    x = x if x.ndim == 4 else x[:, None]
    x = torch.complex(x[..., ::2], x[..., 1::2]) if A.is_complex() else x
    return x.permute(0, 3, 1, 2)


def loop(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, **more: Tensor) -> tuple[Tensor, Tensor]:
    B, C = weights_of_loop(B, A), weights_of_loop(C, A)
    begin = A.new_zeros(len(u), *A.shape)
    y, final = oracles.selective_scan(
        u.mT, delta.mT, A, B, C, more["D"], more["z"].mT, more["delta_bias"], begin, delta_softplus=True
    )
    return y.mT, final


@pytest.mark.parametrize("kind", ["each", "groups", "constant", "complex each", "complex groups", "complex constant"])
@pytest.mark.parametrize("function", [selective_scan.selective_scan_fn, selective_scan.selective_scan_ref])
def test_the_selective_scan_is_a_loop(function: Any, kind: str) -> None:
    assert_same(lambda **given: function(**given, delta_softplus=True, return_last_state=True), loop, of_scan(kind))


def test_b_and_c_of_different_kinds() -> None:
    given = {**of_scan("each"), "C": of_scan("groups")["C"]}
    expand = {**given, "B": given["B"][:, None].expand(-1, 2, -1, -1)}
    found, expected = (selective_scan.selective_scan_fn(**tensors) for tensors in (given, expand))
    assert torch.equal(found, expected)
    mixed = {**given, "B": of_scan("constant")["B"]}
    assert selective_scan.selective_scan_fn(**mixed).shape == given["u"].shape


def test_states_keep_their_precision() -> None:
    given = {name: tensor.bfloat16() for name, tensor in of_scan("each").items()} | {"A": of_scan("each")["A"].float()}
    y, state = selective_scan.selective_scan_fn(**given, return_last_state=True)
    assert (y.dtype, state.dtype) == (torch.bfloat16, torch.float32)


RANK, WIDTH = 2, 4


def of_layer(modes: int) -> Tensors:
    return {
        "xz": normal(BATCH, 2 * DIM, TIME),
        "conv1d_weight": normal(DIM, 1, WIDTH),
        "conv1d_bias": normal(DIM),
        "x_proj_weight": normal(RANK + 2 * modes, DIM),
        "delta_proj_weight": normal(DIM, RANK),
        "out_proj_weight": normal(5, DIM),
        "out_proj_bias": normal(5),
        "A": -torch.exp(normal(DIM, MODES)),
        "D": normal(DIM, seed=1),
        "delta_bias": normal(DIM, seed=2),
    }


def rms(x: Tensor, weight: Tensor | None) -> Tensor:
    return x if weight is None else x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight


def layer_by_hand(B: Tensor | None = None, C: Tensor | None = None, **given: Tensor) -> Tensor:
    """Loops over positions, and matrices between them."""
    A, state = given["A"], 2 * MODES if given["A"].is_complex() else MODES
    x, z = given["xz"].chunk(2, 1)
    before = x.new_zeros(BATCH, DIM, WIDTH - 1)
    u, _ = oracles.short_conv(x.mT, given["conv1d_weight"][:, 0], given["conv1d_bias"], before, "silu")
    selected = u @ given["x_proj_weight"].T
    delta = rms(selected[..., :RANK] @ given["delta_proj_weight"].T, given.get("dt_rms_weight"))

    def weights(x: Tensor, bias: str, norm: str) -> Tensor:
        x = rms(x + given[bias] if bias in given else x, given.get(norm))
        return x.unflatten(-1, (MODES, -1)).permute(0, 2, 1, 3).flatten(2)  # pairs next to one another

    B = weights(selected[..., RANK : RANK + state], "B_proj_bias", "b_rms_weight") if B is None else B
    C = weights(selected[..., -state:], "C_proj_bias", "c_rms_weight") if C is None else C
    y, _ = loop(u.mT, delta.mT, A, B, C, D=given["D"], z=z, delta_bias=given["delta_bias"])
    return y.mT @ given["out_proj_weight"].T + given["out_proj_bias"]


def test_a_layer_is_its_loops() -> None:
    assert_same(selective_scan.mamba_inner_fn, layer_by_hand, of_layer(MODES))
    given = of_layer(MODES)
    found, ref = selective_scan.mamba_inner_fn(**given), selective_scan.mamba_inner_ref(**given)
    torch.testing.assert_close(found, ref, rtol=0, atol=1e-13)


def test_norms_and_biases_of_a_layer_have_their_gradients() -> None:
    """The original leaves the norms out of the gradient, and fails with a bias of the last projection."""
    more = {"b_rms_weight": normal(MODES), "c_rms_weight": normal(MODES, seed=1), "dt_rms_weight": normal(DIM, seed=3)}
    biases = {"B_proj_bias": normal(MODES, seed=4), "C_proj_bias": normal(MODES, seed=5)}
    assert_same(selective_scan.mamba_inner_fn, layer_by_hand, {**of_layer(MODES), **more, **biases})


def test_a_layer_with_complex_states() -> None:
    A = torch.complex(-torch.exp(normal(DIM, MODES)), 2 * normal(DIM, MODES, seed=2))
    assert_same(selective_scan.mamba_inner_fn, layer_by_hand, {**of_layer(2 * MODES), "A": A})


def test_a_layer_with_given_weights() -> None:
    given = {"B": of_scan("groups")["B"], "C": of_scan("constant")["C"]}
    assert_same(selective_scan.mamba_inner_fn, layer_by_hand, {**of_layer(MODES), **given})


@pytest.mark.parametrize("update", [state_update.selective_state_update, state_update.selective_state_update_ref])
def test_updates_are_the_scan_without_heads(update: Any) -> None:
    given = of_scan("each")
    y, final = selective_scan.selective_scan_fn(**given, delta_softplus=True, return_last_state=True)
    h = torch.zeros(BATCH, DIM, MODES, dtype=torch.float64)
    rows = [
        update(
            h, given["u"][..., t], given["delta"][..., t], given["A"], given["B"][..., t], given["C"][..., t],
            given["D"], given["z"][..., t], given["delta_bias"], True,
        )
        for t in range(TIME)
    ]  # fmt: skip
    torch.testing.assert_close(torch.stack(rows, -1), y, rtol=0, atol=1e-13)
    torch.testing.assert_close(h, final, rtol=0, atol=1e-13)


HEADS, HEADDIM, GROUPS, STATE = 4, 3, 2, 5


def of_ssd(batch: int = BATCH, time: int = TIME) -> Tensors:
    return {
        "x": normal(batch, time, HEADS, HEADDIM),
        "dt": normal(batch, time, HEADS),
        "A": -torch.exp(normal(HEADS)),
        "B": normal(batch, time, GROUPS, STATE),
        "C": normal(batch, time, GROUPS, STATE, seed=1),
        "D": normal(HEADS, HEADDIM),
        "z": normal(batch, time, HEADS, HEADDIM, seed=2),
        "dt_bias": normal(HEADS, seed=3),
        "initial_states": normal(batch, HEADS, HEADDIM, STATE),
    }


def ssd_loop(z: Tensor, initial_states: Tensor, **given: Any) -> tuple[Tensor, Tensor]:
    y, final = oracles.ssd(**given, initial_state=initial_states, dt_softplus=True)
    return y * F.silu(z), final


@pytest.mark.parametrize("limits", [(0.0, math.inf), (0.2, 0.9)])
@pytest.mark.parametrize("packed", [False, True])
def test_the_chunked_scan_is_a_loop(limits: tuple[float, float], packed: bool) -> None:
    seq_idx = torch.tensor([[0, 0, 1, 1, 1, 2, -1], [3, 3, 3, 3, 3, 3, 4]], dtype=torch.int32) if packed else None
    assert_same(
        lambda **given: ssd.mamba_chunk_scan_combined(
            **given, chunk_size=4, seq_idx=seq_idx, dt_softplus=True, dt_limit=limits, return_final_states=True
        ),
        lambda **given: ssd_loop(**given, dt_limit=limits, seq_idx=seq_idx),
        of_ssd(),
    )


def test_states_after_packed_sequences() -> None:
    places, ends = [slice(0, 3), slice(3, 3), slice(3, 7)], torch.tensor([0, 3, 3, 7], dtype=torch.int32)

    def each(initial_states: Tensor, **given: Tensor) -> list[Tensor]:
        shared = {name: given[name] for name in ("A", "D", "dt_bias")}
        outputs, states = [], []
        for place in places:
            before = initial_states if place.start == place.stop == 0 or place.start == 0 else 0 * initial_states
            parts = {name: given[name][:, place] for name in ("x", "dt", "B", "C", "z")}
            y, state = ssd_loop(**parts, **shared, initial_states=before)
            outputs.append(y)
            states.append(state)
        return [torch.cat(outputs, 1), states[-1], torch.cat(states)]

    options: dict[str, Any] = {"chunk_size": 4, "dt_softplus": True, "cu_seqlens": ends}
    assert_same(
        lambda **given: ssd.mamba_chunk_scan_combined(
            **given, **options, return_final_states=True, return_varlen_states=True
        ),
        each,
        of_ssd(1),
    )
    y, varlen = ssd.mamba_chunk_scan_combined(**of_ssd(1), **options, return_varlen_states=True)
    assert (y.ndim, len(varlen)) == (4, 3)
    with pytest.raises(ConfigError, match="needs cu_seqlens"):
        ssd.mamba_chunk_scan_combined(**of_ssd(1), chunk_size=4, return_varlen_states=True)
    for wrong in ([0, 3], [1, 7], [0, 5, 3, 7]):
        options["cu_seqlens"] = torch.tensor(wrong)
        with pytest.raises(ShapeError, match="must rise from 0 to the 7 positions"):
            ssd.mamba_chunk_scan_combined(**of_ssd(1), **options, return_varlen_states=True)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("update", [state_update.selective_state_update, state_update.selective_state_update_ref])
def test_updates_are_the_scan_with_heads(update: Any, tied: bool) -> None:
    given = of_ssd()
    y, final = ssd.mamba_chunk_scan_combined(**given, chunk_size=4, dt_softplus=True, return_final_states=True)
    h = given["initial_states"].clone()
    A = given["A"][:, None, None].expand(-1, HEADDIM, STATE)
    bias = given["dt_bias"][:, None].expand(-1, HEADDIM)
    A, bias = (A, bias) if tied else (A.contiguous(), bias.contiguous())
    dt = given["dt"][..., None].expand(-1, -1, -1, HEADDIM)
    rows = [
        update(h, given["x"][:, t], dt[:, t], A, given["B"][:, t], given["C"][:, t], given["D"], given["z"][:, t], bias,
               True)
        for t in range(TIME)
    ]  # fmt: skip
    torch.testing.assert_close(torch.stack(rows, 1), y, rtol=0, atol=1e-13)
    torch.testing.assert_close(h, final, rtol=0, atol=1e-13)


def test_updates_without_options_and_in_slots() -> None:
    given = of_ssd()
    x, dt, B, C = (given[name][:, 0] for name in ("x", "dt", "B", "C"))
    A, dt = given["A"][:, None, None].expand(-1, HEADDIM, STATE), dt[..., None].expand(-1, -1, HEADDIM).exp()
    states = normal(5, HEADS, HEADDIM, STATE)
    before, slots = states.clone(), torch.tensor([4, -1], dtype=torch.int32)
    y = state_update.selective_state_update(states, x, dt, A, B, C, state_batch_indices=slots)
    alone = before[4:].clone()
    expected = state_update.selective_state_update_ref(alone, x[:1], dt[:1], A, B[:1], C[:1])
    torch.testing.assert_close(y[:1], expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(states[4:], alone, rtol=0, atol=1e-14)
    assert not y[1].any()
    assert torch.equal(states[:4], before[:4])
    narrow = before.bfloat16()
    y = state_update.selective_state_update(narrow[:2], x.float(), dt.float(), A.float(), B.float(), C.float())
    assert (narrow.dtype, y.dtype) == (torch.bfloat16, torch.float32)
    assert not torch.equal(narrow, before.bfloat16())


PAST = 2


def of_mamba2() -> Tensors:
    dim, convolved = HEADS * HEADDIM, HEADS * HEADDIM + 2 * GROUPS * STATE
    return {
        "zxbcdt": normal(BATCH, TIME, 2 * PAST + dim + convolved + HEADS),
        "conv1d_weight": normal(convolved, WIDTH),
        "conv1d_bias": normal(convolved),
        "dt_bias": normal(HEADS, seed=3),
        "A": -torch.exp(normal(HEADS)),
        "D": normal(HEADS),
        "initial_states": normal(BATCH, HEADS, HEADDIM, STATE),
        "outproj_weight": normal(7, PAST + dim),
        "outproj_bias": normal(7),
    }


def mamba2_by_hand(first: bool, **given: Tensor) -> tuple[Tensor, Tensor]:
    dim, convolved = HEADS * HEADDIM, len(given["conv1d_bias"])
    z0, x0, z, xBC, dt = given["zxbcdt"].split([PAST, PAST, dim, convolved, HEADS], -1)
    before = xBC.new_zeros(BATCH, convolved, WIDTH - 1)
    xBC, _ = oracles.short_conv(xBC, given["conv1d_weight"], given["conv1d_bias"], before, "silu")
    x, B, C = xBC.split([dim, GROUPS * STATE, GROUPS * STATE], -1)
    B, C = (v.unflatten(-1, (GROUPS, STATE)) for v in (B, C))
    y, final = oracles.ssd(
        x.unflatten(-1, (HEADS, HEADDIM)), dt, given["A"], B, C, given["D"], given["dt_bias"],
        given["initial_states"], dt_softplus=True, dt_limit=(0.1, 2.0),
    )  # fmt: skip
    y = y.flatten(2)
    if "rmsnorm_weight" in given:
        y = oracles.gated_norm(y, z, given["rmsnorm_weight"], dim // GROUPS, first, 1e-6)
    else:
        y = y * F.silu(z)
    y = torch.cat([F.silu(z0) * x0, y], -1)
    return y @ given["outproj_weight"].T + given["outproj_bias"], final


@pytest.mark.parametrize(("norm", "first"), [(True, False), (True, True), (False, False)])
def test_a_mamba_2_layer_is_its_loops(norm: bool, first: bool) -> None:
    options: dict[str, Any] = {"chunk_size": 4, "dt_limit": (0.1, 2.0), "headdim": HEADDIM, "ngroups": GROUPS}
    assert_same(
        lambda **given: ssd.mamba_split_conv1d_scan_combined(
            **given, **options, return_final_states=True, norm_before_gate=first
        ),
        lambda **given: mamba2_by_hand(first, **given),
        of_mamba2() | ({"rmsnorm_weight": normal(HEADS * HEADDIM, seed=4)} if norm else {}),
    )


def test_the_references_of_mamba_2() -> None:
    given = of_ssd()
    del given["initial_states"]
    whole = ssd.mamba_chunk_scan(**given, chunk_size=4, dt_softplus=True)
    torch.testing.assert_close(
        ssd.ssd_chunk_scan_combined_ref(**given, chunk_size=4, dt_softplus=True), whole, rtol=0, atol=1e-13
    )
    layer = {name: tensor for name, tensor in of_mamba2().items() if not name.startswith(("initial", "outproj"))}
    layer["zxbcdt"] = layer["zxbcdt"][..., 2 * PAST :]
    options: dict[str, Any] = {"chunk_size": 4, "headdim": HEADDIM, "ngroups": GROUPS, "dt_limit": (0.1, 2.0)}
    for more in ({}, {"rmsnorm_weight": normal(HEADS * HEADDIM)}):
        found = ssd.mamba_split_conv1d_scan_combined(**layer, **more, **options)
        expected = ssd.mamba_split_conv1d_scan_ref(**layer, **more, **options)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)


def test_the_papers_listing() -> None:
    given = of_ssd()
    dt = F.softplus(given["dt"])
    B, C = (given[name].repeat_interleave(HEADS // GROUPS, 2) for name in ("B", "C"))
    y, final = ssd.ssd_minimal_discrete(given["x"] * dt[..., None], dt * given["A"], B, C, 4)
    shared = {name: given[name] for name in ("x", "dt", "A", "B", "C")}
    whole, last = ssd.mamba_chunk_scan_combined(**shared, chunk_size=4, dt_softplus=True, return_final_states=True)
    torch.testing.assert_close(y, whole, rtol=0, atol=1e-13)
    torch.testing.assert_close(final, last, rtol=0, atol=1e-13)


def test_dtypes_of_outputs_and_states() -> None:
    given = {name: tensor.bfloat16() for name, tensor in of_ssd().items()}
    given["initial_states"] = given["initial_states"].float()
    y, final = ssd.mamba_chunk_scan_combined(**given, chunk_size=4, return_final_states=True)
    assert (y.dtype, final.dtype) == (torch.bfloat16, torch.bfloat16)
    _, final = ssd.mamba_chunk_scan_combined(**given, chunk_size=4, return_final_states=True, state_dtype=torch.float32)
    assert final.dtype == torch.float32


def test_users_mistakes() -> None:
    given = of_mamba2()
    with pytest.raises(ConfigError, match="headdim must say"):
        ssd.mamba_split_conv1d_scan_combined(**given, chunk_size=4)
    with pytest.raises(ShapeError, match="and an even number that go past the scan"):
        ssd.mamba_split_conv1d_scan_combined(**given, chunk_size=4, headdim=100)
