"""The native kernel (native/short_conv.cpp) as ``torch.ops.longwave.short_conv``, with its adjoint."""

from typing import Any

import torch
from torch import Tensor

from longwave.ops._native import (
    Kernel,
    address,
    broadcast_strides,
    kernels,
    library,
    packed,
    plain,
    register,
    unrecorded,
)
from longwave.ops._native import refuses as refuses

_INPUTS = "Tensor x, Tensor weight, Tensor? bias, Tensor? initial_state, bool silu, Tensor? marks"
library.define(f"short_conv({_INPUTS}) -> (Tensor, Tensor)")
library.define(f"short_conv_backward({_INPUTS}, Tensor grad_y, Tensor? grad_final) -> (Tensor, Tensor, Tensor, Tensor)")


def run(
    x: Tensor, weight: Tensor, bias: Tensor | None, initial_state: Tensor | None, silu: bool, marks: Tensor | None
) -> tuple[Tensor, Tensor]:
    """y and the last inputs; all tensors of one precision."""
    if unrecorded(x, weight, bias, initial_state, marks):
        return _forward(x, weight, bias, initial_state, silu, marks)
    return torch.ops.longwave.short_conv(x, weight, bias, initial_state, silu, marks)


def _call(backward: bool, inputs: tuple[Any, ...], *out: Tensor | None) -> None:
    """Run the kernel into `out`, in the order of native/bindings.cpp."""
    x, weight, bias, initial_state, silu, marks, grad_y, grad_final = inputs
    x, grad_y = plain(x), None if grad_y is None else plain(grad_y)
    tensors = [packed(tensor) for tensor in (weight, bias, initial_state, grad_final, marks)]
    kernels().short_conv(
        backward,
        x.dtype == torch.float64,
        [*x.shape, weight.shape[1]],
        silu,
        address(x),
        broadcast_strides(x),
        address(grad_y),
        [0, 0, 0] if grad_y is None else broadcast_strides(grad_y),
        [address(tensor) for tensor in tensors],
        [address(tensor) for tensor in out],
        torch.get_num_threads(),
    )


def _forward(*inputs: Any) -> tuple[Tensor, Tensor]:
    y, final = _outputs(*inputs)
    _call(False, (*inputs, None, None), y, final, None, None)
    return y, final


def _backward(*inputs: Any) -> tuple[Tensor, ...]:
    gradients = _gradients(*inputs)
    _call(True, inputs, *gradients)
    return gradients


def _outputs(x: Tensor, weight: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape[0], x.shape[2], weight.shape[1] - 1)


def _gradients(x: Tensor, weight: Tensor, *_: Any) -> tuple[Tensor, ...]:
    """Of x and the initial state, and for each row of the weights and the bias."""
    batch, dim = x.shape[0], x.shape[2]
    return *_outputs(x, weight), x.new_empty(batch, *weight.shape), x.new_empty(batch, dim)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, bias, initial_state, ctx.silu, marks = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, weight, bias, initial_state, marks)


def _adjoint(ctx: Any, grad_y: Tensor | None, grad_final: Tensor | None) -> tuple[Tensor | None, ...]:
    x, weight, bias, initial_state, marks = ctx.saved_tensors
    if grad_y is None:
        grad_y = torch.zeros((), dtype=x.dtype).expand(x.shape)
    dx, dinitial, dweight, dbias = torch.ops.longwave.short_conv_backward(
        x, weight, bias, initial_state, ctx.silu, marks, grad_y, grad_final
    )
    given = (dx, dweight.sum(0), dbias.sum(0), dinitial)
    return *(grad if need else None for grad, need in zip(given, ctx.needs_input_grad, strict=False)), None, None


register("short_conv", Kernel(_forward, _backward, _outputs, _gradients, _save, _adjoint))
