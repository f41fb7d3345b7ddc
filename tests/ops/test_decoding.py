"""One position written into the state where it lies: what a plain loop over one position gives."""

import math
import os
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

import oracles
from longwave.ops import _decoding, _native
from longwave.ops._decoding import OneCall, Options, Weights
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


class Sizes(NamedTuple):
    """Of a mixer: of Mamba-2 where there is no rank."""

    d_model: int
    d_out: int
    heads: int
    groups: int
    dim: int  # of a head
    modes: int
    width: int
    rank: int


MIXERS = (
    Sizes(3, 2, 1, 1, 1, 1, 1, 1),
    Sizes(5, 7, 1, 1, 67, 5, 4, 3),
    Sizes(33, 70, 1, 1, 40, 16, 3, 17),
    Sizes(4, 3, 1, 1, 2, 1, 1, 0),
    Sizes(19, 66, 6, 3, 11, 18, 4, 0),
    Sizes(34, 5, 4, 2, 16, 8, 2, 0),
)
OPTIONAL_WEIGHTS = ("in_bias", "taps_bias", "dt_bias", "norm", "out_bias")
Moving = tuple[Tensor, Tensor, Tensor]  # x, window, h


def weights_of(sizes: Sizes, without: tuple[str, ...], seed: int) -> Weights:
    d_model, d_out, heads, groups, dim, modes, width, rank = sizes
    inner, shared = heads * dim, 2 * groups * modes
    made, channels = (2 * inner, inner) if rank else (2 * inner + shared + heads, inner + shared)
    shapes = {
        "in_proj": (made, d_model), "in_bias": (made,), "taps": (channels, width), "taps_bias": (channels,),
        "x_proj": (rank + shared, inner), "dt_proj": (inner, rank), "dt_bias": (inner if rank else heads,),
        "A": (inner, modes) if rank else (heads,), "D": (inner,), "norm": (inner,), "out_proj": (d_out, inner),
        "out_bias": (d_out,),
    }  # fmt: skip
    without = (*without, "norm") if rank else (*without, "x_proj", "dt_proj")
    weights: Position = dict.fromkeys(shapes)
    for i, (name, shape) in enumerate(shapes.items()):
        if name not in without:
            weights[name] = normal(*shape, seed=seed + i) / math.sqrt(1 if len(shape) == 1 else shape[-1])
    return Weights(**weights | {"A": -weights["A"].exp()})


def moving_of(sizes: Sizes, weights: Weights, batch: int, seed: int) -> Moving:
    shape = (sizes.heads * sizes.dim,) if sizes.rank else (sizes.heads, sizes.dim)
    windows, states = (batch, *weights.taps.shape), (batch, *shape, sizes.modes)
    return normal(batch, 1, sizes.d_model, seed=seed), normal(*windows, seed=seed + 1), normal(*states, seed=seed + 2)


def options_of(sizes: Sizes, norm_first: bool) -> Options:
    """A step of Mamba-2 has limits."""
    if sizes.rank:
        return Options(sizes.modes)
    norm_size = sizes.heads * sizes.dim // sizes.groups
    return Options(sizes.modes, sizes.heads, sizes.groups, norm_size, norm_first, (0.3, 1.1), 1e-5)


def composed(options: Options, weights: Weights, moving: Moving) -> Moving:
    """y, the window and h after one position: the loops of the operations, one after the other."""
    w, (x, window, h), dim = weights, moving, len(weights.D) // options.heads

    def bias(v: Tensor | None, size: int) -> Tensor:
        return x.new_zeros(size) if v is None else v

    made = oracles.linear(x, w.in_proj, bias(w.in_bias, len(w.in_proj)))
    if w.dt_proj is None:
        z, enters, dt = made.split([len(w.D), len(w.taps), options.heads], -1)
    else:
        enters, z, dt = *made.chunk(2, -1), x  # dt comes later
    after = torch.cat([window[..., 1:], enters.mT], -1)
    u, _ = oracles.short_conv(enters, w.taps, bias(w.taps_bias, len(w.taps)), window[..., 1:], activation="silu")
    shared = [options.groups * options.modes] * 2
    if w.x_proj is None or w.dt_proj is None:
        (u, B, C), A = u.split([len(w.D), *shared], -1), w.A.repeat_interleave(dim)[:, None].expand(-1, options.modes)
        dt = (dt + bias(w.dt_bias, options.heads)).repeat_interleave(dim, -1)
    else:
        rank = w.dt_proj.shape[1]
        delta, B, C = oracles.linear(u, w.x_proj, x.new_zeros(1)).split([rank, *shared], -1)
        A, dt = w.A, oracles.linear(delta, w.dt_proj, bias(w.dt_bias, len(w.D)))
    dt, none = F.softplus(dt).clamp(*options.dt_limit), torch.zeros_like(w.D)
    B, C = (v.unflatten(-1, (options.groups, -1)) for v in (B, C))
    ungated = torch.full_like(u, 40)  # silu(40) is 40
    y, final = oracles.selective_scan(u, dt, A, B, C, w.D, ungated, none, h.reshape(len(h), -1, options.modes))
    if w.norm is None:
        y = y / 40 * F.silu(z)
    else:
        y = oracles.gated_norm(y / 40, z, w.norm, options.norm_size, options.norm_first, options.eps)
    return oracles.linear(y, w.out_proj, bias(w.out_bias, len(w.out_proj))), after, final.view(h.shape)


def cast(weights: Weights, moving: Moving, dtype: torch.dtype) -> tuple[Weights, Moving]:
    """Copies in a precision, for a kernel to write to."""
    x, window, h = (v.to(dtype, copy=True) for v in moving)
    narrow = {name: v.to(dtype) for name, v in weights._asdict().items() if v is not None}
    return weights._replace(**narrow), (x, window, h)


