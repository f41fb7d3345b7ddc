"""The matrices around a recurrence, for sequences, and the parts of what they make."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from longwave.ops import linear
from longwave.shapes import Tensor


def project(matrix: nn.Module, x: Tensor) -> Tensor:
    """matrix(x), by our operation; by the module where that is not torch's own, or has hooks."""
    if type(matrix) is nn.Linear and not is_watched(matrix):
        return project_by(matrix.weight, matrix.bias, x)
    return matrix(x)


def is_watched(part: nn.Module) -> bool:
    """Whether a call of this module is more than its class's forward, so that it has to be called."""
    hooks = part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks
    return bool(hooks) or "forward" in vars(part)


def project_by(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """W x + c, by our operation; by torch's under autocast, which chooses the dtype of torch's functions only."""
    return F.linear(x, weight, bias) if torch.is_autocast_enabled(x.device.type) else linear(x, weight, bias).y


def parts(x: Tensor, sizes: list[int]) -> tuple[Tensor, ...]:
    """x split along its last axis, as torch splits it, but its gradient is copied only where it does not exist yet."""
    return x.split(sizes, -1) if torch.compiler.is_compiling() else _Parts.apply(x, sizes)


class _Parts(torch.autograd.Function):
    """A split whose adjoint finds gradients that lie side by side already."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, sizes: list[int]) -> tuple[Tensor, ...]:
        return x.split(sizes, -1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        plain = all(type(gradient) is Tensor for gradient in gradients) and not torch.is_grad_enabled()
        return (_whole(gradients) if plain and _side_by_side(gradients) else torch.cat(gradients, -1)), None


def _side_by_side(slices: tuple[Tensor, ...]) -> bool:
    """Whether these are neighbouring slices of one tensor's last axis."""
    first, at = slices[0], slices[0].storage_offset()
    memory, axes = first.untyped_storage().data_ptr(), [i for i, size in enumerate(first.shape[:-1]) if size > 1]
    for part in slices:
        neighbour = part.untyped_storage().data_ptr() == memory and part.storage_offset() == at
        if not neighbour or part.stride(-1) != 1 or any(part.stride(i) != first.stride(i) for i in axes):
            return False
        at += part.shape[-1]
    return True


def _whole(slices: tuple[Tensor, ...]) -> Tensor:
    """The tensor that these are neighbouring slices of."""
    first, width = slices[0], sum(part.shape[-1] for part in slices)
    return first.as_strided((*first.shape[:-1], width), first.stride())
