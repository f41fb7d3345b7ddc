"""The native kernel (native/selective_scan.cpp) as ``torch.ops.longwave.selective_scan``, with its adjoint.

The forward pass leaves the states at every 64th position as checkpoints: a quarter of the input at 16 states.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from longwave.ops._native import (
    Kernel,
    address,
    broadcast_strides,
    kernels,
    kind,
    library,
    packed,
    plain,
    register,
    unrecorded,
)
from longwave.ops._native import refuses as refuses

_INPUTS = (
    "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? delta_bias, "
    "Tensor? initial_state, bool delta_softplus, Tensor? marks"
)
library.define(f"selective_scan({_INPUTS}, bool save) -> (Tensor, Tensor, Tensor)")
library.define(
    f"selective_scan_backward({_INPUTS}, Tensor checkpoints, Tensor grad_y, Tensor? grad_final) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)


class Inputs(NamedTuple):
    """The arguments of the operation, of one precision; A, B and C all real or all complex."""

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    delta_bias: Tensor | None
    initial_state: Tensor | None
    delta_softplus: bool
    marks: Tensor | None

    def groups(self) -> int:
        return self.B.shape[2] if self.B.ndim == 4 else self.C.shape[2] if self.C.ndim == 4 else 1

    def blocks(self) -> int:
        """Vectors of channels in a group."""
        lanes = kernels().vector_bytes() // self.u.element_size()
        return -(-(self.u.shape[2] // self.groups()) // lanes)

    def call(
        self, backward: bool, grad_y: Tensor | None, grad_final: Tensor | None, checkpoints: Tensor | None, *out: Any
    ) -> None:
        """Run the kernel into `out`, in the order of native/bindings.cpp."""
        sequences = [None if x is None else plain(x) for x in (self.u, self.delta, self.z, grad_y)]
        system = (self.A, self.B, self.C, self.D, self.delta_bias, self.initial_state, grad_final, self.marks)
        tensors = [*map(packed, system), checkpoints]
        is_complex, is_double = kind(self.A)
        kernels().selective_scan(
            backward,
            is_double,
            [*self.u.shape, self.groups(), self.A.shape[1]],
            [is_complex, self.delta_softplus, self.B.ndim == 4, self.C.ndim == 4],
            [address(x) for x in sequences],
            [[0, 0, 0] if x is None else broadcast_strides(x) for x in sequences],
            [address(x) for x in tensors],
            [address(x) for x in out],
            torch.get_num_threads(),
        )


def run(*inputs: Any) -> tuple[Tensor, Tensor]:
    """y and the final state; the arguments are those of `Inputs`."""
    if unrecorded(*(x for x in inputs if not isinstance(x, bool))):
        return _forward(*inputs, False)[:2]
    save = torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in inputs)
    y, final, _ = torch.ops.longwave.selective_scan(*inputs, save)
    return y, final


def _forward(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    inputs, save = Inputs(*args[:-1]), args[-1]
    y, final, checkpoints = _outputs(*args)
    inputs.call(False, None, None, checkpoints if save else None, y, final, *[None] * 7)
    return y, final, checkpoints


def _backward(*args: Any) -> tuple[Tensor, ...]:
    inputs, (checkpoints, grad_y, grad_final) = Inputs(*args[:-3]), args[-3:]
    gradients = _gradients(*args)
    grad_u, grad_initial, grad_delta, grad_z, *rest = gradients
    inputs.call(
        True,
        grad_y,
        grad_final,
        checkpoints,
        *(grad_u, grad_initial, grad_delta, None if inputs.z is None else grad_z, *rest),
    )
    return gradients


def _outputs(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    inputs, save = Inputs(*args[:-1]), args[-1]
    (batch, time, dim), modes = inputs.u.shape, inputs.A.shape[1]
    chunks, tile = -(-time // kernels().SELECTIVE_SCAN_CHUNK), kernels().SELECTIVE_SCAN_TILE
    coordinates = -(-modes * (2 if inputs.A.is_complex() else 1) // tile) * tile
    lanes = kernels().vector_bytes() // inputs.u.element_size()
    shape = [batch, inputs.groups(), inputs.blocks(), chunks, coordinates, lanes] if save else [0]
    return inputs.u.new_empty(inputs.u.shape), inputs.A.new_empty(batch, dim, modes), inputs.u.new_empty(shape)


def _gradients(*args: Any) -> tuple[Tensor, ...]:
    """Of u, initial_state, delta, z; for each row A, B, C, D, delta_bias, but of a varying B or C for each strip."""
    inputs = Inputs(*args[:-3])
    u, A, (batch, _, dim) = inputs.u, inputs.A, inputs.u.shape
    strips = -(-inputs.blocks() // kernels().SELECTIVE_SCAN_STRIP)

    def system(x: Tensor) -> Tensor:
        return A.new_empty(batch, *A.shape) if x.ndim == 2 else A.new_empty(strips, *x.shape)

    return (
        u.new_empty(u.shape),
        A.new_empty(batch, *A.shape),
        u.new_empty(u.shape),
        u.new_empty(u.shape if inputs.z is not None else 0),
        A.new_empty(batch, *A.shape),
        system(inputs.B),
        system(inputs.C),
        u.new_empty(batch, dim),
        u.new_empty(batch, dim),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    given = Inputs(*inputs[:-1])
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[2])
    ctx.delta_softplus = given.delta_softplus
    ctx.save_for_backward(*given[:8], given.marks, output[2])


def _adjoint(ctx: Any, grad_y: Tensor | None, grad_final: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    *tensors, marks, checkpoints = ctx.saved_tensors
    if grad_y is None:
        grad_y = torch.zeros((), dtype=tensors[0].dtype).expand(tensors[0].shape)
    du, dinitial, ddelta, dz, *summed = torch.ops.longwave.selective_scan_backward(
        *tensors, None, ctx.delta_softplus, marks, checkpoints, grad_y, grad_final
    )
    dA, dB, dC, dD, dbias = (x.sum(0) for x in summed)
    given = (du, ddelta, dA, dB, dC, dD, dz, dbias, dinitial)
    needed = (x if need else None for x, need in zip(given, ctx.needs_input_grad, strict=False))
    return (*needed, None, None, None)


register("selective_scan", Kernel(_forward, _backward, _outputs, _gradients, _save, _adjoint))
