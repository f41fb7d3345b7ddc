"""THE TABLE: every operation with its implementations and shapes. The contract tests read it and state the claims.

The mixers' rows are in mixer_cases.py.
"""

from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pytest
import torch

from longwave.ops import _native
from longwave.testing import make_inputs
from longwave.testing.inputs import Inputs

IMPLEMENTATIONS = {
    "linear_scan": ("reference", "cpu"),
    "diagonal_ssm": ("reference", "cpu"),
    "gated_linear": ("reference", "cpu"),
    "dense_step": ("reference", "cpu"),
    "hodlr_step": ("reference", "cpu"),
    "gated_norm": ("reference", "cpu"),
    "linear": ("reference", "cpu"),
    "cauchy": ("reference", "cpu"),
    "krylov": ("reference", "cpu"),
    "block_tables": ("reference", "cpu"),
    "block_scan": ("reference", "cpu"),
    "vandermonde": ("reference", "cpu"),
    "long_conv": ("reference", "cpu"),
    "selective_scan": ("reference", "cpu"),
    "short_conv": ("reference", "cpu"),
    "wkv": ("reference", "cpu"),
    "ssd": ("reference", "cpu"),
}
NATIVE = (
    "linear_scan",
    "diagonal_ssm",
    "gated_linear",
    "dense_step",
    "hodlr_step",
    "gated_norm",
    "linear",
    "krylov",
    "block_tables",
    "block_scan",
    "cauchy",
    "selective_scan",
    "short_conv",
    "wkv",
    "ssd",
)  # ops whose `cpu` is a compiled kernel, with an instruction set to choose

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True, eq=False)
class Case:
    """Arguments of an operation."""

    id: str
    sizes: dict[str, Any] = field(default_factory=dict)
    ends: tuple[str, ...] = ()  # of "reset" (block_scan: "fresh"), "lengths"; or "seq_idx"; or "around-64"
    options: dict[str, Any] = field(default_factory=dict)
    constant: bool = False  # linear_scan: a does not depend on batch and time
    fixed: tuple[str, ...] = ()  # selective_scan: of "B" and "C", those that do not depend on them

    def inputs(self, op: str, seed: int = 0) -> Inputs:
        tensors, _ = make_inputs(op, seed=seed, **self.sizes)
        batch, time = self.sizes["batch"], self.sizes["time"]
        options = dict(self.options)
        rng = torch.Generator().manual_seed(seed)
        if "reset" in self.ends:
            options["reset"] = torch.rand(batch, time, generator=rng) < 0.1
        if "fresh" in self.ends:
            options["fresh"] = torch.rand(batch, time, generator=rng) < 0.3
        if op == "krylov":
            options["count"] = time
        if op == "block_tables":
            options["span"] = time
        if "lengths" in self.ends:
            options["lengths"] = torch.linspace(0, time, batch).round().long()
        if "seq_idx" in self.ends:  # some six sequences, with padding before, between, inside and after them
            numbers = (torch.rand(batch, time, generator=rng) < 6 / max(time, 1)).cumsum(1)
            options["seq_idx"] = numbers.masked_fill(torch.rand(batch, time, generator=rng) < 0.2, -1)
        if "around-64" in self.ends:  # sequences begin, and rows end, before, at and after the boundary of a chunk
            options["reset"] = torch.arange(time) == torch.tensor([63, 64, 65, *[time] * (batch - 3)])[:, None]
            options["lengths"] = torch.tensor([time, time, time, 63, 64, 65])
        for name in self.fixed:
            tensors[name] = torch.randn(tensors["A"].shape, dtype=tensors["A"].dtype, generator=rng)
        if self.constant:
            tensors["a"] = tensors["a"][0, 0] if time else tensors["a"].new_full(tensors["a"].shape[2:], 0.5)
        return Inputs(tensors, options)


def _sizes(batch: int, time: int, dim: int, modes: int = 1, is_complex: bool = True) -> dict[str, Any]:
    return {"batch": batch, "time": time, "dim": dim, "modes": modes, "is_complex": is_complex}


