"""A function in double precision against a plain loop: its values, and the gradients of all that it takes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from longwave.testing import assert_matches, error_budget

Tensors = dict[str, Tensor]
_DRAWS = 3  # over which the plain loop's error is measured
_NARROW = {torch.float64: torch.float32, torch.complex128: torch.complex64}


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed + sum(shape)))


def assert_same(function: Callable[..., Any], oracle: Callable[..., Any], tensors: Tensors) -> None:
    """The function's values and gradients are the oracle's, as near as float64 allows a plain loop.

    The budget is made as in tests/ops/test_contract.py: what the loop costs in float32, the worst of several draws,
    scaled by the ratio of the precisions, once for the function and once for the loop that is the truth.
    """
    actual, truth = _run(function, tensors), _run(oracle, tensors)
    ratio = 2 * torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps
    worst = dict.fromkeys(truth, 0.0)
    for seed in range(_DRAWS):
        narrow = {name: _redrawn(tensor, seed).to(_NARROW[tensor.dtype]) for name, tensor in tensors.items()}
        exact = _run(oracle, {name: tensor.to(tensors[name].dtype) for name, tensor in narrow.items()})
        for name, value in _run(oracle, narrow).items():
            relative = error_budget(exact[name], value) / max(float(exact[name].abs().max()), 1e-30)
            worst[name] = max(worst[name], relative)
    assert actual.keys() == truth.keys()
    for name, value in truth.items():
        assert actual[name].dtype == value.dtype, name
        assert_matches(actual[name], value, ratio * worst[name] * float(value.abs().max()), name)


def _redrawn(tensor: Tensor, seed: int) -> Tensor:
    """The same numbers in another order; the first draw is the tensor itself."""
    if seed == 0:
        return tensor
    order = torch.randperm(tensor.numel(), generator=torch.Generator().manual_seed(seed))
    return tensor.flatten()[order].view(tensor.shape)


def _run(function: Callable[..., Any], tensors: Tensors) -> Tensors:
    """Outputs by number, and the gradients of one fixed functional of them, whose weights are exact anywhere."""
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in tensors.items()}
    found = function(**leaves)
    outputs = [found] if isinstance(found, Tensor) else list(found)
    rng = torch.Generator().manual_seed(1)
    total = torch.zeros((), dtype=torch.float64)
    for output in outputs:
        parts = torch.view_as_real(output) if output.is_complex() else output[..., None]
        total = total + (parts.double() * torch.randint(-3, 4, parts.shape, generator=rng)).sum()
    gradients = torch.autograd.grad(total, [*leaves.values()])
    values = {f"output {i}": output.detach() for i, output in enumerate(outputs)}
    return values | {f"gradient of {name}": grad for name, grad in zip(leaves, gradients, strict=True)}
