"""The native kernel (native/ssd.cpp) as ``torch.ops.longwave.ssd``, with its adjoint.

The forward pass leaves the states at the beginning of every chunk as checkpoints. States are (state, head_dim) here.
The gradients of x, B and C lie side by side in one tensor, as what a convolution returns is split: whoever puts them
together again has nothing to copy.
"""

from typing import Any

import torch
from torch import Tensor

from longwave.ops._native import Kernel, address, broadcast_strides, kernels, library, packed, plain, register
from longwave.ops._native import refuses as refuses

LONGEST = 64  # chunk: at 128 states a position costs twice as much in the states between chunks as inside one of these

library.define(
    "ssd(Tensor x, Tensor a, Tensor? w, Tensor B, Tensor C, Tensor? D, Tensor? initial_state, Tensor? marks, "
    "int chunk, bool save) -> (Tensor, Tensor, Tensor)"
)
library.define(
    "ssd_backward(Tensor x, Tensor grad_y, Tensor a, Tensor? w, Tensor B, Tensor C, Tensor? D, Tensor? grad_final, "
    "Tensor? marks, int chunk, bool of_initial, Tensor checkpoints) -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def run(
    x: Tensor,
    a: Tensor,
    w: Tensor | None,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    initial_state: Tensor | None,
    marks: Tensor | None,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """y and the final state; a in float64, all else of one precision, `D` (heads, head_dim)."""
    leaves = (x, a, w, B, C, D, initial_state)
    save = torch.is_grad_enabled() and any(leaf is not None and leaf.requires_grad for leaf in leaves)
    initial = None if initial_state is None else initial_state.mT
    y, final, _ = torch.ops.longwave.ssd(x, a, w, B, C, D, initial, marks, min(chunk, LONGEST), save)
    return y, final.mT.contiguous()


def _forward(x: Tensor, a: Tensor, w: Tensor | None, B: Tensor, C: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    D, initial_state, marks, chunk, save = rest
    y, final, checkpoints = _outputs(x, a, w, B, C, *rest)
    inputs = (a, w, D, initial_state, None, marks, checkpoints if save else None)
    _call(False, chunk, x.shape[2] * x.shape[3], (x, B, C, None), inputs, (y, final, *(None,) * 5))
    return y, final, checkpoints


def _backward(
    x: Tensor, grad_y: Tensor, a: Tensor, w: Tensor | None, B: Tensor, C: Tensor, *rest: Any
) -> tuple[Tensor, ...]:
    D, grad_final, marks, chunk, of_initial, checkpoints = rest
    gradients = _gradients(x, grad_y, a, w, B, C, *rest)
    grad_sequences, grad_a, grad_w, grad_D, grad_initial = gradients
    grad_x, *grad_BC = _apart(grad_sequences, x, B)
    teams = -(-x.shape[2] // B.shape[2] // kernels().SSD_TEAM)
    of_teams = x.new_empty(2, teams, *B.shape)
    inputs = (a, w, D, None, grad_final, marks, checkpoints)
    states = grad_x, grad_initial if of_initial else None
    others = grad_a, grad_w if w is not None else None, *of_teams, grad_D if D is not None else None
    _call(True, chunk, grad_sequences.shape[2], (x, B, C, grad_y), inputs, (*states, *others))
    for of_team, total in zip(of_teams, grad_BC, strict=True):
        torch.sum(of_team, 0, out=total)
    return gradients


def _outputs(x: Tensor, a: Tensor, w: Tensor | None, B: Tensor, C: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    batch, time, heads, dim = x.shape
    chunk, save = rest[-2:]
    states, unit = (batch, heads, B.shape[3], dim), kernels().SSD_PADDING // x.element_size()
    padded = [-(-size // unit) * unit for size in states[2:]]
    checkpoints = [batch, heads, -(-time // chunk), *padded] if save else [0]
    return x.new_empty(x.shape), x.new_empty(states), x.new_empty(checkpoints)


def _gradients(
    x: Tensor, grad_y: Tensor, a: Tensor, w: Tensor | None, B: Tensor, C: Tensor, *rest: Any
) -> tuple[Tensor, ...]:
    D, chunk, of_initial = rest[0], rest[3], rest[4]
    batch, time, heads, dim = x.shape
    of_D = x.new_empty(batch, -(-time // chunk), heads, dim) if D is not None else x.new_empty(0)
    of_w = w.new_empty(w.shape) if w is not None else x.new_empty(0)
    of_state = x.new_empty(batch, heads, B.shape[3], dim) if of_initial else x.new_empty(0)
    sequences = x.new_empty(batch, time, heads * dim + 2 * B.shape[2] * B.shape[3])
    return sequences, a.new_empty(a.shape), of_w, of_D, of_state


def _apart(sequences: Tensor, x: Tensor, B: Tensor) -> tuple[Tensor, ...]:
    """Views of what stands in place of x, B and C in one tensor."""
    axes = x.shape[2:], B.shape[2:], B.shape[2:]
    parts = sequences.split([shape.numel() for shape in axes], -1)
    return tuple(part.unflatten(-1, shape) for part, shape in zip(parts, axes, strict=True))


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, marks, ctx.chunk, ctx.save = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, marks, output[2])


def _adjoint(ctx: Any, grad_y: Tensor | None, grad_final: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    x, a, w, B, C, D, initial_state, marks, checkpoints = ctx.saved_tensors
    if grad_y is None:
        grad_y = torch.zeros((), dtype=x.dtype).expand(x.shape)
    sequences, grad_a, grad_w, grad_D, grad_initial = torch.ops.longwave.ssd_backward(
        x, grad_y, a, w, B, C, D, grad_final, marks, ctx.chunk, initial_state is not None, checkpoints
    )
    grad_x, grad_B, grad_C = _apart(sequences, x, B)
    return (
        grad_x,
        grad_a,
        None if w is None else grad_w,
        grad_B,
        grad_C,
        None if D is None else grad_D.sum((0, 1)),
        None if initial_state is None else grad_initial,
        None,
        None,
        None,
    )


def _call(
    backward: bool,
    chunk: int,
    y_time: int,
    sequences: tuple[Tensor | None, ...],
    inputs: tuple[Tensor | None, ...],
    outputs: tuple[Tensor | None, ...],
) -> None:
    """Hand everything to the kernel, in the order of native/bindings.cpp."""
    x, B = sequences[:2]
    assert x is not None
    assert B is not None
    batch, time, heads, dim = x.shape
    seen = [None if u is None else plain(u) for u in sequences]  # named, so that copies live during the call
    held = [packed(u) for u in inputs]
    kernels().ssd(
        backward,
        x.dtype == torch.float64,
        [batch, time, heads, B.shape[2], dim, B.shape[3], chunk, y_time],
        [address(u) for u in seen],
        [[0] * 4 if u is None else broadcast_strides(u) for u in seen],
        [address(u) for u in held],
        [address(u) for u in outputs],
        torch.get_num_threads(),
    )


register("ssd", Kernel(_forward, _backward, _outputs, _gradients, _save, _adjoint))
