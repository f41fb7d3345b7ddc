"""The compiled kernels, where this installation has them, and the registry through which torch calls them.

``LONGWAVE_ISA=baseline|avx2|avx512`` forces an instruction set; without it the best that the processor runs is taken.
``LONGWAVE_REQUIRE_NATIVE=1`` makes a missing extension an error instead of a slower library.
"""

import importlib
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import torch

from longwave.errors import UnsupportedError

LITTLE_WORK = 65536
"""Elements, times states where there are some, that one thread goes through in the time of starting a second."""

library = torch.library.Library("longwave", "DEF")
"""Every native operation is defined here, as ``torch.ops.longwave.<name>``."""


def _load() -> tuple[ModuleType | None, str]:
    """The extension module, or None and the reason."""
    try:
        native = importlib.import_module("longwave._native")
    except ImportError as error:
        if os.environ.get("LONGWAVE_REQUIRE_NATIVE", "").lower() in {"1", "true", "yes", "on"}:
            raise UnsupportedError(
                f"LONGWAVE_REQUIRE_NATIVE is set, but the native kernels cannot be loaded ({error}). "
                "Reinstall longwave where a C++20 compiler works."
            ) from error
        return None, f"this installation has no native kernels ({error})"
    isa = os.environ.get("LONGWAVE_ISA")
    if isa:
        if isa not in native.available():
            raise UnsupportedError(f"LONGWAVE_ISA={isa}: this machine runs {', '.join(native.available())}.")
        native.use(isa)
    return native, ""


_module, missing = _load()


def available() -> bool:
    """Whether the native kernels were built and load on this machine; `missing` says why not."""
    return _module is not None


def kernels() -> ModuleType:
    """The extension module, whose functions take addresses, sizes and strides."""
    assert _module is not None, "callers ask `refuses` first"
    return _module


def refuses(*args: object) -> str | None:
    """Why the native kernels cannot take these arguments, or None."""
    if _module is None:
        return missing
    for arg in args:
        if isinstance(arg, torch.Tensor) and not arg.is_cpu:
            return f"the native kernels run on the CPU, and a tensor is on {arg.device}"
    return None


def refuses_exported(*args: object) -> str | None:
    """As `refuses`, of an operation whose reference is a few of torch's own: an exported program takes those, and runs
    where longwave is not."""
    return "a program is being exported" if torch.compiler.is_exporting() else refuses(*args)


_OWN = {torch.Tensor, torch.nn.Parameter, type(None)}


def unrecorded(*tensors: torch.Tensor | None) -> bool:
    """Whether only the kernel takes part in a call: no gradients, no compiler, no tensor that stands for another.

    The kernel is then called past torch's dispatcher, which costs more than a single position of a sequence does.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    return {type(tensor) for tensor in tensors} <= _OWN


def threads(work: int) -> int:
    """How many threads a kernel is worth: waking a second one takes longer than little work of the first."""
    return 1 if work < LITTLE_WORK else torch.get_num_threads()


def address(tensor: torch.Tensor | None) -> int:
    """Where a tensor's data lies; 0 for None."""
    return 0 if tensor is None else tensor.data_ptr()


def broadcast_strides(tensor: torch.Tensor) -> list[int]:
    """Strides in elements, 0 along axes of size one, which then broadcast."""
    return [0 if size == 1 else stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)]


class Kernel(NamedTuple):
    """A native operation as torch sees it: what runs, the shapes alone, and what links the two passes."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    outputs: Callable[..., Any]
    gradients: Callable[..., Any]
    save: Callable[..., None]
    adjoint: Callable[..., Any]


def register(op: str, kernel: Kernel) -> None:
    """Give the defined operations `op` and `op`_backward their code, where the extension is there."""

    def no_second_derivative(*_: object) -> None:
        raise UnsupportedError(
            f"{op}: the native kernel has no second derivatives; use impl='reference', or leave create_graph off."
        )

    if not available():
        return
    library.impl(op, kernel.forward, "CPU")
    library.impl(f"{op}_backward", kernel.backward, "CPU")
    torch.library.register_fake(f"longwave::{op}", kernel.outputs, lib=library)
    torch.library.register_fake(f"longwave::{op}_backward", kernel.gradients, lib=library)
    torch.library.register_autograd(f"longwave::{op}", kernel.adjoint, setup_context=kernel.save, lib=library)
    # Without this torch would take the result of the backward pass for a constant.
    torch.library.register_autograd(f"longwave::{op}_backward", no_second_derivative, lib=library)


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """Without a pending conjugation or negation, which a kernel would not see."""
    return tensor.resolve_conj().resolve_neg()


def packed(tensor: torch.Tensor | None) -> torch.Tensor | None:
    """Plain and contiguous."""
    return None if tensor is None else plain(tensor).contiguous()


def ends(lengths: torch.Tensor | None) -> torch.Tensor | None:
    """Row lengths as the kernels read them."""
    return None if lengths is None else lengths.to(torch.int64).contiguous()


def kind(tensor: torch.Tensor) -> tuple[bool, bool]:
    """(complex?, double precision?)"""
    return tensor.is_complex(), tensor.dtype in (torch.float64, torch.complex128)
