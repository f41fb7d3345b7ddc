"""The native kernel (native/ssd.cpp) as ``torch.ops.longwave.ssd``, with its adjoint.

The forward pass leaves the states at the beginning of every chunk as checkpoints. States are (state, head_dim) here.
"""

from typing import Any

import torch
from torch import Tensor

from longwave.ops._native import Kernel, address, broadcast_strides, kernels, library, packed, plain, register
from longwave.ops._native import refuses as refuses

library.define(
    "ssd(Tensor x, Tensor a, Tensor? w, Tensor B, Tensor C, Tensor? D, Tensor? initial_state, Tensor? marks, int chunk, "
    "bool save) -> (Tensor, Tensor, Tensor)"
)
library.define(
    "ssd_backward(Tensor x, Tensor grad_y, Tensor a, Tensor? w, Tensor B, Tensor C, Tensor? D, Tensor? grad_final, "
    "Tensor? marks, int chunk, Tensor checkpoints) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def run(
    x: Tensor,
    a: Tensor,
    w: Tensor | None,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    initial_state: Tensor | None,
    marks: Tensor | None,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """y and the final state; all numbers of one precision, `D` (heads, head_dim)."""
    leaves = (x, a, w, B, C, D, initial_state)
    save = torch.is_grad_enabled() and any(leaf is not None and leaf.requires_grad for leaf in leaves)
    initial = None if initial_state is None else initial_state.mT
    y, final, _ = torch.ops.longwave.ssd(x, a, w, B, C, D, initial, marks, chunk, save)
    return y, final.mT.contiguous()


def _forward(x: Tensor, a: Tensor, w: Tensor | None, B: Tensor, C: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    D, initial_state, marks, chunk, save = rest
    y, final, checkpoints = _outputs(x, a, w, B, C, *rest)
    sequences = [plain(u) for u in (x, B, C)]
    others = [packed(u) for u in (a, w, D, initial_state, marks)]
    kernels().ssd(
        _sizes(x, B, chunk),
        x.dtype == torch.float64,
        *_views(sequences),
        *map(address, (*others, y, final)),
        address(checkpoints) if save else 0,
        torch.get_num_threads(),
    )
    return y, final, checkpoints


def _backward(
    x: Tensor, grad_y: Tensor, a: Tensor, w: Tensor | None, B: Tensor, C: Tensor, *rest: Any
) -> tuple[Tensor, ...]:
    D, grad_final, marks, chunk, checkpoints = rest
    gradients = _gradients(x, grad_y, a, w, B, C, *rest)
    grad_x, grad_a, grad_w, grad_B, grad_C, grad_D, grad_initial = gradients
    sequences = [plain(u) for u in (x, B, C, grad_y)]
    others = [packed(u) for u in (a, w, D, grad_final, marks)]
    slopes = torch.empty_like(checkpoints)
    kernels().ssd_backward(
        _sizes(x, B, chunk),
        x.dtype == torch.float64,
        *_views(sequences),
        *map(address, (*others, checkpoints, slopes, grad_x, grad_initial, grad_a)),
        0 if w is None else address(grad_w),
        *map(address, (grad_B, grad_C)),
        0 if D is None else address(grad_D),
        torch.get_num_threads(),
    )
    return gradients


def _outputs(x: Tensor, a: Tensor, w: Tensor | None, B: Tensor, C: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    batch, time, heads, dim = x.shape
    chunk, save = rest[-2:]
    states = batch, heads, B.shape[3], dim
    checkpoints = x.new_empty(batch, heads, -(-time // chunk), B.shape[3], dim) if save else x.new_empty(0)
    return x.new_empty(x.shape), x.new_empty(states), checkpoints


def _gradients(
    x: Tensor, grad_y: Tensor, a: Tensor, w: Tensor | None, B: Tensor, C: Tensor, *rest: Any
) -> tuple[Tensor, ...]:
    D, chunk = rest[0], rest[3]
    batch, time, heads, dim = x.shape
    of_D = x.new_empty(batch, -(-time // chunk), heads, dim) if D is not None else x.new_empty(0)
    of_w = x.new_empty(a.shape) if w is not None else x.new_empty(0)
    of_initial = x.new_empty(batch, heads, B.shape[3], dim)
    return *(x.new_empty(u.shape) for u in (x, a)), of_w, x.new_empty(B.shape), x.new_empty(C.shape), of_D, of_initial


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, marks, ctx.chunk, ctx.save = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, marks, output[2])


def _adjoint(ctx: Any, grad_y: Tensor | None, grad_final: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    x, a, w, B, C, D, initial_state, marks, checkpoints = ctx.saved_tensors
    if grad_y is None:
        grad_y = torch.zeros((), dtype=x.dtype).expand(x.shape)
    grad_x, grad_a, grad_w, grad_B, grad_C, grad_D, grad_initial = torch.ops.longwave.ssd_backward(
        x, grad_y, a, w, B, C, D, grad_final, marks, ctx.chunk, checkpoints
    )
    return (
        grad_x,
        grad_a,
        None if w is None else grad_w,
        grad_B,
        grad_C,
        None if D is None else grad_D.sum((0, 1)),
        None if initial_state is None else grad_initial,
        None,
        None,
        None,
    )


def _sizes(x: Tensor, B: Tensor, chunk: int) -> list[int]:
    batch, time, heads, dim = x.shape
    return [batch, time, heads, B.shape[2], dim, B.shape[3], chunk]


def _views(tensors: list[Tensor]) -> list[Any]:
    """Address and strides of each."""
    return [part for x in tensors for part in (address(x), broadcast_strides(x))]


register("ssd", Kernel(_forward, _backward, _outputs, _gradients, _save, _adjoint))
