"""torch.library.opcheck on what reaches the registry: the native operations and their adjoints, with real arguments."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from test_contract import call, gradients, rounded
from test_drawn import ENDS
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cases import NATIVE, Case

OPTIONS = {"linear_scan": {"reverse": True}, "krylov": {"reverse": True}, "gated_linear": {"gelu": True}}
ALL = 9  # as many arguments as an operation has


class Registry(TorchDispatchMode):
    """Keeps every call of an operation of torch.ops.longwave."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.namespace == "longwave":
            self.calls.append((func, args))
        return func(*args, **(kwargs or {}))


def cases() -> Iterator[Any]:
    """Every operation plainly, for one gradient and for all; and with all that marks positions, in single precision."""
    for op in NATIVE:
        sizes = {"batch": 1, "time": 70} if op in ("gated_linear", "linear") else {"batch": 2, "time": 19}
        sizes |= {"dim": 3, "modes": 2}
        yield pytest.param(op, Case("", sizes), torch.float64, 1, id=f"{op}-one-gradient")
        yield pytest.param(op, Case("", sizes), torch.float64, ALL, id=op)
        yield pytest.param(
            op, Case("", sizes, ENDS.get(op, ()), OPTIONS.get(op, {})), torch.float32, ALL, id=f"{op}-marked"
        )


@pytest.mark.parametrize(("op", "case", "dtype", "leaves"), list(cases()))
def test_opcheck(op: str, case: Case, dtype: torch.dtype, leaves: int) -> None:
    inputs = case.inputs(op)
    tensors = rounded(op, inputs.tensors, dtype)
    for x in list(tensors.values())[:leaves]:
        x.requires_grad_()
    with Registry() as registry:
        out = call(op, tensors, inputs.options, impl="cpu")
        if leaves == ALL:
            gradients(out, tensors)
    names = [op, f"{op}_backward"] if leaves == ALL else [op]
    assert [func.name() for func, _ in registry.calls] == [f"longwave::{name}" for name in names]
    for func, args in registry.calls:
        forward = not func.name().endswith("_backward")
        fresh = (x.detach().requires_grad_(forward and x.requires_grad) if isinstance(x, Tensor) else x for x in args)
        torch.library.opcheck(func, tuple(fresh))


def test_every_registered_operation_is_checked() -> None:
    registered = {name.split("::")[1] for name in torch._C._dispatch_get_all_op_names() if "longwave::" in name}
    assert registered == {*NATIVE, *(f"{op}_backward" for op in NATIVE)}
