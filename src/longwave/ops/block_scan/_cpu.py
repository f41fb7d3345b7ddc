"""The native kernel (native/block_scan.cpp) as ``torch.ops.longwave.block_scan``, with its adjoint."""

from typing import Any

import torch
from torch import Tensor

from longwave.ops._native import Kernel, address, kernels, library, packed, plain, register
from longwave.ops._native import refuses as refuses

library.define(
    "block_scan(Tensor u, Tensor transition, Tensor enter, Tensor leave, Tensor kernel, Tensor initial_state, "
    "Tensor? fresh) -> (Tensor, Tensor, Tensor)"
)
library.define(
    "block_scan_backward(Tensor grad_y, Tensor? grad_starts, Tensor? grad_final, Tensor u, Tensor starts, "
    "Tensor transition, Tensor enter, Tensor leave, Tensor kernel, Tensor? fresh) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def run(
    u: Tensor,
    transition: Tensor,
    enter: Tensor,
    leave: Tensor,
    kernel: Tensor,
    initial_state: Tensor,
    fresh: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """y (dim, batch, blocks, span), the states before the blocks and after the last; tables but transition are as u."""
    return torch.ops.longwave.block_scan(u, transition, enter, leave, kernel, initial_state, fresh)


def _forward(
    u: Tensor,
    transition: Tensor,
    enter: Tensor,
    leave: Tensor,
    kernel: Tensor,
    initial_state: Tensor,
    fresh: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    y, starts, final = _outputs(u, transition, enter)
    u, *args = plain(u), *(packed(x) for x in (transition, enter, leave, kernel, fresh, initial_state))
    kernels().block_scan(
        *((*u.shape, enter.shape[2]), u.dtype == torch.float64),
        *(address(u), u.stride(), *map(address, args)),
        *(address(y), y.stride(), address(starts), address(final)),
        torch.get_num_threads(),
    )
    return y, starts, final


def _backward(
    grad_y: Tensor,
    grad_starts: Tensor | None,
    grad_final: Tensor | None,
    u: Tensor,
    starts: Tensor,
    *tables: Tensor | None,
) -> tuple[Tensor, ...]:
    gradients = _gradients(grad_y, grad_starts, grad_final, u, starts, *tables)
    grad_u, *others = gradients
    u, grad_y = plain(u), plain(grad_y)
    args, given = ([packed(x) for x in xs] for xs in ((*tables, starts), (grad_starts, grad_final)))
    kernels().block_scan_backward(
        *((*u.shape, starts.shape[3]), u.dtype == torch.float64),
        *(address(u), u.stride(), *map(address, args)),
        *(address(grad_y), grad_y.stride(), *map(address, given)),
        *(address(grad_u), grad_u.stride(), *map(address, others)),
        torch.get_num_threads(),
    )
    return gradients


def _outputs(u: Tensor, transition: Tensor, enter: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    places, state = u.shape[:3], enter.shape[2]
    return torch.empty_like(u), u.new_empty(*places, state), transition.new_empty(*places[:2], state)


def _gradients(grad_y: Tensor, grad_starts: Any, grad_final: Any, u: Tensor, starts: Tensor, *tables: Any) -> Any:
    initial = tables[0].new_empty(*starts.shape[:2], starts.shape[3])
    return torch.empty_like(u), *(x.new_empty(x.shape) for x in tables[:-1]), initial


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    u, transition, enter, leave, kernel, _, fresh = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(u, output[1], transition, enter, leave, kernel, fresh)


def _adjoint(ctx: Any, grad_y: Tensor | None, *others: Tensor | None) -> tuple[Any, ...]:
    u = ctx.saved_tensors[0]
    grad_y = torch.zeros((), dtype=u.dtype).expand(u.shape) if grad_y is None else grad_y
    return *torch.ops.longwave.block_scan_backward(grad_y, *others, *ctx.saved_tensors), None


register("block_scan", Kernel(_forward, _backward, _outputs, _gradients, _save, _adjoint))
