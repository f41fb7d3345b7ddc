"""The native kernel (native/gated_linear.cpp) as ``torch.ops.longwave.gated_linear``, with its adjoint."""

from typing import Any

import torch
from torch import Tensor

from longwave.ops import _native
from longwave.ops._native import Kernel, address, kernels, library, packed, register, unrecorded

library.define("gated_linear(Tensor x, Tensor weight, Tensor? bias, bool gelu, bool save) -> (Tensor, Tensor)")
library.define(
    "gated_linear_backward(Tensor grad_y, Tensor x, Tensor weight, Tensor z, bool gelu) -> (Tensor, Tensor, Tensor)"
)


# Up to the first number of rows the kernel takes the weight as it lies; from the second on packing it pays.
FEW, MANY = 8, 64


def refuses(x: Tensor, *rest: Tensor | bool | None) -> str | None:
    """Why the kernel cannot take these arguments, or None."""
    if x.dtype not in (torch.float32, torch.float64):
        return f"the native kernel computes in 32 and 64 bits, and x is {x.dtype}"
    why = _native.refuses_exported(x, *rest)  # before a look at the rows, whose number an export leaves open
    if why is not None:
        return why
    rows = x.shape[:-1].numel()
    if FEW < rows < MANY:
        return f"below {MANY} rows, packing the weight costs more than it saves, and x has {rows}"
    return None


def run(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool) -> Tensor:
    """y (rows, out)."""
    if unrecorded(x, weight, bias):
        y = x.new_empty(x.shape[0], weight.shape[0] // 2)
        _launch(x, weight, bias, gelu, y, None)
        return y
    save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, weight, bias))
    return torch.ops.longwave.gated_linear(x, weight, bias, gelu, save)[0]


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool, save: bool) -> tuple[Tensor, Tensor]:
    y, z = _outputs(x, weight, bias, gelu, save)
    _launch(x, weight, bias, gelu, y, z if save else None)
    return y, z


def _launch(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool, y: Tensor, z: Tensor | None) -> None:
    args = [packed(t) for t in (x, weight, bias)]
    kernels().gated_linear(
        *x.shape,
        y.shape[1],
        gelu,
        x.dtype == torch.float64,
        *map(address, (*args, y, z)),
        torch.get_num_threads(),
    )


def _backward(grad_y: Tensor, x: Tensor, weight: Tensor, z: Tensor, gelu: bool) -> tuple[Tensor, Tensor, Tensor]:
    gradients = _gradients(grad_y, x, weight, z, gelu)
    args = [packed(t) for t in (x, weight, grad_y)]
    kernels().gated_linear_backward(
        *x.shape,
        grad_y.shape[1],
        gelu,
        x.dtype == torch.float64,
        *map(address, (*args, z, *gradients)),
        torch.get_num_threads(),
    )
    return gradients


def _outputs(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool, save: bool) -> tuple[Tensor, Tensor]:
    rows, width = x.shape[0], weight.shape[0]
    return x.new_empty(rows, width // 2), x.new_empty([rows, width] if save else [0])


def _gradients(grad_y: Tensor, x: Tensor, weight: Tensor, z: Tensor, gelu: bool) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(weight.shape), x.new_empty(weight.shape[0])


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, bias, ctx.gelu, _ = inputs
    ctx.with_bias = bias is not None
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(x, weight, output[1])


def _adjoint(ctx: Any, grad_y: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    if grad_y is None:
        return None, None, None, None, None
    grad_x, grad_weight, grad_bias = torch.ops.longwave.gated_linear_backward(grad_y, *ctx.saved_tensors, ctx.gelu)
    return grad_x, grad_weight, grad_bias if ctx.with_bias else None, None, None


register("gated_linear", Kernel(_forward, _backward, _outputs, _gradients, _save, _adjoint))
