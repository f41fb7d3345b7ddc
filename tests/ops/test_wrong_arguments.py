"""Every argument of the selective operations, wrong in every way, meets an error that names it."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from longwave import ops
from longwave.errors import ShapeError, UnsupportedError
from longwave.testing import make_inputs

pytestmark = pytest.mark.usefixtures("unchecked")
every_op = pytest.mark.parametrize("op", ("selective_scan", "short_conv", "ssd", "wkv"))
FREE = {("short_conv", "x", 1)}  # an axis of no other tensor
COMPLEX = {("selective_scan", name) for name in ("A", "B", "C")}  # may be


def arguments(op: str) -> dict[str, Tensor]:
    """Two rows of five positions, no two of whose other axes are as long."""
    return make_inputs(op, batch=2, time=5, dim=6, modes=7, groups=3, is_complex=False).tensors


def refused(op: str, tensors: dict[str, Tensor], message: str, **options: Any) -> None:
    with pytest.raises(ShapeError, match=message):
        getattr(ops, op)(*tensors.values(), **options)


def misshapen(op: str, name: str, x: Tensor) -> Iterator[Tensor]:
    """An axis longer, an axis more, an axis less."""
    for axis in range(x.ndim):
        if (op, name, axis) not in FREE:
            yield torch.cat([x, x.narrow(axis, 0, 1)], axis)
    yield x[None]
    yield x[0]


@every_op
def test_shapes(op: str) -> None:
    tensors = arguments(op)
    for name, x in tensors.items():
        for wrong in misshapen(op, name, x):
            refused(op, {**tensors, name: wrong}, rf"^{op}: .*(has shape \(|\d (groups|heads))")


@every_op
def test_dtypes(op: str) -> None:
    tensors = arguments(op)
    for name, x in tensors.items():
        for dtype in (torch.int64, torch.bool, torch.complex128, torch.float8_e5m2):
            if not (dtype.is_complex and (op, name) in COMPLEX):
                refused(op, {**tensors, name: x.to(dtype)}, rf"^{op}: .*{name}.* \(?{dtype}")


@every_op
def test_devices(op: str) -> None:
    tensors = arguments(op)
    for name, x in tensors.items():
        refused(op, {**tensors, name: x.to("meta")}, rf"^{op}: tensors on different devices: .*{name} on meta")


@every_op
@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("reset", torch.zeros(2, 5), "is torch.float32; expected torch.bool"),
        ("reset", torch.zeros(2, 4, dtype=torch.bool), r"has shape \(2, 4\); expected \(batch, time\) = \(2, 5\)"),
        ("lengths", torch.zeros(2), "is torch.float32; expected an integer"),
        ("lengths", torch.zeros(1, dtype=torch.int64), r"has shape \(1,\); expected \(batch,\) = \(2,\)"),
        ("lengths", torch.tensor([-1, 5]), r"lie in -1\.\.5; expected 0\.\.5"),
        ("lengths", torch.tensor([0, 6]), r"lie in 0\.\.6; expected 0\.\.5"),
        ("seq_idx", torch.zeros(2, 5), "is torch.float32; expected an integer"),
        ("seq_idx", torch.zeros(5, dtype=torch.int32), r"has shape \(5,\); expected \(batch, time\) = \(2, 5\)"),
    ],
)
def test_marks(op: str, name: str, wrong: Tensor, message: str) -> None:
    refused(op, arguments(op), f"^{op}: {name} {message}", **{name: wrong})
    refused(op, arguments(op), f"different devices: .*{name} on meta", **{name: wrong.to("meta")})


@every_op
def test_two_ways_of_packing(op: str) -> None:
    indices = torch.zeros(2, 5, dtype=torch.int64)
    for other in ({"reset": indices == 0}, {"lengths": torch.tensor([5, 5])}):
        refused(op, arguments(op), "leave out reset and lengths", seq_idx=indices, **other)


@every_op
def test_implementations(op: str) -> None:
    for impl, message in (("cuda", "choose from 'auto', 'reference', 'cpu', 'triton'"), ("triton", f"{op} has no")):
        with pytest.raises(UnsupportedError, match=message):
            getattr(ops, op)(*arguments(op).values(), impl=impl)
