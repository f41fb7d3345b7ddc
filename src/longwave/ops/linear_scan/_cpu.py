"""The native kernel (native/linear_scan.cpp) as ``torch.ops.longwave.linear_scan``, with its adjoint."""

from typing import Any

import torch
from torch import Tensor

from longwave.ops._native import (
    Kernel,
    address,
    broadcast_strides,
    ends,
    kernels,
    kind,
    library,
    packed,
    plain,
    register,
)
from longwave.ops._native import refuses as refuses

library.define(
    "linear_scan(Tensor a, Tensor b, Tensor? initial_state, Tensor? reset, Tensor? lengths, bool reverse) "
    "-> (Tensor, Tensor)"
)
library.define(
    "linear_scan_backward(Tensor a, Tensor states, Tensor grad_states, Tensor? initial_state, Tensor? grad_final, "
    "Tensor? reset, Tensor? lengths, bool reverse, bool with_grad_a) -> (Tensor, Tensor, Tensor)"
)


def run(
    a: Tensor, b: Tensor, initial_state: Tensor | None, reset: Tensor | None, lengths: Tensor | None, reverse: bool
) -> tuple[Tensor, Tensor]:
    """States and final state; all tensors of one dtype, `a` (batch or 1, time or 1, dim or 1)."""
    return torch.ops.longwave.linear_scan(a, b, initial_state, reset, lengths, reverse)


def _forward(
    a: Tensor, b: Tensor, initial_state: Tensor | None, reset: Tensor | None, lengths: Tensor | None, reverse: bool
) -> tuple[Tensor, Tensor]:
    a, b, initial_state, reset, lengths = plain(a), plain(b), packed(initial_state), packed(reset), ends(lengths)
    states, final = _outputs(a, b)
    kernels().linear_scan(
        *b.shape,
        *kind(b),
        reverse,
        *_view(a),
        *_view(b),
        *map(address, (initial_state, reset, lengths, states, final)),
        torch.get_num_threads(),
    )
    return states, final


def _backward(
    a: Tensor,
    states: Tensor,
    grad_states: Tensor,
    initial_state: Tensor | None,
    grad_final: Tensor | None,
    reset: Tensor | None,
    lengths: Tensor | None,
    reverse: bool,
    with_grad_a: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    a, grad_states, initial_state, grad_final = plain(a), plain(grad_states), packed(initial_state), packed(grad_final)
    reset, lengths = packed(reset), ends(lengths)
    grad_b, grad_initial, grad_a = _gradients(a, states, grad_states, with_grad_a)
    kernels().linear_scan_backward(
        *states.shape,
        *kind(states),
        reverse,
        *_view(a),
        *_view(states),
        *_view(grad_states),
        *map(address, (initial_state, grad_final, reset, lengths, grad_b, grad_initial)),
        address(grad_a) if with_grad_a else 0,
        a.shape[1] == 1,
        torch.get_num_threads(),
    )
    return grad_b, grad_initial, grad_a


def _outputs(a: Tensor, b: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return b.new_empty(b.shape), b.new_empty(b.shape[0], b.shape[2])


def _gradients(a: Tensor, states: Tensor, grad_states: Tensor, with_grad_a: bool) -> tuple[Tensor, Tensor, Tensor]:
    batch, time, dim = states.shape
    grad_a = states.new_empty(batch, 1 if a.shape[1] == 1 else time, dim) if with_grad_a else states.new_empty(0)
    return states.new_empty(states.shape), states.new_empty(batch, dim), grad_a


def _gradients_fake(a: Tensor, states: Tensor, grad_states: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _gradients(a, states, grad_states, rest[-1])


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    a, _, initial_state, reset, lengths, ctx.reverse = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(a, output[0], initial_state, reset, lengths)


def _adjoint(ctx: Any, grad_states: Tensor | None, grad_final: Tensor | None) -> tuple[Tensor | None, ...]:
    a, states, initial_state, reset, lengths = ctx.saved_tensors
    if grad_states is None:
        grad_states = torch.zeros((), dtype=states.dtype).expand(states.shape)
    grad_b, grad_initial, grad_a = torch.ops.longwave.linear_scan_backward(
        a, states, grad_states, initial_state, grad_final, reset, lengths, ctx.reverse, ctx.needs_input_grad[0]
    )
    return (
        grad_a.sum_to_size(a.shape) if ctx.needs_input_grad[0] else None,
        grad_b,
        None if initial_state is None else grad_initial,
        None,
        None,
        None,
    )


def _view(x: Tensor) -> tuple[int, list[int]]:
    return address(x), broadcast_strides(x)


register("linear_scan", Kernel(_forward, _backward, _outputs, _gradients_fake, _save, _adjoint))