SOFTPLUS, SILU = {"delta_softplus": True}, {"activation": "silu"}

# A kernel takes blocks of 16 positions, chunks of 256, and vectors of 4 to 16 channels: around each of these.
CASES = {
    "linear_scan": (
        *(Case(f"length-{n}", _sizes(2, n, 3)) for n in (0, 1, 2, 17, 257)),
        *(Case(f"{d}-channels", _sizes(2, 19, d)) for d in (1, 8, 33, 70)),
        Case("real", _sizes(2, 97, 21, is_complex=False)),
        Case("constant", _sizes(3, 97, 11), constant=True),
        Case("constant-real", _sizes(3, 97, 70, is_complex=False), constant=True),
        Case("constant-empty", _sizes(3, 0, 7), constant=True),
        Case("reverse", _sizes(2, 97, 5), options={"reverse": True}),
        Case("reset", _sizes(3, 97, 5), ("reset",)),
        Case("lengths", _sizes(4, 61, 9), ("lengths",)),
        Case("reset-lengths", _sizes(4, 61, 9), ("reset", "lengths"), constant=True),
        Case("reverse-reset-lengths", _sizes(4, 61, 9), ("reset", "lengths"), {"reverse": True}),
    ),
    "diagonal_ssm": (
        *(Case(f"length-{n}", _sizes(2, n, 3, 3)) for n in (0, 1, 2, 15, 16, 17, 255, 256, 257, 523)),
        *(Case(f"{d}-channels", _sizes(2, 37, d, 2)) for d in (1, 4, 8, 16, 33)),
        *(Case(f"{n}-modes", _sizes(2, 37, 3, n)) for n in (1, 5, 32)),
        Case("real", _sizes(2, 291, 7, 5, is_complex=False)),
        Case("one-row", _sizes(1, 300, 5, 2)),
        Case("many-rows", _sizes(19, 40, 2, 2)),
        Case("reset", _sizes(3, 300, 5, 2), ("reset",)),
        Case("lengths", _sizes(4, 300, 5, 2), ("lengths",)),
        Case("reset-lengths", _sizes(4, 300, 5, 2), ("reset", "lengths")),
        Case("reset-lengths-real", _sizes(4, 40, 5, 2, is_complex=False), ("reset", "lengths")),
    ),
    # `time` rows at batch 1, `dim` inputs, `modes` outputs; the kernel refuses 9 to 63 rows, takes fewer one by one, 4
    # outputs at a time, and more in blocks of 192 rows, tiles of 4 or 6, and panels of 4 to 32 outputs.
    "gated_linear": tuple(
        Case(
            f"{rows}-rows-{inputs}-to-{outputs}{'-gelu' * gelu}",
            _sizes(1, rows, inputs, outputs),
            options={"gelu": gelu},
        )
        for rows, inputs, outputs in (
            *((1, 1, 1), (1, 35, 2), (3, 16, 17), (8, 17, 9)),
            *((64, 1, 1), (65, 5, 3), (192, 8, 32), (193, 17, 33), (400, 33, 70)),
        )
        for gelu in (False, True)
    ),
    # `modes` real states; a system for each of `groups`, no time. A kernel takes tasks of 32 rows, tiles of 1 to 8,
    # panels of one or two vectors of 2 to 16 states.
    "dense_step": tuple(
        Case(f"{state}-states-{batch}-by-{dim}-{systems}-systems", {**_sizes(batch, 17, dim, state), "groups": systems})
        for state, batch, dim in (
            *((1, 3, 7), (5, 40, 7), (16, 1, 7), (33, 3, 7)),
            *((64, 40, 1), (5, 1, 1), (16, 40, 7), (64, 3, 7)),
        )
        for systems in sorted({1, dim})
    ),
    # 2^`groups` leaves of 16 `modes` states. A kernel takes tasks of 32 rows, and multiples of 16 states in a leaf.
    "hodlr_step": tuple(
        Case(
            f"{1 << levels}-leaves-of-{leaf}-{batch}-by-{dim}", {**_sizes(batch, 17, dim, leaf // 16), "groups": levels}
        )
        for leaf, levels, batch, dim in (
            *((16, 1, 3, 7), (16, 3, 5, 7), (32, 2, 40, 3)),
            *((64, 1, 1, 1), (16, 2, 1, 33), (48, 1, 2, 16)),
        )
    ),
    # `groups` groups of `dim` channels, which are two at least: of one, nothing but its sign is left. A kernel takes
    # blocks of 32 positions and vectors of 2 to 16 channels.
    "gated_norm": tuple(
        Case(
            f"{rows}-positions-{groups}-of-{size}{'-norm-first' * first}",
            {**_sizes(1, rows, size), "groups": groups},
            options={"group_size": size, "norm_before_gate": first},
        )
        for rows, groups, size in ((0, 1, 3), (1, 1, 2), (17, 3, 5), (33, 2, 16), (65, 1, 37))
        for first in (False, True)
    ),
    # As gated_linear; backward rows are summed over. Below 64 rows four at a time meet four streams of strips of 64
    # outputs; from there on blocks of 128 rows, tiles of 4 or 8, panels of 6 to 48 outputs, 768 terms of a sum at a
    # time, and the smaller of the two matrices is packed first.
    "linear": tuple(
        Case(f"{rows}-rows-{inputs}-to-{outputs}", _sizes(1, rows, inputs, outputs))
        for rows, inputs, outputs in (
            (1, 1, 1),
            (1, 37, 131),
            (2, 16, 64),
            (3, 5, 66),
            (4, 33, 7),
            (7, 48, 65),
            (63, 3, 70),
            (64, 1, 9),
            (65, 5, 3),
            (193, 17, 16),
            (131, 33, 49),
            (64, 48, 97),
            (64, 770, 66),
            (131, 5, 150),
            (70, 770, 6),
            (64, 3, 771),
            (773, 2, 5),
        )
    ),
    # `batch` rows of weights, `time` nodes: the reference takes 512 nodes at a time, a kernel 4 rows, vectors of 2 to 8
    # nodes, and backward blocks of 32 to 128.
    "cauchy": (
        *(Case(f"{n}-nodes", _sizes(4, n, 3, 5)) for n in (0, 1, 2, 17, 129, 513)),
        *(Case(f"{r}-rows", _sizes(r, 41, 2, 3)) for r in (1, 2, 3, 9)),
        *(Case(f"{n}-modes", _sizes(2, 9, 2, n)) for n in (1, 33)),
    ),
    # `time` rows of each; a kernel takes a row's real and imaginary parts in vectors of 2 to 8.
    "krylov": (
        *(Case(f"{n}-powers", _sizes(2, n, 3, 5)) for n in (0, 1, 2, 17, 64)),
        *(Case(f"{n}-modes", _sizes(1, 9, 2, n)) for n in (1, 4, 33)),
        Case("reverse", _sizes(3, 9, 2, 5), options={"reverse": True}),
    ),
    # `time` places; a kernel takes a row's real and imaginary parts in vectors of 2 to 8, and tiles of up to 8 rows.
    "block_tables": (
        *(Case(f"{n}-places", _sizes(1, n, 3, 5)) for n in (1, 2, 17, 64)),
        *(Case(f"{n}-modes", _sizes(1, 9, 2, n)) for n in (1, 4, 33)),
    ),
    # `time` blocks, `modes` real states: 8 channels and 8 rows at a time, 128 blocks of all rows, tiles of up to 8 rows
    # and 2 vectors of 2 to 16.
    "block_scan": (
        *(Case(f"{n}-blocks", _sizes(2, n, 3, 5)) for n in (0, 1, 2, 17, 129)),
        *(Case(f"{n}-states", _sizes(2, 5, 2, n)) for n in (1, 8, 32, 67)),
        *(Case(f"{n}-rows", _sizes(n, 5, 2, 9)) for n in (1, 3, 4, 9)),
        Case("17-channels", _sizes(9, 17, 17, 3)),
        Case("35-places", {**_sizes(2, 1, 2, 5), "span": 35}),
        Case("fresh", _sizes(6, 9, 3, 17), ("fresh",)),
    ),
    "vandermonde": tuple(
        Case(f"length-{n}-{'complex' if c else 'real'}", _sizes(1, n, 3, 5, is_complex=c), options={"length": n})
        for n, c in product((0, 1, 2, 17, 1047), (True, False))
    ),
    "long_conv": tuple(Case(f"length-{n}", _sizes(2, n, 3)) for n in (0, 1, 2, 17, 523)),
    # A kernel takes chunks of 64 positions, tiles of 8 real states, strips of 8 vectors of 2 to 16 channels.
    "selective_scan": (
        *(Case(f"length-{n}", _sizes(2, n, 6, 3, False), options=SOFTPLUS) for n in (0, 1, 2, 17, 65)),
        *(Case(f"{d}-channels", _sizes(1, 19, d, 2, False)) for d in (1, 16, 150)),
        *(Case(f"{n}-states", _sizes(1, 9, 9, n, False), options=SOFTPLUS) for n in (1, 8, 16, 256)),
        Case("groups", {**_sizes(1, 70, 6, 3, False), "groups": 3}, options=SOFTPLUS),
        Case("groups-of-one", {**_sizes(1, 9, 5, 3, False), "groups": 5}),
        Case("complex", _sizes(1, 70, 5, 3), options=SOFTPLUS),
        Case("complex-groups", {**_sizes(1, 19, 34, 5), "groups": 2}, ("seq_idx",)),
        *(
            Case(f"constant-{''.join(names)}-{'complex' if c else 'real'}", _sizes(2, 19, 19, 9, c), ends, fixed=names)
            for names, c, ends in (
                (("B",), False, ("lengths",)),
                (("C",), False, ("seq_idx",)),
                (("B", "C"), False, ("reset",)),
                (("B",), True, ("seq_idx",)),
                (("C",), True, ()),
                (("B", "C"), True, ("lengths",)),
            )
        ),
        Case("constant-B-groups", {**_sizes(1, 67, 6, 2, False), "groups": 2}, fixed=("B",)),
        Case("lengths", _sizes(4, 67, 5, 2, False), ("lengths",), SOFTPLUS),
        Case("reset-lengths", _sizes(3, 70, 5, 2, False), ("reset", "lengths"), SOFTPLUS),
        Case("seq-idx", _sizes(2, 131, 9, 3, False), ("seq_idx",), SOFTPLUS),
        Case("around-64", _sizes(6, 131, 5, 2, False), ("around-64",), SOFTPLUS),
    ),
    # `modes` taps; a kernel knows 4, and takes chunks of 64 positions and strips of 8 vectors of 2 to 16 channels.
    "short_conv": (
        *(Case(f"length-{n}", _sizes(3, n, 9, 4), options=SILU) for n in (0, 1, 2, 17, 65)),
        *(Case(f"{d}-channels", _sizes(1, 19, d, 4)) for d in (1, 16, 150)),
        *(Case(f"{n}-taps", _sizes(2, 19, 9, n), options=SILU) for n in (1, 2, 3, 7)),
        Case("longer-than-the-chunk", _sizes(1, 131, 3, 70), ("seq_idx",)),
        Case("lengths", _sizes(4, 67, 5, 3), ("lengths",), SILU),
        Case("reset-lengths", _sizes(3, 70, 5, 4), ("reset", "lengths")),
        Case("seq-idx", _sizes(2, 131, 5, 4), ("seq_idx",), SILU),
        Case("seq-idx-7-taps", _sizes(2, 70, 5, 7), ("seq_idx",), SILU),
        Case("seq-idx-one-tap", _sizes(2, 19, 5, 1), ("seq_idx",), SILU),
        Case("around-64", _sizes(6, 131, 5, 4), ("around-64",), SILU),
    ),
    # chunks of 64 positions, tasks of one or two vectors of 2 to 16 channels
    "wkv": (
        *(Case(f"length-{n}", _sizes(2, n, 3)) for n in (0, 1, 2, 17, 64, 65)),
        *(Case(f"{d}-channels", _sizes(2, 19, d)) for d in (1, 8, 16, 33, 70)),
        Case("reset", _sizes(3, 97, 5), ("reset",)),
        Case("lengths", _sizes(4, 97, 9), ("lengths",)),
        Case("reset-lengths", _sizes(4, 97, 9), ("reset", "lengths")),
        Case("around-64", _sizes(6, 131, 5), ("around-64",)),
    ),
    # `dim` channels of a head, `modes` columns of its state. A kernel takes chunks of 64, tiles of 4 rows, and up to 4
    # vectors of 2 to 16; smaller chunks put more boundaries into a short sequence.
    "ssd": (
        *(Case(f"length-{n}", _sizes(3, n, 4, 5)) for n in (0, 1, 2, 17)),
        Case("length-67", _sizes(2, 67, 4, 5)),
        *(Case(f"chunk-{n}", {**_sizes(2, 45, 3, 5), "groups": 3}, options={"chunk": n}) for n in (1, 7, 16, 40)),
        *(Case(f"{d}-channels", {**_sizes(2, 19, d, 3), "groups": 3}, options={"chunk": 8}) for d in (1, 8, 33, 70)),
        *(Case(f"{n}-states", _sizes(2, 29, 3, n), options={"chunk": 16}) for n in (1, 16, 33, 128)),
        Case("groups", {**_sizes(2, 37, 5, 6), "groups": 3}, options={"chunk": 16, "dt_softplus": True}),
        Case("limits", _sizes(2, 37, 5, 6), options={"chunk": 16, "dt_softplus": True, "dt_limit": (0.9, 1.5)}),
        Case("reset", {**_sizes(3, 61, 5, 6), "groups": 2}, ("reset",), {"chunk": 16}),
        Case("lengths", {**_sizes(4, 37, 5, 6), "groups": 2}, ("lengths",), {"chunk": 16}),
        Case("reset-lengths", _sizes(4, 37, 5, 6), ("reset", "lengths"), {"chunk": 12}),
        Case("seq_idx", _sizes(3, 61, 5, 6), ("seq_idx",), {"chunk": 16}),
        Case("around-64", _sizes(6, 131, 3, 2), ("around-64",), {"chunk": 16}),
    ),
}


def possible(op: str, case: Case, dtype: torch.dtype) -> bool:
    """Whether there are such arguments: no complex number has 2 × 16 bits, and 16-bit matrices are PyTorch's."""
    if dtype in (torch.float64, torch.float32):
        return True
    is_complex = op in ("cauchy", "krylov", "block_tables") or (
        op in ("linear_scan", "vandermonde", "selective_scan") and case.sizes["is_complex"]
    )
    return op not in ("gated_linear", "dense_step", "hodlr_step", "linear") and not is_complex


def rows(*dtypes: torch.dtype, ops: tuple[str, ...] = tuple(CASES)) -> list[Any]:
    """(op, impl, instruction set, case, dtype): every row of the table, for `pytest.mark.parametrize`."""
    every = []
    for op in ops:
        for impl, case, dtype in product(IMPLEMENTATIONS[op], CASES[op], dtypes):
            if not possible(op, case, dtype):
                continue
            isas = _native.kernels().available() if impl == "cpu" and op in NATIVE and _native.available() else [None]
            for isa in isas:
                name = "-".join(filter(None, (op, impl, isa, case.id, str(dtype).removeprefix("torch."))))
                every.append(pytest.param(op, impl, isa, case, dtype, id=name))
    return every
