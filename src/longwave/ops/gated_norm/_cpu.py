"""The native kernel (native/gated_norm.cpp) as ``torch.ops.longwave.gated_norm``, with its adjoint."""

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
    refuses_exported,
    register,
    threads,
    unrecorded,
)

_INPUTS = "Tensor x, Tensor z, Tensor weight, int size, bool norm_first, float eps"
library.define(f"gated_norm({_INPUTS}) -> Tensor")
library.define(f"gated_norm_backward({_INPUTS}, Tensor grad_y) -> (Tensor, Tensor, Tensor)")

refuses = refuses_exported


def run(x: Tensor, z: Tensor, weight: Tensor, size: int, norm_first: bool, eps: float) -> Tensor:
    """y (rows, dim); all tensors of one precision, groups of `size` channels."""
    if unrecorded(x, z, weight):
        return _forward(x, z, weight, size, norm_first, eps)
    return torch.ops.longwave.gated_norm(x, z, weight, size, norm_first, eps)


def _call(inputs: tuple[Any, ...], grad_y: Tensor | None, *out: Tensor) -> None:
    """Run the kernel into `out`, in the order of native/bindings.cpp."""
    x, z, weight, size, norm_first, eps = inputs
    seen, weight = [None if v is None else plain(v) for v in (x, z, grad_y)], packed(weight)
    kernels().gated_norm(
        grad_y is not None,
        x.dtype == torch.float64,
        [len(x), x.shape[1] // size, size],
        norm_first,
        eps,
        [address(v) for v in seen],
        [[0, 0, 0] if v is None else [0, *broadcast_strides(v)] for v in seen],
        [address(weight), *map(address, out), *[0] * (3 - len(out))],
        threads(x.numel()),
    )


def _forward(*inputs: Any) -> Tensor:
    y = _outputs(*inputs)
    _call(inputs, None, y)
    return y


def _backward(*args: Any) -> tuple[Tensor, ...]:
    gradients = _gradients(*args)
    _call(args[:-1], args[-1], *gradients)
    return gradients


def _outputs(x: Tensor, *_: Any) -> Tensor:
    return x.new_empty(x.shape)


def _gradients(x: Tensor, *_: Any) -> tuple[Tensor, ...]:
    """Of x and z, and for each block of positions of the weight."""
    blocks = -(-x.shape[0] // kernels().GATED_NORM_ROWS)
    return x.new_empty(x.shape), x.new_empty(x.shape), x.new_empty(blocks, x.shape[1])


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.size, ctx.norm_first, ctx.eps = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors)


def _adjoint(ctx: Any, grad_y: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad_y is None:
        return (None,) * 6
    options = ctx.size, ctx.norm_first, ctx.eps
    dx, dz, dweight = torch.ops.longwave.gated_norm_backward(*ctx.saved_tensors, *options, grad_y)
    return dx, dz, dweight.sum(0), None, None, None


register("gated_norm", Kernel(_forward, _backward, _outputs, _gradients, _save, _adjoint))
