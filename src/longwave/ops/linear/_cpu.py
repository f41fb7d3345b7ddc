"""The native kernel (native/linear.cpp) as ``torch.ops.longwave.linear``, with its adjoint."""

from typing import Any

import torch
from torch import Tensor

from longwave.ops import _native
from longwave.ops._native import (
    Kernel,
    address,
    broadcast_strides,
    kernels,
    library,
    packed,
    plain,
    register,
    threads,
    unrecorded,
)

library.define("linear(Tensor x, Tensor weight, Tensor? bias) -> Tensor")
library.define("linear_backward(Tensor x, Tensor weight, Tensor grad_y, bool of_x, bool of_weight) -> (Tensor, Tensor)")

FEWEST_ROWS = 64  # of a backward pass: below, packing the weight costs more than torch's products


def refuses(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> str | None:
    """Why the kernel cannot take these arguments, or None."""
    if x.dtype not in (torch.float32, torch.float64):
        return f"the native kernel computes in 32 and 64 bits, and x is {x.dtype}"
    why = _native.refuses_exported(x, weight, bias)
    return "there is nothing to multiply" if why is None and 0 in (x.numel(), weight.numel()) else why


def run(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """y (rows, out)."""
    if unrecorded(x, weight, bias):
        return _forward(x, weight, bias)
    return torch.ops.longwave.linear(x, weight, bias)


def _call(x: Tensor, weight: Tensor, grad_y: Tensor | None, bias: Tensor | None, *out: Tensor | None) -> None:
    """Run the kernel into `out`, in the order of native/bindings.cpp."""
    matrices, bias = [None if v is None else plain(v) for v in (x, weight, grad_y)], packed(bias)
    kernels().linear(
        grad_y is not None,
        x.dtype == torch.float64,
        [*x.shape, len(weight)],
        [address(v) for v in matrices],
        [[0, 0, 0] if v is None else [0, *broadcast_strides(v)] for v in matrices],
        [address(v) for v in (bias, *out)],
        threads(x.numel() * len(weight)),
    )


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y = _outputs(x, weight, bias)
    _call(x, weight, None, bias, y, None)
    return y


def _backward(x: Tensor, weight: Tensor, grad_y: Tensor, of_x: bool, of_weight: bool) -> tuple[Tensor, Tensor]:
    if len(x) < FEWEST_ROWS:
        none = x.new_empty(0)
        return grad_y @ weight if of_x else none, grad_y.mT @ x if of_weight else none
    grad_x, grad_weight = _gradients(x, weight, grad_y, of_x, of_weight)
    _call(x, weight, grad_y, None, grad_x if of_x else None, grad_weight if of_weight else None)
    return grad_x, grad_weight


def _outputs(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


def _gradients(x: Tensor, weight: Tensor, grad_y: Tensor, of_x: bool, of_weight: bool) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape if of_x else 0), x.new_empty(weight.shape if of_weight else 0)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:2])


def _adjoint(ctx: Any, grad_y: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad_y is None:
        return None, None, None
    of_x, of_weight, of_bias = ctx.needs_input_grad
    dx, dweight = torch.ops.longwave.linear_backward(*ctx.saved_tensors, grad_y, of_x, of_weight)
    return dx if of_x else None, dweight if of_weight else None, grad_y.sum(0) if of_bias else None


register("linear", Kernel(_forward, _backward, _outputs, _gradients, _save, _adjoint))
