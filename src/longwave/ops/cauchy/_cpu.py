"""The native kernel (native/cauchy.cpp) as ``torch.ops.longwave.cauchy``, with its adjoint."""

from typing import Any

import torch
from torch import Tensor

from longwave.ops._native import Kernel, address, kernels, library, packed, register
from longwave.ops._native import refuses as refuses

library.define("cauchy(Tensor v, Tensor omega, Tensor w) -> Tensor")
library.define(
    "cauchy_backward(Tensor grad, Tensor v, Tensor omega, Tensor w, bool of_omega) -> (Tensor, Tensor, Tensor)"
)


def run(v: Tensor, omega: Tensor, w: Tensor) -> Tensor:
    """(dim, rows, nodes), in double precision."""
    return torch.ops.longwave.cauchy(v, omega, w)


def _forward(v: Tensor, omega: Tensor, w: Tensor) -> Tensor:
    values = _outputs(v, omega, w)
    args = [packed(x) for x in (v, omega, w)]
    kernels().cauchy(*values.shape, w.shape[1], *map(address, (*args, values)), torch.get_num_threads())
    return values


def _backward(grad: Tensor, v: Tensor, omega: Tensor, w: Tensor, of_omega: bool) -> tuple[Tensor, Tensor, Tensor]:
    gradients = _gradients(grad, v, omega, w, of_omega)
    args = [packed(x) for x in (v, omega, w, grad)]
    kernels().cauchy_backward(
        *(*grad.shape, w.shape[1]),
        *map(address, (*args, gradients[0], gradients[1] if of_omega else None, gradients[2])),
        torch.get_num_threads(),
    )
    return gradients


def _outputs(v: Tensor, omega: Tensor, w: Tensor) -> Tensor:
    return v.new_empty(*v.shape[:2], *omega.shape)


def _gradients(grad: Tensor, v: Tensor, omega: Tensor, w: Tensor, of_omega: bool) -> tuple[Tensor, Tensor, Tensor]:
    nodes = omega.shape if of_omega else (0,)
    return v.new_empty(v.shape), omega.new_empty(nodes), w.new_empty(w.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _adjoint(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    of_omega = ctx.needs_input_grad[1]
    grad_v, grad_omega, grad_w = torch.ops.longwave.cauchy_backward(grad, *ctx.saved_tensors, of_omega)
    return grad_v, grad_omega if of_omega else None, grad_w


register("cauchy", Kernel(_forward, _backward, _outputs, _gradients, _save, _adjoint))
