"""What every operation claims, for every row of the table."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import oracles
from cases import CASES, DTYPES, IMPLEMENTATIONS, NATIVE, Case, possible, rows
from longwave import ops
from longwave.errors import UnsupportedError
from longwave.testing import assert_matches, error_budget

every_row = pytest.mark.parametrize(
    ("op", "impl", "native_isa", "case", "dtype"), rows(*DTYPES), indirect=["native_isa"]
)
RECURRENCES = ("linear_scan", "diagonal_ssm", "selective_scan", "short_conv", "ssd", "wkv")
REAL_OF_COMPLEX = ("vandermonde", "block_tables")  # whose results are real, in the precision of the last argument


def rounded(op: str, tensors: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Arguments of one precision; in 16 bits only the sequences are, the system and the state stay float32."""
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    sequences = {
        "linear_scan": ("a", "b"),
        "diagonal_ssm": ("u",),
        "long_conv": ("u", "k"),
        "gated_linear": ("x", "weight", "bias"),
        "dense_step": ("x", "u", "A", "B", "C", "D"),
        "hodlr_step": ("x", "u", "near", "gather", "spread", "B", "C", "D"),
        "linear": ("x", "weight", "bias"),
        "gated_norm": ("x", "z"),
        "block_scan": ("u",),
        "selective_scan": ("u", "delta", "z", "B", "C"),
        "short_conv": ("x",),
        "wkv": ("k", "v"),
        "ssd": ("x", "dt", "B", "C"),
    }.get(op, ())

    def cast(name: str, x: Tensor) -> Tensor:
        if x.is_complex():
            return x.to(torch.complex128 if dtype == torch.float64 else torch.complex64)
        return x.to(dtype if name in sequences else compute)

    return {name: cast(name, x) for name, x in tensors.items()}


def call(op: str, tensors: dict[str, Tensor], options: dict[str, Any], **how: Any) -> tuple[Tensor, ...]:
    if op == "diagonal_ssm":
        u, *system = tensors.values()
        return tuple(ops.diagonal_ssm(u, None, *system, **options, **how))
    return tuple(getattr(ops, op)(*tensors.values(), **options, **how))


