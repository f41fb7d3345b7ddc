"""`wkv` against a loop over positions in eager PyTorch, as transformers runs RWKV on a CPU.

python -m benchmarks.wkv
"""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks import measure
from longwave.ops import wkv

SHAPE = (8, 1024, 768)


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

    with torch.no_grad():
        rows = [
            measure.compare(f"forward, {SHAPE}", lambda: ours(*leaves), "loop in eager PyTorch", lambda: loop(*leaves)),
            measure.compare(f"forward, {SHAPE}", lambda: ours(*leaves), "a copy of v (the memory floor)", v.clone),
        ]
    rows.append(
        measure.compare(f"forward+backward, {SHAPE}", lambda: train(ours), "loop in eager PyTorch", lambda: train(loop))
    )
    measure.write("wkv", rows)


if __name__ == "__main__":
    main()
