"""The native kernel (native/block_tables.cpp) as ``torch.ops.longwave.block_tables``, with its adjoint."""

from typing import Any

import torch
from torch import Tensor

from longwave.ops._native import Kernel, address, kernels, library, packed, register
from longwave.ops._native import refuses as refuses

library.define(
    "block_tables(Tensor A, Tensor Q, Tensor S, Tensor B, Tensor C, int span, ScalarType dtype) "
    "-> (Tensor, Tensor, Tensor, Tensor)"
)
library.define(
    "block_tables_backward(Tensor grad_enter, Tensor grad_leave, Tensor grad_kernel, Tensor grad_transition, "
    "Tensor A, Tensor Q, Tensor S, Tensor B, Tensor C) -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def run(
    A: Tensor, Q: Tensor, S: Tensor, B: Tensor, C: Tensor, span: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """enter, leave, kernel in `dtype`, transition in float64; the arguments are complex128."""
    return torch.ops.longwave.block_tables(A, Q, S, B, C, span, dtype)


def _forward(
    A: Tensor, Q: Tensor, S: Tensor, B: Tensor, C: Tensor, span: int, dtype: torch.dtype
) -> tuple[Tensor, ...]:
    tables = _outputs(A, Q, S, B, C, span, dtype)
    system = [packed(x) for x in (A, Q, S, B, C)]
    kernels().block_tables(
        (*A.shape, Q.shape[1], span),
        dtype == torch.float64,
        [address(x) for x in system],
        [address(x) for x in tables],
        torch.get_num_threads(),
    )
    return tables


def _backward(
    grad_enter: Tensor, grad_leave: Tensor, grad_kernel: Tensor, grad_transition: Tensor, *system: Tensor
) -> tuple[Tensor, ...]:
    given = grad_enter, grad_leave, grad_kernel, grad_transition
    gradients = _gradients(*given, *system)
    arguments = [[packed(x) for x in xs] for xs in (system, given)]  # held until the kernel has read them
    A, Q, *_ = system
    kernels().block_tables_backward(
        (*A.shape, Q.shape[1], grad_enter.shape[1]),
        grad_enter.dtype == torch.float64,
        *([address(x) for x in xs] for xs in (*arguments, gradients)),
        torch.get_num_threads(),
    )
    return gradients


def _outputs(
    A: Tensor, Q: Tensor, S: Tensor, B: Tensor, C: Tensor, span: int, dtype: torch.dtype
) -> tuple[Tensor, ...]:
    dim, state = A.shape[0], 2 * A.shape[1]
    shapes = (dim, span, state), (dim, span, state), (dim, span)
    return *(A.new_empty(shape, dtype=dtype) for shape in shapes), A.new_empty(dim, state, state, dtype=torch.float64)


def _gradients(
    grad_enter: Tensor, grad_leave: Tensor, grad_kernel: Tensor, grad_transition: Tensor, *system: Tensor
) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(x.shape) for x in system)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:5])


def _adjoint(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
    return *torch.ops.longwave.block_tables_backward(*given, *ctx.saved_tensors), None, None


register("block_tables", Kernel(_forward, _backward, _outputs, _gradients, _save, _adjoint))
