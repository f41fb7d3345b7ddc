"""The native kernel (native/wkv.cpp) as ``torch.ops.longwave.wkv``, with its adjoint.

The forward pass leaves the state before every 64th position as a checkpoint: three numbers for each channel.
"""

from typing import Any

import torch
from torch import Tensor

from longwave.ops._native import Kernel, address, broadcast_strides, kernels, kind, library, packed, plain, register
from longwave.ops._native import refuses as refuses

library.define(
    "wkv(Tensor k, Tensor v, Tensor w, Tensor u, Tensor? initial_state, Tensor? marks, bool save) "
    "-> (Tensor, Tensor, Tensor)"
)
library.define(
    "wkv_backward(Tensor k, Tensor v, Tensor grad_y, Tensor w, Tensor u, Tensor? grad_final, Tensor? marks, "
    "Tensor checkpoints) -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def run(
    k: Tensor, v: Tensor, w: Tensor, u: Tensor, initial_state: Tensor | None, marks: Tensor | None
) -> tuple[Tensor, Tensor]:
    """y and the final state (batch, 2, dim); the arguments are of one precision."""
    save = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (k, v, w, u, initial_state))
    y, final, _ = torch.ops.longwave.wkv(k, v, w, u, initial_state, marks, save)
    return y, final


def _forward(k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    *system, marks, save = rest
    y, final, checkpoints = _outputs(k, v, *rest)
    k, v, marks = plain(k), plain(v), packed(marks)
    system = [packed(x) for x in system]
    kernels().wkv(
        *v.shape,
        kind(v)[1],
        *_view(k),
        *_view(v),
        *map(address, (*system, marks, y, final)),
        address(checkpoints) if save else 0,
        torch.get_num_threads(),
    )
    return y, final, checkpoints


def _backward(k: Tensor, v: Tensor, grad_y: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    *system, checkpoints = rest
    gradients = _gradients(k, v, grad_y, *rest)
    k, v, grad_y = plain(k), plain(v), plain(grad_y)
    system = [packed(x) for x in system]
    kernels().wkv_backward(
        *v.shape,
        kind(v)[1],
        *_view(k),
        *_view(v),
        *_view(grad_y),
        *map(address, (*system, checkpoints, *gradients)),
        torch.get_num_threads(),
    )
    return gradients


def _outputs(k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    batch, time, dim = v.shape
    chunks = -(-time // kernels().WKV_CHUNK)
    checkpoints = v.new_empty([batch, chunks, 3, dim] if rest[-1] else [0])
    return v.new_empty(v.shape), v.new_empty(batch, 2, dim), checkpoints


def _gradients(k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    """Those of w and u are still to be added up over the batch."""
    batch, _, dim = v.shape
    return *(v.new_empty(v.shape) for _ in "kv"), *(v.new_empty(batch, dim) for _ in "wu"), v.new_empty(batch, 2, dim)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    k, v, w, u, initial_state, marks, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[2])
    ctx.has_initial_state = initial_state is not None
    ctx.save_for_backward(k, v, w, u, marks, output[2])


def _adjoint(ctx: Any, grad_y: Tensor | None, grad_final: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    k, v, w, u, marks, checkpoints = ctx.saved_tensors
    if grad_y is None:
        grad_y = torch.zeros((), dtype=v.dtype).expand(v.shape)
    grad_k, grad_v, grad_w, grad_u, grad_initial = torch.ops.longwave.wkv_backward(
        k, v, grad_y, w, u, grad_final, marks, checkpoints
    )
    return grad_k, grad_v, grad_w.sum(0), grad_u.sum(0), grad_initial if ctx.has_initial_state else None, None, None


def _view(x: Tensor) -> tuple[int, list[int]]:
    return address(x), broadcast_strides(x)


register("wkv", Kernel(_forward, _backward, _outputs, _gradients, _save, _adjoint))
