"""The native kernel (native/dense_step.cpp) as ``torch.ops.longwave.dense_step``; its adjoint is torch's products."""

from typing import Any

import torch
from torch import Tensor

from longwave.ops import _native
from longwave.ops._native import Kernel, kernels, library, register, unrecorded

library.define("dense_step(Tensor x, Tensor u, Tensor A, Tensor B, Tensor C, Tensor D) -> (Tensor, Tensor)")
library.define(
    "dense_step_backward(Tensor grad_y, Tensor grad_after, Tensor x, Tensor u, Tensor A, Tensor B, Tensor C, Tensor D, "
    "Tensor after) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def refuses(x: Tensor, *rest: Tensor) -> str | None:
    """Why the kernel cannot take these arguments, or None."""
    if x.dtype not in (torch.float32, torch.float64):
        return f"the native kernel computes in 32 and 64 bits, and x is {x.dtype}"
    return _native.refuses_exported(x, *rest)


def run(x: Tensor, u: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> tuple[Tensor, Tensor]:
    """y (batch, dim), and the state after it."""
    if unrecorded(x, u, A, B, C, D):
        return _forward(x, u, A, B, C, D)
    return torch.ops.longwave.dense_step(x, u, A, B, C, D)


def _forward(x: Tensor, u: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> tuple[Tensor, Tensor]:
    y, after = _outputs(x, u)
    args = [t.resolve_neg().contiguous() for t in (x, u, A.mT, B, C, D)]  # no copy of an A whose columns are contiguous
    kernels().dense_step(
        x.dtype == torch.float64,
        x.shape,
        A.shape[0] == 1,
        [t.data_ptr() for t in args],
        y.data_ptr(),
        after.data_ptr(),
        torch.get_num_threads(),
    )
    return y, after


def _outputs(x: Tensor, u: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
    contiguous = torch.contiguous_format
    return torch.empty_like(u, memory_format=contiguous), torch.empty_like(x, memory_format=contiguous)


def _backward(
    grad_y: Tensor,
    grad_after: Tensor,
    x: Tensor,
    u: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    after: Tensor,
) -> tuple[Tensor, ...]:
    g = grad_after + grad_y[..., None] * C
    rows, inputs = _rows(g, A), _rows(u[..., None], A)
    grad_x = rows @ A
    return (
        grad_x.view(x.shape) if len(A) == 1 else grad_x.transpose(0, 1).contiguous(),
        (B * g).sum(-1) + D * grad_y,
        rows.mT @ _rows(x, A),
        (inputs.mT @ rows)[:, 0],
        (grad_y[..., None] * after).sum(0),
        (grad_y * u).sum(0),
    )


def _rows(x: Tensor, A: Tensor) -> Tensor:
    """(systems, rows, …): together what goes through one A."""
    return x.flatten(0, 1)[None] if len(A) == 1 else x.transpose(0, 1)


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, output[1])


def _adjoint(ctx: Any, grad_y: Tensor, grad_after: Tensor) -> tuple[Tensor, ...]:
    return torch.ops.longwave.dense_step_backward(grad_y, grad_after, *ctx.saved_tensors)


register("dense_step", Kernel(_forward, _backward, _outputs, _backward, _save, _adjoint))
