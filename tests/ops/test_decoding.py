"""One position written into the state where it lies: what a plain loop over one position gives."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import oracles
from longwave.ops import _decoding, _native
from longwave.testing import assert_matches, error_budget

pytestmark = pytest.mark.skipif(not _native.available(), reason="no native kernels")
AVAILABLE = _native.kernels().available() if _native.available() else []
ISAS = pytest.mark.parametrize("native_isa", AVAILABLE, indirect=True)
DTYPES = pytest.mark.parametrize("dtype", (torch.float32, torch.float64))

# batch, heads, groups, dim, modes: tasks of 64 channels, vectors of 2 to 16 states
SIZES = ((1, 1, 1, 1, 1), (2, 4, 2, 3, 5), (1, 2, 1, 37, 16), (3, 3, 3, 23, 33), (2, 1, 1, 64, 17))
Position = dict[str, Any]  # arguments of `advance`, those of OPTIONAL perhaps None
OPTIONAL = ("D", "z", "dt_bias")


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def position(sizes: tuple[int, ...], per_head: bool) -> Position:
    batch, heads, groups, dim, modes = sizes
    own, states = (1, 1) if per_head else (dim, modes)
    return {
        "h": normal(batch, heads, dim, modes, seed=0),
        "u": normal(batch, heads, dim, seed=1),
        "dt": normal(batch, heads, own, seed=2),
        "A": -normal(heads, own, states, seed=3).exp(),
        "B": normal(batch, groups, modes, seed=4),
        "C": normal(batch, groups, modes, seed=5),
        "D": normal(heads, dim, seed=6),
        "z": normal(batch, heads, dim, seed=7),
        "dt_bias": normal(heads, own, seed=8),
    }


def loop(given: Position, softplus: bool) -> tuple[Tensor, Tensor]:
    """y and h by the loop; without a gate its own is 1."""
    h, u = given["h"], given["u"]
    batch, heads, dim, modes = h.shape

    def channels(name: str, *shape: int) -> Tensor:
        v = given[name]
        return h.new_zeros(shape) if v is None else v.expand(shape).reshape(shape)

    bias = channels("dt_bias", heads, dim).flatten()
    y, after = oracles.selective_scan(
        u.reshape(batch, 1, -1),
        channels("dt", batch, heads, dim).reshape(batch, 1, -1),
        channels("A", heads, dim, modes).flatten(0, 1),
        given["B"][:, None],
        given["C"][:, None],
        channels("D", heads, dim).flatten(),
        torch.full_like(u.reshape(batch, 1, -1), 40),  # silu(40) is 40
        bias,
        h.flatten(1, 2),
        delta_softplus=softplus,
    )
    y = y.view(u.shape) / 40
    return y if given["z"] is None else y * F.silu(given["z"]), after.view(h.shape)


def narrowed(given: Position, dtype: torch.dtype) -> Position:
    return {name: None if v is None else v.to(dtype) for name, v in given.items()}


def scale(dtype: torch.dtype) -> float:
    """From float32's error to this dtype's; in float64 the truth has one too."""
    return 1 if dtype == torch.float32 else 2 * torch.finfo(dtype).eps / torch.finfo(torch.float32).eps


def budget(given: Position, dtype: torch.dtype, output: int) -> float:
    """Of an output, from the loop's own error in float32, as in test_contract.py."""
    single = narrowed(given, torch.float32)
    truth, same = loop(narrowed(single, torch.float64), True)[output], loop(single, True)[output]
    return error_budget(truth, same) * scale(dtype)


@ISAS
@DTYPES
@pytest.mark.parametrize("per_head", (False, True))
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("without", ((), OPTIONAL))
def test_a_state_goes_on_as_in_a_loop(
    sizes: tuple[int, ...], per_head: bool, without: tuple[str, ...], dtype: torch.dtype, native_isa: str
) -> None:
    given = narrowed(position(sizes, per_head) | dict.fromkeys(without), dtype)
    want = loop(narrowed(given, torch.float64), True)
    allowed = [budget(given, dtype, output) for output in (0, 1)]
    with torch.no_grad():
        assert _decoding.takes(*given.values())
        y = _decoding.advance(*given.values(), dt_softplus=True, dt_limit=None)
    assert_matches(y, want[0], allowed[0], "y")
    assert_matches(given["h"], want[1], allowed[1], "h")


@ISAS
@pytest.mark.parametrize("softplus", (False, True))
def test_steps_keep_their_limits(softplus: bool, native_isa: str) -> None:
    given = position(SIZES[1], per_head=True)
    dt = given["dt"] + given["dt_bias"]
    dt = (F.softplus(dt) if softplus else dt).clamp(0.2, 0.9)
    want = loop({**given, "dt": dt, "dt_bias": None}, False)
    with torch.no_grad():
        y = _decoding.advance(*given.values(), dt_softplus=softplus, dt_limit=(0.2, 0.9))
    torch.testing.assert_close(y, want[0], rtol=0, atol=1e-13)
    torch.testing.assert_close(given["h"], want[1], rtol=0, atol=1e-13)


@ISAS
@DTYPES
@pytest.mark.parametrize("silu", (False, True))
@pytest.mark.parametrize(("batch", "dim", "width"), ((1, 1, 1), (2, 5, 4), (3, 43, 3), (1, 129, 2)))
def test_a_window_slides_as_in_a_loop(
    batch: int, dim: int, width: int, silu: bool, dtype: torch.dtype, native_isa: str
) -> None:
    window, x = normal(batch, dim, width, seed=0).to(dtype), normal(batch, dim, seed=1).to(dtype)
    weight, bias = normal(dim, width, seed=2).to(dtype), normal(dim, seed=3).to(dtype)
    before = window.clone()

    def want(precision: torch.dtype, bias: Tensor | None) -> Tensor:
        own = torch.zeros(dim) if bias is None else bias
        wide = [v.to(precision) for v in (x[:, None], weight, own, before[..., 1:])]
        return oracles.short_conv(*wide, activation="silu" if silu else None)[0][:, 0]

    for c in (bias, None):
        window.copy_(before)
        with torch.no_grad():
            y = _decoding.slide(window, x, weight, c, silu)
        single = error_budget(want(torch.float64, c), want(torch.float32, c))
        assert_matches(y, want(torch.float64, c), scale(dtype) * single, "y")
        assert torch.equal(window, torch.cat([before[..., 1:], x[..., None]], -1))


def test_results_do_not_depend_on_the_threads() -> None:
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            given = position((3, 5, 5, 130, 16), per_head=False)
            with torch.no_grad():
                results.append((_decoding.advance(*given.values(), dt_softplus=True, dt_limit=None), given["h"]))
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, *results))


def test_what_takes_part_in_more_than_a_step_is_left_to_torch() -> None:
    state = torch.zeros(1, 2, 3, 4)
    assert not _decoding.takes(state)  # gradients are recorded
    with torch.no_grad():
        assert _decoding.takes(state)
        assert not _decoding.takes(state.mT)
        assert not _decoding.takes(state.bfloat16())
        assert not _decoding.takes(state.to("meta"))