def assert_one_call_is_the_loops(
    sizes: Sizes, without: tuple[str, ...], norm_first: bool, batch: int, dtype: torch.dtype, luck: int = 1
) -> None:
    """The budget is the loops' own error in float32, the worst of three draws."""
    options, allowed = options_of(sizes, norm_first), [0.0] * 3
    for seed in (200, 100, 0):
        weights = weights_of(sizes, without, seed)
        single = cast(weights, moving_of(sizes, weights, batch, seed + 50), torch.float32)
        truth, found = composed(options, *cast(*single, torch.float64)), composed(options, *single)
        allowed = [max(a, error_budget(t, f)) for a, t, f in zip(allowed, truth, found, strict=True)]
    weights, moving = cast(*single, dtype)
    mixer = OneCall.of(weights, options)
    with torch.no_grad():
        assert mixer is not None
        assert mixer.takes(*moving)
        y = mixer.step(*moving)
    for name, value, want, budget in zip(("y", "window", "h"), (y, *moving[1:]), truth, allowed, strict=True):
        assert_matches(value, want, luck * scale(dtype) * budget, name)


@ISAS
@DTYPES
@pytest.mark.parametrize("batch", (1, 3))
@pytest.mark.parametrize("sizes", MIXERS)
@pytest.mark.parametrize("without", ((), OPTIONAL_WEIGHTS))
def test_a_mixer_goes_on_as_its_parts(
    sizes: Sizes, without: tuple[str, ...], batch: int, dtype: torch.dtype, native_isa: str
) -> None:
    assert_one_call_is_the_loops(sizes, without, False, batch, dtype)


@pytest.mark.parametrize("batch", (2, 65))
def test_a_mixers_norm_may_come_first_and_rows_be_many(batch: int) -> None:
    assert_one_call_is_the_loops(MIXERS[4], ("in_bias",), True, batch, torch.float32)


@settings(max_examples=int(os.environ.get("LONGWAVE_EXAMPLES", "5")), deadline=None, database=None, derandomize=True)
@drawn(data=st.data())
def test_a_drawn_mixer_goes_on_as_its_parts(data: st.DataObject) -> None:
    """As in test_drawn.py, a budget may be lucky in one of many."""
    of_mamba, small = data.draw(st.booleans()), st.integers(1, 20)
    groups = 1 if of_mamba else data.draw(st.integers(1, 3))
    heads = 1 if of_mamba else groups * data.draw(st.integers(1, 3))
    dim = data.draw(st.integers(2, 70 if of_mamba else 20))  # of a norm over one channel nothing but its sign is left
    modes, width, rank = data.draw(small), data.draw(st.integers(1, 5)), data.draw(small) if of_mamba else 0
    sizes = Sizes(data.draw(small), data.draw(small), heads, groups, dim, modes, width, rank)
    without = tuple(name for name in OPTIONAL_WEIGHTS if data.draw(st.booleans()))
    before = _native.kernels().active()
    _native.kernels().use(data.draw(st.sampled_from(AVAILABLE)))
    try:
        dtype = data.draw(st.sampled_from((torch.float32, torch.float64)))
        assert_one_call_is_the_loops(sizes, without, data.draw(st.booleans()), data.draw(st.integers(1, 4)), dtype, 4)
    finally:
        _native.kernels().use(before)


@pytest.mark.parametrize("sizes", (Sizes(200, 130, 1, 1, 300, 16, 4, 30), Sizes(200, 130, 6, 2, 50, 64, 4, 0)))
def test_a_mixer_does_not_depend_on_the_threads(sizes: Sizes) -> None:
    weights, before, results = weights_of(sizes, (), 0), torch.get_num_threads(), []
    mixer = OneCall.of(weights, options_of(sizes, False))
    assert mixer is not None
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            moving = moving_of(sizes, weights, 3, seed=0)
            with torch.no_grad():
                results.append((mixer.step(*moving), *moving[1:]))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


def test_a_mixer_takes_what_lies_as_the_kernel_reads_it() -> None:
    sizes = MIXERS[4]
    weights, options = weights_of(sizes, (), 0), options_of(sizes, False)
    mixer, (x, window, h) = OneCall.of(weights, options), moving_of(sizes, weights, 2, seed=0)
    assert mixer is not None
    assert not mixer.takes(x, window, h)  # gradients are recorded
    with torch.no_grad():
        assert mixer.takes(x, window, h)
        for other in ((x.float(), window, h), (x, window, h.float()), (x[:1], window, h), (x, window[:, 1:], h)):
            assert not mixer.takes(*other)
        assert not mixer.takes(x.expand(2, 3, -1), window, h)
        assert not mixer.takes(x, window, h.mT.contiguous().mT)
        assert not mixer.takes(*(v.to("meta") for v in (x, window, h)))


@pytest.mark.parametrize(
    "other",
    (
        {"in_proj": torch.zeros(5, 19)},
        {"in_bias": torch.zeros(3, dtype=torch.float64)},
        {"D": torch.zeros(66)},  # of another precision
        {"norm": torch.zeros(132, dtype=torch.float64)[::2]},
        {"out_proj": torch.zeros(66, 66, dtype=torch.float64, device="meta")},
    ),
)
def test_weights_of_another_make_are_no_mixers(other: dict[str, Tensor]) -> None:
    sizes = MIXERS[4]
    assert OneCall.of(weights_of(sizes, (), 0)._replace(**other), options_of(sizes, False)) is None
    half, _ = cast(weights_of(sizes, (), 0), moving_of(sizes, weights_of(sizes, (), 0), 1, 0), torch.bfloat16)
    assert OneCall.of(half, options_of(sizes, False)) is None


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
