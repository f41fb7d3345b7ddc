"""The discretised system of a layer that is not being trained, kept until a parameter changes."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar, final

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from longwave.shapes import Tensor

T = TypeVar("T")

_optimizer_steps = 0


def _count_optimizer_step(*_: object) -> None:
    global _optimizer_steps
    _optimizer_steps += 1


# Fused optimizers write to parameters without counting a version.
register_optimizer_step_post_hook(_count_optimizer_step)


class _Entry(NamedTuple):
    """A value, what marks its parameters, and the tensors held so that none of those marks is used again."""

    marks: tuple[object, int, list[tuple[int, int, int]]]
    held: list[tuple[Tensor, Tensor]]
    value: Any


@final
class SystemCache:
    """Remembers one value computed from parameters while gradients are off; never holds an autograd graph.

    It sees optimizers, and all else that moves a parameter's version counter or its storage: ``load_state_dict``,
    ``.to()``, in-place operations under ``no_grad``, assignment. An in-place write through ``parameter.data`` moves
    neither, and deceives autograd likewise: write under ``torch.no_grad()`` instead.
    A copied or unpickled cache starts empty.
    """

    def __init__(self) -> None:
        self._entry: _Entry | None = None

    def get(self, compute: Callable[[], T], parameters: Iterable[Tensor], key: object) -> T:
        """Return ``compute()``, or what it returned last if ``key`` and every parameter are as they were."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return compute()
        parameters = list(parameters)
        if True in [parameter.is_inference() for parameter in parameters]:  # those count no versions
            return compute()
        # The object, how often it was written to, and where its numbers lie.
        seen = [(id(parameter), parameter._version, parameter.data_ptr()) for parameter in parameters]
        marks, entry = (key, _optimizer_steps, seen), self._entry
        if entry is None or marks != entry.marks:
            held = [(parameter, parameter.detach()) for parameter in parameters]
            self._entry = entry = _Entry(marks, held, compute())  # at once, so that threads never see half of it
        return entry.value

    def __reduce__(self) -> tuple[type["SystemCache"], tuple[()]]:
        return SystemCache, ()
