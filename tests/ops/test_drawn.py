"""The native kernels on drawn shapes, layouts, values and instruction sets.

``make sanitize`` runs this file, with many more examples, and the table's rows, with kernels compiled for the address
and undefined-behaviour sanitizers, which stop at the first access outside a tensor.
"""

import os
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_contract import RECURRENCES, call, expected, gradients, rounded
from torch import Tensor

from cases import NATIVE, Case
from longwave.ops import _native
from longwave.testing import assert_matches

# Budgets are twice the error of a plain loop, which may be lucky in one of many drawn cases. How exact the kernels are
# is what the table's rows claim; here it is that they find their numbers.
LUCK = 4
EXAMPLES = int(os.environ.get("LONGWAVE_EXAMPLES", "5"))
ENDS = {**dict.fromkeys(RECURRENCES, ("reset", "lengths")), "block_scan": ("fresh",)}
NUMBERED = ("selective_scan", "short_conv", "ssd")  # whose oracles take `seq_idx`
GROUPED = ("selective_scan", "ssd")
OPTIONS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "linear_scan": {"reverse": st.booleans()},
    "krylov": {"reverse": st.booleans()},
    "gated_linear": {"gelu": st.booleans()},
    "gated_norm": {"norm_before_gate": st.booleans()},
    "selective_scan": {"delta_softplus": st.booleans()},
    "short_conv": {"activation": st.sampled_from((None, "silu"))},
    "ssd": {"dt_softplus": st.booleans(), "chunk": st.integers(1, 64)},
}


@st.composite
def cases(draw: st.DrawFn, op: str) -> Case:
    """Arguments of an operation; the table has the long sequences."""
    sizes: dict[str, Any] = {
        "batch": draw(st.integers(1, 6)),
        "time": draw(st.integers(0, 40)),
        "dim": draw(st.integers(1, 20)),
        "modes": draw(st.integers(1, 9)),
        "is_complex": draw(st.booleans()),
    }
    if op == "gated_linear":
        sizes |= {"batch": 1, "time": sizes["time"] + 64 * (sizes["time"] > 8)}  # the kernel refuses those between
    if op == "dense_step":
        sizes["groups"] = draw(st.sampled_from((1, sizes["dim"])))
    if op == "hodlr_step":
        sizes |= {"groups": draw(st.integers(1, 3)), "modes": draw(st.integers(1, 2))}
    if op == "gated_norm":
        sizes["dim"] += 1  # of a group of one channel nothing but its sign is left
    if op == "linear":
        sizes |= {"batch": 1, "time": 1 + sizes["time"] + draw(st.sampled_from((0, 64)))}  # few rows and many
    if op == "block_tables":
        sizes["time"] += 1  # no block is empty
    if op in (*NUMBERED, "wkv"):
        sizes["time"] += draw(st.sampled_from((0, 30)))  # their chunks are of 64 positions
    if op in GROUPED:
        sizes["groups"] = draw(st.integers(1, 3))
    if op == "selective_scan":
        sizes["dim"] *= sizes["groups"]
    ends = tuple(end for end in ENDS.get(op, ()) if draw(st.booleans()))
    if op in NUMBERED and draw(st.booleans()):
        ends = ("seq_idx",)
    options = {name: draw(values) for name, values in OPTIONS.get(op, {}).items()}
    fixed = tuple(name for name in "BC" if op == "selective_scan" and draw(st.booleans()))
    return Case("drawn", sizes, ends, options, fixed=fixed)


@st.composite
def layouts(draw: st.DrawFn, axes: int) -> tuple[tuple[int, ...], int, int]:
    """An order of the axes in memory, a step along the last of them, and an offset."""
    return tuple(draw(st.permutations(range(axes)))), draw(st.integers(1, 3)), draw(st.integers(0, 2))


def laid_out(x: Tensor, layout: tuple[tuple[int, ...], int, int]) -> Tensor:
    """The same numbers in that layout, with NaN wherever no element lies."""
    order, step, offset = layout
    shape = [x.shape[axis] for axis in order]
    shape[-1] *= step
    memory = torch.full((offset + torch.Size(shape).numel(),), float("nan"), dtype=x.dtype)
    view = memory[offset:].view(shape)[..., ::step].permute(*(order.index(axis) for axis in range(x.ndim)))
    view.copy_(x)
    return view


@pytest.mark.skipif(not _native.available(), reason="the native kernels are not there")
@pytest.mark.parametrize("op", NATIVE)
@settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize=True)
@given(data=st.data())
def test_drawn_arguments(op: str, data: st.DataObject) -> None:
    case, dtype = data.draw(cases(op)), data.draw(st.sampled_from((torch.float32, torch.float64)))
    inputs = case.inputs(op)
    exact = expected(op, case, dtype)
    leaves = {
        name: laid_out(x, data.draw(layouts(x.ndim))).requires_grad_()
        for name, x in rounded(op, inputs.tensors, dtype).items()
    }
    before = _native.kernels().active()
    _native.kernels().use(data.draw(st.sampled_from(_native.kernels().available())))
    try:
        out = call(op, leaves, inputs.options, impl="cpu")
        actual = (*out, *gradients(out, leaves))
    finally:
        _native.kernels().use(before)
    for (name, truth, budget), value in zip(exact, actual, strict=True):
        assert_matches(value, truth, LUCK * budget, name)