def oracle(op: str, tensors: dict[str, Tensor], options: dict[str, Any], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The plain algorithm in `dtype`, which may be wider than the arguments."""
    wide = {
        n: x.to(torch.promote_types(dtype, torch.complex32) if x.is_complex() else dtype) for n, x in tensors.items()
    }
    out = getattr(oracles, op)(**wide, **options)
    return out if isinstance(out, tuple) else (out,)


def gradients(outputs: Sequence[Tensor], tensors: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """Of one fixed functional of all outputs; its small integer weights are exact in every precision."""
    rng = torch.Generator().manual_seed(1)
    total = torch.zeros((), dtype=torch.float64)
    for out in outputs:
        weight = torch.randint(-3, 4, (*out.shape, 2), generator=rng).to(torch.float64)
        parts = torch.view_as_real(out) if out.is_complex() else out[..., None]
        total = total + (parts.to(torch.float64) * weight[..., : parts.shape[-1]]).sum()
    grads = torch.autograd.grad(total, list(tensors.values()), allow_unused=True)
    return tuple(torch.zeros_like(x) if g is None else g for g, x in zip(grads, tensors.values(), strict=True))


SEEDS = 3  # draws of the arguments over which the plain algorithm's error is measured


@cache
def plain(op: str, case: Case, dtype: torch.dtype, seed: int) -> list[tuple[str, Tensor, Tensor]]:
    """(name, exact value, plain algorithm's value in at least float32) of every output and gradient."""
    inputs = case.inputs(op, seed)
    arguments = rounded(op, inputs.tensors, dtype)

    def results(precision: torch.dtype) -> list[Tensor]:
        leaves = {n: x.to(torch.promote_types(x.dtype, precision)).requires_grad_() for n, x in arguments.items()}
        out = oracle(op, leaves, inputs.options, precision)
        return [x.detach() for x in (*out, *gradients(out, leaves))]

    outputs = call(op, arguments, inputs.options, impl="reference")
    names = [*(f"output {i}" for i in range(len(outputs))), *(f"gradient of {n}" for n in arguments)]
    values = results(torch.promote_types(dtype, torch.float32))
    kinds = [x.dtype for x in (*outputs, *arguments.values())]  # what is returned is rounded to these
    return [(n, t, v.to(k)) for n, t, v, k in zip(names, results(torch.float64), values, kinds, strict=True)]


@cache
def expected(op: str, case: Case, dtype: torch.dtype) -> list[tuple[str, Tensor, float]]:
    """(name, exact value, error budget) of every output and gradient, for arguments rounded to `dtype`.

    There is no plain algorithm in more than float64: the budget there is that of float32, scaled by the ratio of the
    precisions, once for the implementation and once for the "truth", which is the plain algorithm in float64.
    """
    ratio = 1.0
    measured = dtype
    if dtype == torch.float64:
        measured, ratio = torch.float32, 2 * torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps
    worst = [
        max(error_budget(t, v) / max(float(t.abs().max()), 1e-30) if t.numel() else 0 for _, t, v in draws)
        for draws in zip(*(plain(op, case, measured, seed) for seed in range(SEEDS)), strict=True)
    ]
    exact = plain(op, case, dtype, 0)
    scales = [float(t.abs().max()) if t.numel() else 0 for _, t, _ in exact]
    return [(n, t, ratio * w * scale) for (n, t, _), w, scale in zip(exact, worst, scales, strict=True)]


@every_row
def test_outputs_and_gradients_are_exact(
    op: str, impl: str, native_isa: str | None, case: Case, dtype: torch.dtype
) -> None:
    inputs = case.inputs(op)
    leaves = {n: x.requires_grad_() for n, x in rounded(op, inputs.tensors, dtype).items()}
    out = call(op, leaves, inputs.options, impl=impl)
    for (name, truth, budget), actual in zip(expected(op, case, dtype), (*out, *gradients(out, leaves)), strict=True):
        assert_matches(actual, truth, budget, name)


@pytest.mark.parametrize("op", CASES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes_of_the_results(op: str, dtype: torch.dtype) -> None:
    case = next(c for c in CASES[op] if c.sizes["time"] in (17, 193))
    if not possible(op, case, dtype):
        if op in ("cauchy", "krylov", "block_tables"):
            return  # complex always
        case = Case("real", {**case.sizes, "is_complex": False}, options=case.options)
    inputs = case.inputs(op)
    tensors = rounded(op, inputs.tensors, dtype)
    out = call(op, tensors, inputs.options)
    kind = next(reversed(tensors.values()) if op in REAL_OF_COMPLEX else iter(tensors.values())).dtype
    assert out[0].dtype == (kind.to_real() if op in REAL_OF_COMPLEX else kind)
    if op in RECURRENCES:
        assert out[1].dtype == tensors["initial_state"].dtype or dtype in (torch.bfloat16, torch.float16)
        assert out[1].real.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize(
    ("op", "is_complex"), [(op, kind) for op in RECURRENCES for kind in (True, False) if not kind or op != "wkv"]
)
@pytest.mark.parametrize("impl", ("reference", "cpu"))
def test_gradcheck(op: str, impl: str, is_complex: bool) -> None:
    case = Case("", {"batch": 2, "time": 19, "dim": 2, "modes": 2, "is_complex": is_complex}, ("reset", "lengths"))
    inputs = case.inputs(op)
    leaves = tuple(x.requires_grad_() for x in inputs.tensors.values())
    assert torch.autograd.gradcheck(
        lambda *xs: call(op, dict(zip(inputs.tensors, xs, strict=True)), inputs.options, impl=impl), leaves
    )


@pytest.mark.parametrize("op", RECURRENCES)
@pytest.mark.parametrize("impl", ("reference", "cpu"))
@pytest.mark.parametrize("cuts", ((1,), (16, 17), (100, 256, 400)))
def test_segments_equal_the_whole(op: str, impl: str, cuts: tuple[int, ...]) -> None:
    case = Case("", {"batch": 2, "time": 523, "dim": 3, "modes": 2}, ("reset",))
    tensors, options = case.inputs(op)
    whole = call(op, tensors, options, impl=impl)
    state, pieces = tensors["initial_state"], []
    for start, stop in zip((0, *cuts), (*cuts, 523), strict=True):
        now = {n: x[:, start:stop] if x.ndim >= 3 and x.shape[1] == 523 else x for n, x in tensors.items()}
        piece, state = call(op, {**now, "initial_state": state}, {"reset": options["reset"][:, start:stop]}, impl=impl)
        pieces.append(piece)
    for got, want in ((torch.cat(pieces, 1), whole[0]), (state, whole[1])):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-12 * float(want.abs().max()))


@pytest.mark.parametrize("op", RECURRENCES)
@pytest.mark.parametrize("impl", ("reference", "cpu"))
@pytest.mark.parametrize(("batch", "time"), ((0, 70), (2, 0), (0, 0)))
def test_no_rows_and_no_positions(op: str, impl: str, batch: int, time: int) -> None:
    case = Case("", {"batch": batch, "time": time, "dim": 3, "modes": 2}, ("reset", "lengths"))
    tensors, options = case.inputs(op)
    leaves = {n: x.requires_grad_() for n, x in tensors.items()}
    y, final = out = call(op, leaves, options, impl=impl)
    sequence = next(x for x in leaves.values() if x.ndim >= 3)
    assert y.shape == sequence.shape
    assert torch.equal(final, tensors["initial_state"])  # after nothing
    for (name, x), gradient in zip(leaves.items(), gradients(out, leaves), strict=True):
        assert gradient.shape == x.shape
        assert bool(gradient.any()) == (name == "initial_state" and batch > 0)


@pytest.mark.parametrize("op", (*RECURRENCES, "long_conv"))
@pytest.mark.parametrize("impl", ("reference", "cpu"))
def test_causal_and_rows_do_not_interact(op: str, impl: str) -> None:
    tensors, options = Case("", {"batch": 3, "time": 300, "dim": 5, "modes": 2}).inputs(op)
    sequence = {"linear_scan": "b", "short_conv": "x", "ssd": "x", "wkv": "k"}.get(op, "u")
    before = call(op, tensors, options, impl=impl)[0]
    changed = tensors[sequence].clone()
    changed[1, 123] += 1
    difference = (call(op, {**tensors, sequence: changed}, options, impl=impl)[0] - before).abs()
    noise = 1e-12 * float(before.abs().max())  # an FFT spreads its rounding over the row
    assert float(difference[[0, 2]].max()) == 0
    assert float(difference[1, :123].max()) <= noise
    assert float(difference[1, 123].min()) > noise


@pytest.mark.parametrize("op", (*NATIVE, "long_conv"))
@pytest.mark.parametrize("impl", ("reference", "cpu"))
def test_any_strides(op: str, impl: str) -> None:
    case = Case("", {"batch": 3, "time": 37, "dim": 20, "modes": 2})
    tensors, options = case.inputs(op)

    def strided(x: Tensor) -> Tensor:
        """The same numbers: last axis first in memory, every second of a longer tensor, a conjugate's conjugate."""
        wide = torch.zeros(*x.shape[::-1], 2, dtype=x.dtype)
        view = wide[..., 1].permute(*reversed(range(x.ndim)))
        view.copy_(x.conj() if x.is_complex() else -x)
        return view.conj() if x.is_complex() else torch._neg_view(view)

    grown = {n: strided(x).requires_grad_() for n, x in tensors.items()}
    plain = {n: x.requires_grad_() for n, x in tensors.items()}
    outs = [call(op, t, options, impl=impl) for t in (grown, plain)]
    noise = 1e-13  # an FFT of another layout takes another path
    for got, want in zip((*outs[0], *gradients(outs[0], grown)), (*outs[1], *gradients(outs[1], plain)), strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=noise * float(want.detach().abs().max()))


@pytest.mark.parametrize("op", NATIVE)
@pytest.mark.parametrize("dtype", (torch.float64, torch.float32), ids=str)
def test_native_results_do_not_depend_on_the_threads(op: str, dtype: torch.dtype) -> None:
    tensors, options = Case("", {"batch": 5, "time": 700, "dim": 37, "modes": 4}).inputs(op)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            leaves = {n: x.requires_grad_() for n, x in rounded(op, tensors, dtype).items()}
            out = call(op, leaves, options, impl="cpu")
            torch.set_num_threads(1)  # what torch adds up around the kernels is not the claim
            results.append((*out, *gradients(out, leaves)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("op", ("krylov", "block_tables", "block_scan", "cauchy"))
def test_second_derivatives_of_the_reference_are_exact(op: str) -> None:
    inputs = Case("", {"batch": 2, "time": 3, "dim": 2, "modes": 2}).inputs(op)
    leaves = tuple(x.requires_grad_() for x in inputs.tensors.values())
    assert torch.autograd.gradgradcheck(
        lambda *xs: call(op, dict(zip(inputs.tensors, xs, strict=True)), inputs.options, impl="reference"), leaves
    )


@pytest.mark.parametrize("op", NATIVE)
def test_second_derivatives_are_refused_and_the_reference_has_them(op: str) -> None:
    case = Case("", {"batch": 1, "time": 70, "dim": 2, "modes": 2, "is_complex": False})
    tensors, options = case.inputs(op)
    leaves = {n: x.requires_grad_() for n, x in tensors.items()}
    first = next(iter(leaves.values()))
    for impl in ("reference", "cpu"):
        output = call(op, leaves, options, impl=impl)[0]
        (slope,) = torch.autograd.grad(output.abs().square().sum(), first, create_graph=True)
        if impl == "reference":
            assert torch.autograd.grad(slope.abs().sum(), first)[0].abs().max() > 0
        else:
            with pytest.raises(UnsupportedError, match="second derivatives"):
                torch.autograd.grad(slope.abs().sum(), first)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("op", (*NATIVE, "long_conv"))
def test_compiled_equals_eager(op: str) -> None:
    tensors, options = Case("", {"batch": 2, "time": 40, "dim": 3, "modes": 2}, ("reset",)[: op in RECURRENCES]).inputs(
        op
    )
    names = tuple(tensors)

    def function(*xs: Tensor) -> tuple[Tensor, ...]:
        return call(op, dict(zip(names, xs, strict=True)), options)

    eager = {n: x.requires_grad_() for n, x in tensors.items()}
    want = function(*eager.values())
    torch.compiler.reset()  # or the operations before this one count as its recompilations
    got = torch.compile(function, backend="aot_eager", fullgraph=True)(*eager.values())
    for a, b in zip((*got, *gradients(got, eager)), (*want, *gradients(want, eager)), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13 * float(b.detach().abs().max()))


def test_every_implementation_file_is_in_the_table() -> None:
    folder = Path(ops.__file__).parent
    for op, implementations in IMPLEMENTATIONS.items():
        files = {p.stem.removeprefix("_") for p in (folder / op).glob("_*.py")} - {"_init__", "api"}
        assert files == set(implementations), op
    assert {p.parent.name for p in folder.glob("*/_api.py")} == set(IMPLEMENTATIONS)
