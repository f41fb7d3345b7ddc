"""The products by torch, the recurrence over blocks natively (native/block_scan.cpp), and their adjoint."""

from typing import Any

import torch
from torch import Tensor

from longwave.ops._native import Kernel, address, kernels, library, packed, register
from longwave.ops._native import refuses as refuses

library.define(
    "block_scan(Tensor u, Tensor transition, Tensor enter, Tensor leave, Tensor toeplitz, Tensor initial_state, "
    "Tensor? fresh) -> (Tensor, Tensor, Tensor)"
)
library.define(
    "block_scan_backward(Tensor grad_y, Tensor? grad_starts, Tensor? grad_final, Tensor u, Tensor starts, "
    "Tensor transition, Tensor enter, Tensor leave, Tensor toeplitz, Tensor? fresh) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def run(
    u: Tensor,
    transition: Tensor,
    enter: Tensor,
    leave: Tensor,
    toeplitz: Tensor,
    initial_state: Tensor,
    fresh: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """y (dim, batch, blocks, span), the states before the blocks and after the last; tables but transition are as u."""
    return torch.ops.longwave.block_scan(u.contiguous(), transition, enter, leave, toeplitz, initial_state, fresh)


def _forward(
    u: Tensor,
    transition: Tensor,
    enter: Tensor,
    leave: Tensor,
    toeplitz: Tensor,
    initial_state: Tensor,
    fresh: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    y, starts, final = _outputs(u, transition, enter)
    rows = u.flatten(1, 2)
    _recur(transition.mT, (rows @ enter).view(starts.shape), starts, initial_state, final, fresh)
    torch.bmm(rows, toeplitz, out=y.flatten(1, 2))
    y.flatten(1, 2).baddbmm_(starts.flatten(1, 2), leave.mT)
    return y, starts, final


def _backward(
    grad_y: Tensor,
    grad_starts: Tensor | None,
    grad_final: Tensor | None,
    u: Tensor,
    starts: Tensor,
    transition: Tensor,
    enter: Tensor,
    leave: Tensor,
    toeplitz: Tensor,
    fresh: Tensor | None,
) -> tuple[Tensor, ...]:
    rows, before, grad_y = u.flatten(1, 2), starts.flatten(1, 2), grad_y.contiguous().flatten(1, 2)
    grad_before = grad_y @ leave
    if grad_starts is not None:
        grad_before += grad_starts.flatten(1, 2)
    grad_initial = transition.new_empty(*starts.shape[:2], starts.shape[3])
    after = torch.empty_like(starts)  # the gradient of the state after each block
    _recur(transition, grad_before.view(starts.shape), after, grad_final, grad_initial, fresh, reverse=True)
    after = after.flatten(1, 2)
    grad_u = (grad_y @ toeplitz.mT).baddbmm_(after, enter.mT).view(u.shape)
    grad_transition = (after.mT @ before).double()
    return grad_u, grad_transition, rows.mT @ after, grad_y.mT @ before, rows.mT @ grad_y, grad_initial


def _recur(
    matrix: Tensor,
    into: Tensor,
    out: Tensor,
    initial: Tensor | None,
    final: Tensor,
    fresh: Tensor | None,
    *,
    reverse: bool = False,
) -> None:
    """x[k+1] = x[k] · matrix + into[k], written to out as x[k], or the same from the last block to the first."""
    weights, *others = packed(matrix), packed(initial), final, packed(fresh)
    kernels().block_scan(
        *into.shape,
        reverse,
        into.dtype == torch.float64,
        address(weights),
        *(address(into), into.stride(2), address(out), out.stride(2)),
        *map(address, others),
        torch.get_num_threads(),
    )


def _outputs(u: Tensor, transition: Tensor, enter: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    places, state = u.shape[:3], enter.shape[2]
    return u.new_empty(u.shape), u.new_empty(*places, state), transition.new_empty(*places[:2], state)


def _gradients(grad_y: Tensor, grad_starts: Any, grad_final: Any, u: Tensor, starts: Tensor, *tables: Tensor) -> Any:
    initial = tables[0].new_empty(*starts.shape[:2], starts.shape[3])
    return u.new_empty(u.shape), *(x.new_empty(x.shape) for x in tables[:-1]), initial


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    u, transition, enter, leave, toeplitz, _, fresh = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(u, output[1], transition, enter, leave, toeplitz, fresh)


def _adjoint(ctx: Any, grad_y: Tensor | None, *others: Tensor | None) -> tuple[Any, ...]:
    u = ctx.saved_tensors[0]
    grad_y = torch.zeros((), dtype=u.dtype).expand(u.shape) if grad_y is None else grad_y
    return *torch.ops.longwave.block_scan_backward(grad_y, *others, *ctx.saved_tensors), None


register("block_scan", Kernel(_forward, _backward, _outputs, _gradients, _save, _adjoint))
