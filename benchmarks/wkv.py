"""`wkv` against a loop over positions in eager PyTorch, as transformers runs RWKV on a CPU.

python -m benchmarks.wkv
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks import measure
from longwave.ops import wkv

SHAPE = (2, 1024, 768)


def ours(k: Tensor, v: Tensor, w: Tensor, u: Tensor) -> Tensor:
    return wkv(k, v, w, u).y


def loop(k: Tensor, v: Tensor, w: Tensor, u: Tensor) -> Tensor:
    """Numerator, denominator and largest exponent, one position after the other."""
    numerator, denominator = torch.zeros_like(k[:, 0]), torch.zeros_like(k[:, 0])
    exponent = torch.full_like(numerator, -1e38)
    ys = []
    for k_t, v_t in zip(k.unbind(1), v.unbind(1), strict=True):
        top = torch.maximum(exponent, k_t + u)
        old, new = torch.exp(exponent - top), torch.exp(k_t + u - top)
        ys.append((old * numerator + new * v_t) / (old * denominator + new))
        top = torch.maximum(exponent + w, k_t)
        old, new = torch.exp(exponent + w - top), torch.exp(k_t - top)
        numerator, denominator, exponent = old * numerator + new * v_t, old * denominator + new, top
    return torch.stack(ys, 1)


def main() -> None:
    torch.manual_seed(0)
    k, v = torch.randn(2, *SHAPE).unbind(0)
    w, u = -torch.linspace(-5, 3, SHAPE[2]).exp(), torch.randn(SHAPE[2])
    leaves = [x.requires_grad_() for x in (k, v, w, u)]
    gradient = torch.ones(SHAPE)

    def train(function: Callable[..., Tensor]) -> None:
        measure.backward(function(*leaves), leaves, gradient)

    into = torch.empty(SHAPE)

    def exponentials() -> None:
        torch.exp(k, out=into)
        torch.exp(v, out=into)

    with torch.no_grad():
        forward = partial(measure.compare, f"forward, {SHAPE}", lambda: ours(*leaves))
        rows = [
            forward("loop in eager PyTorch", lambda: loop(*leaves)),
            forward("a copy of v", v.clone),
            forward("two exponentials of a number, by torch", exponentials),
        ]
    rows.append(
        measure.compare(f"forward+backward, {SHAPE}", lambda: train(ours), "loop in eager PyTorch", lambda: train(loop))
    )
    _, copy, exponents = rows[:3]
    note = (
        "Floors of a forward pass. In memory: it reads k and v and writes y, three numbers where a copy moves two, so "
        f"{1.5 * copy.peer_ms:.3g} ms at its speed; it takes {copy.ours_ms / 1.5 / copy.peer_ms:.2g} times that. "
        "In arithmetic: a number costs two exponentials and two divisions, one after the other, and some sixty other "
        f"operations; it takes {exponents.ours_ms / exponents.peer_ms:.2g} times what the exponentials alone do."
    )
    measure.write("wkv", rows, (note,))


if __name__ == "__main__":
    measure.command(main)
