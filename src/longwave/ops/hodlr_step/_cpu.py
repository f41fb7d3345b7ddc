"""The native kernel (native/dense_step.cpp) as ``torch.ops.longwave.hodlr_step``; its adjoint is torch's products."""

from typing import Any

import torch
from torch import Tensor

from longwave.math import exchanged
from longwave.ops import _native
from longwave.ops._native import Kernel, kernels, library, plain, register, unrecorded

library.define(
    "hodlr_step(Tensor x, Tensor u, Tensor near, Tensor gather, Tensor spread, Tensor B, Tensor C, Tensor D) "
    "-> (Tensor, Tensor)"
)
library.define(
    "hodlr_step_backward(Tensor grad_y, Tensor grad_after, Tensor x, Tensor u, Tensor near, Tensor gather, "
    "Tensor spread, Tensor B, Tensor C, Tensor D, Tensor after) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)

VECTOR = 16  # numbers, of the widest instruction set


def refuses(x: Tensor, u: Tensor, near: Tensor, gather: Tensor, *rest: Tensor) -> str | None:
    """Why the kernel cannot take these arguments, or None."""
    if x.dtype not in (torch.float32, torch.float64):
        return f"the native kernel computes in 32 and 64 bits, and x is {x.dtype}"
    leaf, columns = gather.shape[1:]
    if leaf % VECTOR or columns % VECTOR:
        return f"the native kernel takes leaves and columns in multiples of {VECTOR}, not {leaf} and {columns}"
    return _native.refuses_exported(x, u, near, gather, *rest)


def run(x: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
    """y (batch, dim), and the state after it."""
    if unrecorded(x, *rest):
        return _forward(x, *rest)
    return torch.ops.longwave.hodlr_step(x, *rest)


def _forward(x: Tensor, u: Tensor, near: Tensor, gather: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
    y, after = _outputs(x, u)
    args = [plain(t).contiguous() for t in (x, u, near, gather, *rest)]
    kernels().hodlr_step(
        x.dtype == torch.float64,
        (*x.shape, *gather.shape[1:]),
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
    near: Tensor,
    gather: Tensor,
    spread: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    after: Tensor,
) -> tuple[Tensor, ...]:
    g = grad_after + grad_y[..., None] * C
    rows, into = (t.flatten(0, 1).unflatten(-1, near.shape[:2]).transpose(0, 1) for t in (g, x))
    back = exchanged(rows @ spread.mT)
    grad_x = torch.baddbmm(rows @ near.mT, back, gather.mT)
    return (
        grad_x.transpose(0, 1).reshape(x.shape),
        (B * g).sum(-1) + D * grad_y,
        into.mT @ rows,
        into.mT @ back,
        exchanged(into @ gather).mT @ rows,
        (u[..., None] * g).sum((0, 1)),
        (grad_y[..., None] * after).sum(0),
        (grad_y * u).sum(0),
    )


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, output[1])


def _adjoint(ctx: Any, grad_y: Tensor, grad_after: Tensor) -> tuple[Tensor, ...]:
    return torch.ops.longwave.hodlr_step_backward(grad_y, grad_after, *ctx.saved_tensors)


register("hodlr_step", Kernel(_forward, _backward, _outputs, _backward, _save, _adjoint))
