"""``longwave doctor``: what this installation can do, and whether it does it right."""

from importlib import metadata
from platform import platform, python_version
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from longwave import __version__, ops
from longwave.cli.parser import Parser
from longwave.errors import RunError
from longwave.ops import _native, explain
from longwave.ops._dispatch import OPS
from longwave.testing import make_inputs

__all__ = ["doctor", "run"]

TOLERANCE = 1e-5  # max|a − b| / max|b| in single precision: the claim that every view of a model makes
EXTRAS = {
    "train": ("lightning", "torchmetrics", "tensorboard"),
    "plot": ("matplotlib",),
    "hub": ("huggingface_hub", "tokenizers"),
    "demo": ("mlxtend",),
}


def run(words: list[str]) -> None:
    """Examine the installation."""
    Parser(prog="longwave doctor", description="Check this installation.").parse_args(words)
    doctor()


def doctor() -> None:
    """Print versions, processor, and what each operation takes here; check every operation against its reference.

    Raises:
        RunError: an operation differs from its reference by more than TOLERANCE.
    """
    console = Console()
    console.print(_facts())
    table, wrong = _operations()
    console.print(table)
    if wrong:
        raise RunError(f"{', '.join(wrong)}: results differ from the reference; do not trust this installation.")


def _facts() -> Table:
    """Versions, the processor and the optional packages."""
    table = Table("what", "here", title=f"longwave {__version__}", title_justify="left")
    table.add_row("python, system", f"{python_version()}, {platform()}")
    for package in ("torch", "numpy", "safetensors"):
        table.add_row(package, metadata.version(package))
    if _native.available():
        native = _native.kernels()
        table.add_row(
            "native kernels", f"instruction set {native.active()}; this machine runs {', '.join(native.available())}"
        )
        threads = f"{torch.get_num_threads()} (torch.set_num_threads)"
        table.add_row("threads", threads if native.openmp() else "1: the kernels were compiled without OpenMP")
    else:
        table.add_row(
            "native kernels", f"none: {_native.missing}. Everything runs, slowly; reinstall with a C++20 compiler."
        )
    table.add_row("cuda", torch.cuda.get_device_name() if torch.cuda.is_available() else "none")
    for extra, packages in EXTRAS.items():
        missing = [name for name in packages if not _installed(name)]
        table.add_row(
            f"extra {extra}", f"missing {', '.join(missing)}: pip install 'longwave[{extra}]'" if missing else "there"
        )
    return table


def _operations() -> tuple[Table, list[str]]:
    """What `auto` takes for each operation on each device, why the others refuse, and the self-check."""
    table = Table("operation", "device", "takes", "refused", "differs by", title="operations", title_justify="left")
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    wrong = []
    for op in OPS:
        for device in devices:
            tensors = {n: _single(x).to(device) for n, x in make_inputs(op, time=1047, dim=5, modes=3).tensors.items()}
            choice = explain(op, *tensors.values())
            deviation = _deviation(op, tensors)
            right = deviation <= TOLERANCE  # a NaN is not
            if not right:
                wrong.append(f"{op} on {device}")
            refused = "\n".join(f"{impl}: {why}" for impl, why in choice.refused.items())
            table.add_row(op, device, choice.impl, refused, f"{deviation:.0e} {'ok' if right else 'WRONG'}")
    return table, wrong


def _deviation(op: str, tensors: dict[str, Tensor]) -> float:
    """Of what `auto` takes in single from the reference in double precision, relative to the largest value."""
    wide = {name: x.to(torch.promote_types(x.dtype, torch.float64)) for name, x in tensors.items()}
    truth, fast = _call(op, wide, "reference"), _call(op, tensors, "auto")
    return float((fast.to(truth.dtype) - truth).abs().max() / truth.abs().max())


def _call(op: str, tensors: dict[str, Tensor], impl: str) -> Tensor:
    """The first result."""
    args: list[Any] = list(tensors.values())
    if op == "diagonal_ssm":
        args.insert(1, None)
    elif op in ("vandermonde", "krylov", "block_tables"):
        args.append(64)
    return getattr(ops, op)(*args, impl=impl)[0]


def _single(x: Tensor) -> Tensor:
    return x.to(torch.complex64 if x.is_complex() else torch.float32)


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
