"""The checks that every operation makes of its arguments before an implementation sees them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from longwave.errors import ShapeError

STATE_DTYPE = {
    torch.float64: torch.float64,
    torch.float32: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float16: torch.float32,
    torch.complex128: torch.float64,
    torch.complex64: torch.float32,
}
"""The real dtype in which a recurrence over values of a dtype is computed and its state kept."""

COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}


def shape(op: str, name: str, tensor: Tensor, expected: Sequence[int], meaning: str) -> None:
    """Raise unless `tensor` has the expected shape, which `meaning` spells out."""
    if tuple(tensor.shape) != tuple(expected):
        raise ShapeError(f"{op}: {name} has shape {tuple(tensor.shape)}; expected {meaning} = {tuple(expected)}.")


def three_axes(op: str, name: str, tensor: Tensor) -> None:
    """Raise unless `tensor` is a (batch, time, dim) sequence of a floating or complex dtype."""
    if tensor.ndim != 3:
        raise ShapeError(f"{op}: {name} has shape {tuple(tensor.shape)}; expected three axes (batch, time, dim).")
    if tensor.dtype not in STATE_DTYPE:
        raise ShapeError(f"{op}: {name} is {tensor.dtype}; convert it to a floating point dtype first.")


def real(op: str, **tensors: Tensor | None) -> None:
    """Raise unless every tensor is of real numbers that an operation can compute with."""
    for name, tensor in tensors.items():
        if tensor is not None and (tensor.is_complex() or tensor.dtype not in STATE_DTYPE):
            raise ShapeError(f"{op}: {name} is {tensor.dtype}; convert it to a real floating point dtype first.")


def same_device(op: str, **tensors: Tensor | None) -> None:
    """Raise unless all tensors are on one device."""
    if len({tensor.device for tensor in tensors.values() if tensor is not None}) > 1:
        places = ", ".join(f"{name} on {tensor.device}" for name, tensor in tensors.items() if tensor is not None)
        raise ShapeError(f"{op}: tensors on different devices: {places}.")


def one_real_dtype(op: str, **tensors: Tensor) -> None:
    """Raise unless all tensors are of one floating point dtype, on one device."""
    dtypes = {tensor.dtype for tensor in tensors.values()}
    if len(dtypes) > 1 or not dtypes.pop().is_floating_point:
        kinds = ", ".join(str(tensor.dtype) for tensor in tensors.values())
        raise ShapeError(f"{op}: {', '.join(tensors)} are {kinds}; expected one floating point dtype.")
    same_device(op, **tensors)


def linear_map(op: str, x: Tensor, weight: Tensor, bias: Tensor | None, parts: int = 1) -> None:
    """Raise unless `weight`, of so many parts of rows, and `bias` map the last axis of `x`, all of one real dtype."""
    out = "out" if parts == 1 else f"{parts} out"
    if weight.ndim != 2 or weight.shape[0] % parts or x.ndim == 0 or x.shape[-1] != weight.shape[1]:
        raise ShapeError(
            f"{op}: weight has shape {tuple(weight.shape)}, x {tuple(x.shape)}; expected ({out}, d), (..., d)."
        )
    if bias is None:
        return one_real_dtype(op, x=x, weight=weight)
    shape(op, "bias", bias, (weight.shape[0],), f"({out},)")
    one_real_dtype(op, x=x, weight=weight, bias=bias)


def sequence_ends(op: str, batch: int, time: int, reset: Tensor | None, lengths: Tensor | None) -> None:
    """Raise unless `reset` and `lengths` fit a (batch, time, ...) sequence."""
    if reset is not None:
        shape(op, "reset", reset, (batch, time), "(batch, time)")
        if reset.dtype != torch.bool:
            raise ShapeError(f"{op}: reset is {reset.dtype}; expected torch.bool, True where a new sequence begins.")
    if lengths is not None:
        shape(op, "lengths", lengths, (batch,), "(batch,)")
        if lengths.dtype.is_floating_point or lengths.dtype == torch.bool:
            raise ShapeError(f"{op}: lengths is {lengths.dtype}; expected an integer dtype.")
        if torch.compiler.is_compiling():
            return  # a value that is not known yet; the eager call has this check
        if batch and (int(lengths.min()) < 0 or int(lengths.max()) > time):
            raise ShapeError(f"{op}: lengths lie in {int(lengths.min())}..{int(lengths.max())}; expected 0..{time}.")
