"""The native kernel (native/krylov.cpp) as ``torch.ops.longwave.krylov``, with its adjoint."""

from typing import Any

import torch
from torch import Tensor

from longwave.ops._native import Kernel, address, kernels, library, packed, register
from longwave.ops._native import refuses as refuses

library.define("krylov(Tensor A, Tensor Q, Tensor S, Tensor v, int count, bool reverse) -> Tensor")
library.define(
    "krylov_backward(Tensor grad, Tensor A, Tensor Q, Tensor S, Tensor rows, bool reverse) "
    "-> (Tensor, Tensor, Tensor, Tensor)"
)


def run(A: Tensor, Q: Tensor, S: Tensor, v: Tensor, count: int, reverse: bool) -> Tensor:
    """(dim, rows, count, modes), all complex128."""
    return torch.ops.longwave.krylov(A, Q, S, v, count, reverse)


def _forward(A: Tensor, Q: Tensor, S: Tensor, v: Tensor, count: int, reverse: bool) -> Tensor:
    rows = _outputs(A, Q, S, v, count, reverse)
    args = [packed(x) for x in (A, Q, S, v)]
    kernels().krylov(*rows.shape, Q.shape[1], reverse, *map(address, (*args, rows)), torch.get_num_threads())
    return rows


def _backward(grad: Tensor, A: Tensor, Q: Tensor, S: Tensor, rows: Tensor, reverse: bool) -> tuple[Tensor, ...]:
    gradients = _gradients(grad, A, Q, S, rows, reverse)
    args = [packed(x) for x in (A, Q, S, grad)]
    kernels().krylov_backward(
        *rows.shape, Q.shape[1], reverse, *map(address, (*args, rows, *gradients)), torch.get_num_threads()
    )
    return gradients


def _outputs(A: Tensor, Q: Tensor, S: Tensor, v: Tensor, count: int, reverse: bool) -> Tensor:
    return v.new_empty(*v.shape[:2], count, v.shape[2])


def _gradients(grad: Tensor, A: Tensor, Q: Tensor, S: Tensor, rows: Tensor, reverse: bool) -> tuple[Tensor, ...]:
    dim, width, _, modes = rows.shape
    return *(A.new_empty(x.shape) for x in (A, Q, S)), A.new_empty(dim, width, modes)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    A, Q, S, _, _, ctx.reverse = inputs
    ctx.save_for_backward(A, Q, S, output)


def _adjoint(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return *torch.ops.longwave.krylov_backward(grad, *ctx.saved_tensors, ctx.reverse), None, None


register("krylov", Kernel(_forward, _backward, _outputs, _gradients, _save, _adjoint))
