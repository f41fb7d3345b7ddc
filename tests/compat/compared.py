"""A function in double precision against a plain loop: its values, and the gradients of all that it takes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from longwave.testing import assert_matches, error_budget

Tensors = dict[str, Tensor]
_NARROW = {torch.float64: torch.float32, torch.complex128: torch.complex64}


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed + sum(shape)))


def assert_same(function: Callable[..., Any], oracle: Callable[..., Any], tensors: Tensors) -> None:
    """The function's values and gradients are the oracle's, as near as float64 allows a plain loop.

    What a plain loop costs is measured in float32, and scaled by the ratio of the precisions.
    """
    actual, truth = _run(function, tensors), _run(oracle, tensors)
    single = _run(
        oracle, {name: tensor.to(_NARROW.get(tensor.dtype, tensor.dtype)) for name, tensor in tensors.items()}
    )
    assert actual.keys() == truth.keys()
    scale = torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps
    for name, value in truth.items():
        assert actual[name].dtype == value.dtype, name
        assert_matches(actual[name], value, scale * error_budget(value, single[name]), name)


def _run(function: Callable[..., Any], tensors: Tensors) -> Tensors:
    """Outputs by number, and the gradient of a random sum of them in each argument that has one."""
    leaves = {
        name: tensor.detach().clone().requires_grad_(tensor.is_floating_point() or tensor.is_complex())
        for name, tensor in tensors.items()
    }
    found = function(**leaves)
    outputs = [found] if isinstance(found, Tensor) else list(found)
    loss = sum(
        (output * normal(*output.shape, seed=i + 1, dtype=torch.float64).to(output.dtype)).sum().real.double()
        for i, output in enumerate(outputs)
    )
    wanted = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
    assert isinstance(loss, Tensor)
    gradients = torch.autograd.grad(loss, [*wanted.values()])
    values = {f"output {i}": output.detach() for i, output in enumerate(outputs)}
    return values | {f"gradient of {name}": grad for name, grad in zip(wanted, gradients, strict=True)}
