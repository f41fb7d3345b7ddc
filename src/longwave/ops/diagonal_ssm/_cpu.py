"""The native kernel (native/diagonal_ssm.cpp) as ``torch.ops.longwave.diagonal_ssm``, with its adjoint.

The forward pass leaves the states at every 256th position as checkpoints: a quarter of the input at 64 real states.
"""

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
    "diagonal_ssm(Tensor u, Tensor a, Tensor b, Tensor c, Tensor? d, Tensor? initial_state, Tensor? reset, "
    "Tensor? lengths, bool save) -> (Tensor, Tensor, Tensor)"
)
library.define(
    "diagonal_ssm_backward(Tensor u, Tensor grad_y, Tensor a, Tensor b, Tensor c, Tensor? d, Tensor? grad_final, "
    "Tensor? reset, Tensor? lengths, Tensor checkpoints) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def run(
    u: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor | None,
    initial_state: Tensor | None,
    reset: Tensor | None,
    lengths: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """y and the final state; the arguments are of one precision, a, b, c all real or all complex."""
    save = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (u, a, b, c, d, initial_state))
    y, final, _ = torch.ops.longwave.diagonal_ssm(u, a, b, c, d, initial_state, reset, lengths, save)
    return y, final


def _forward(u: Tensor, a: Tensor, b: Tensor, c: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    d, initial_state, reset, lengths, save = rest
    y, final, checkpoints = _outputs(u, a, b, c, *rest)
    u = plain(u)
    system = [packed(x) for x in (a, b, c, d, initial_state, reset)]
    lengths = ends(lengths)
    kernels().diagonal_ssm(
        *u.shape,
        a.shape[1],
        *kind(a),
        address(u),
        broadcast_strides(u),
        *map(address, (*system, lengths, y, final)),
        address(checkpoints) if save else 0,
        torch.get_num_threads(),
    )
    return y, final, checkpoints


def _backward(u: Tensor, grad_y: Tensor, a: Tensor, b: Tensor, c: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    d, grad_final, reset, lengths, checkpoints = rest
    gradients = _gradients(u, grad_y, a, b, c, *rest)
    u, grad_y = plain(u), plain(grad_y)
    system = [packed(x) for x in (a, b, c, d, grad_final, reset)]
    lengths = ends(lengths)
    grad_u, grad_initial, grad_a, grad_b, grad_c, grad_d = gradients
    kernels().diagonal_ssm_backward(
        *u.shape,
        a.shape[1],
        *kind(a),
        address(u),
        broadcast_strides(u),
        address(grad_y),
        broadcast_strides(grad_y),
        *map(address, (*system, lengths, checkpoints)),
        *map(address, (grad_u, grad_initial, grad_a, grad_b, grad_c)),
        0 if d is None else address(grad_d),
        torch.get_num_threads(),
    )
    return gradients


def _outputs(u: Tensor, a: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    (batch, time, dim), modes, save = u.shape, a.shape[1], rest[-1]
    lanes = kernels().vector_bytes() // u.element_size()
    rows = kernels().DIAGONAL_SSM_ROWS
    chunks = -(-time // kernels().DIAGONAL_SSM_CHUNK)
    coordinates = -(-modes * (2 if a.is_complex() else 1) // rows) * rows
    shape = [batch, -(-dim // lanes), chunks, coordinates, lanes] if save else [0]
    checkpoints = u.new_zeros(shape)  # a row that ends early writes only those before its end
    return u.new_empty(u.shape), a.new_empty(batch, dim, modes), checkpoints


def _gradients(u: Tensor, grad_y: Tensor, a: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    batch, _, dim = u.shape
    return (
        u.new_empty(u.shape),
        a.new_empty(batch, dim, a.shape[1]),
        *(a.new_empty(a.shape) for _ in "abc"),
        u.new_empty(dim),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    u, a, b, c, d, _, reset, lengths, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[2])
    ctx.save_for_backward(u, a, b, c, d, reset, lengths, output[2])


def _adjoint(ctx: Any, grad_y: Tensor | None, grad_final: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    u, a, b, c, d, reset, lengths, checkpoints = ctx.saved_tensors
    if grad_y is None:
        grad_y = torch.zeros((), dtype=u.dtype).expand(u.shape)
    grad_u, grad_initial, grad_a, grad_b, grad_c, grad_d = torch.ops.longwave.diagonal_ssm_backward(
        u, grad_y, a, b, c, d, grad_final, reset, lengths, checkpoints
    )
    needs = ctx.needs_input_grad
    return (
        grad_u,
        grad_a,
        grad_b,
        grad_c,
        None if d is None else grad_d,
        grad_initial if needs[5] else None,
        None,
        None,
        None,
    )


register("diagonal_ssm", Kernel(_forward, _backward, _outputs, _gradients, _save, _adjoint))
