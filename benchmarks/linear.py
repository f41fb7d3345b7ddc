"""`linear` against torch's, of many positions and of few; `gated_norm` against a chain of torch's functions.

python -m benchmarks.linear
"""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import measure
from longwave.ops import gated_norm, linear

POSITIONS = 1024
WEIGHTS = 24  # different ones, as a model has them: each comes from memory
SIZES = {"Mamba's in_proj": (768, 3072), "Mamba-2's in_proj": (768, 3352), "their out_proj": (1536, 768)}


def ours(x: Tensor, weight: Tensor) -> Tensor:
    return linear(x, weight).y


def products() -> list[measure.Row]:
    """Forward, and forward and backward."""
    rows = []
    for name, (inputs, outputs) in SIZES.items():
        leaves = [torch.randn(*shape, requires_grad=True) for shape in ((POSITIONS, inputs), (outputs, inputs))]
        gradient = torch.randn(POSITIONS, outputs)

        def train(function: Callable[[Tensor, Tensor], Tensor], leaves: list = leaves, g: Tensor = gradient) -> None:
            measure.backward(function(*leaves), leaves, g)

        what = f"{name}, {POSITIONS} positions, {inputs} to {outputs}"
        work = POSITIONS * inputs * outputs / 1e6
        with torch.no_grad():
            x, weight = leaves
            rows.append(
                measure.compare(
                    f"{what}, forward",
                    lambda x=x, w=weight: ours(x, w),
                    "F.linear",
                    lambda x=x, w=weight: F.linear(x, w),
                    f"{work:.0f} M multiply-adds",
                )
            )
        rows.append(
            measure.compare(
                f"{what}, forward+backward",
                lambda t=train: t(ours),
                "F.linear",
                lambda t=train: t(F.linear),
                f"{3 * work:.0f} M multiply-adds",
            )
        )
    return rows


def few() -> list[measure.Row]:
    """Of few positions: reading the weights is all there is to do."""
    rows = []
    for what, count, (inputs, outputs) in (
        ("Mamba's in_proj", WEIGHTS, SIZES["Mamba's in_proj"]),
        ("their out_proj", WEIGHTS, SIZES["their out_proj"]),
        ("the head of a language model", 1, (768, 50280)),
    ):
        weights = [torch.randn(outputs, inputs) for _ in range(count)]
        for positions in (1, 8):
            x = torch.randn(positions, inputs)

            def through(function: Callable[[Tensor, Tensor], Tensor], x: Tensor = x, weights: list = weights) -> None:
                for weight in weights:
                    function(x, weight)

            row = measure.compare(
                f"{what}, {positions} positions, {count} weights, {inputs} to {outputs}",
                lambda t=through: t(ours),
                "F.linear",
                lambda t=through: t(F.linear),
            )
            rate = 4e-6 * count * inputs * outputs / row.ours_ms
            rows.append(replace(row, note=f"{rate:.0f} GB of weights/s"))
    return rows


def norm() -> list[measure.Row]:
    """Of 1536 channels, the gate a part of a wider tensor."""
    channels = 1536
    leaves = [torch.randn(POSITIONS, channels), torch.randn(POSITIONS, 3352)[:, :channels], torch.randn(channels)]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    gradient = torch.randn(POSITIONS, channels)

    def theirs(x: Tensor, z: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x * F.silu(z), (channels,), weight, 1e-5)

    def train(function: Callable[..., Tensor]) -> None:
        measure.backward(function(*leaves), leaves, gradient)

    what = f"gated_norm, {POSITIONS} positions of {channels}, forward+backward"
    peer = "F.silu and F.rms_norm"
    return [measure.compare(what, lambda: train(lambda *a: gated_norm(*a).y), peer, lambda: train(theirs))]


def main() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        rows = few()
    measure.write("linear", products() + rows + norm())


if __name__ == "__main__":
    measure.command(main)
