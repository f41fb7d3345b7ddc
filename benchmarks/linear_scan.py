"""`linear_scan` against a Python loop, doubling in plain torch, and the associative scan of s5-pytorch.

python -m benchmarks.linear_scan
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks import measure, peers
from longwave import LRU
from longwave.ops import linear_scan

SHAPES = ((8, 1024, 128), (4, 4096, 128))


def ours(a: Tensor, b: Tensor) -> Tensor:
    return linear_scan(a, b).states


def decay(*shape: int, dtype: torch.dtype) -> Tensor:
    size = 0.9 + 0.1 * torch.rand(*shape)
    return torch.polar(size, 6.3 * torch.rand(*shape)).to(dtype) if dtype.is_complex else size


def operation() -> list[measure.Row]:
    """Forward, and forward and backward, with constant and time-varying decay."""
    rows = []
    rivals: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "Python loop": peers.scan_loop,
        "doubling in plain torch": peers.scan_doubling,
        "s5-pytorch associative scan": peers.scan_s5,
    }
    for shape in SHAPES:
        for dtype in (torch.complex64, torch.float32):
            for constant in (True, False):
                a = decay(*(shape[2:] if constant else shape), dtype=dtype).requires_grad_()
                b = torch.randn(*shape, dtype=dtype, requires_grad=True)
                gradient = torch.ones_like(b)

                def train(
                    scan: Callable[[Tensor, Tensor], Tensor], a: Tensor = a, b: Tensor = b, g: Tensor = gradient
                ) -> None:
                    measure.backward(scan(a, b), [a, b], g)

                kind = f"{str(dtype)[6:]}, {'constant' if constant else 'varying'} a, {shape}"
                for name, rival in rivals.items():
                    rows.append(
                        measure.compare(
                            f"forward+backward, {kind}",
                            lambda train=train: train(ours),
                            name,
                            lambda train=train, rival=rival: train(rival),
                        )
                    )
    return rows


@torch.no_grad()
def bandwidth() -> list[measure.Row]:
    """The forward pass reads b and writes the states: a copy of b does exactly that."""
    rows = []
    for shape in SHAPES:
        for dtype in (torch.complex64, torch.float32):
            a, b = decay(shape[2], dtype=dtype), torch.randn(*shape, dtype=dtype)
            rows.append(
                measure.compare(
                    f"forward, {str(dtype)[6:]}, constant a, {shape}",
                    lambda a=a, b=b: linear_scan(a, b),
                    "a copy of b (the memory floor)",
                    b.clone,
                )
            )
    return rows


def layers() -> list[measure.Row]:
    """LRU(128) at its defaults, forward and backward, against nn.LSTM."""
    rows = []
    for batch, length, width in SHAPES:
        x = torch.randn(batch, length, width, requires_grad=True)
        ours, rival = LRU(d_model=width), peers.lstm(width)

        def train(layer: nn.Module, x: Tensor = x) -> None:
            y = layer(x)
            y = y[0] if isinstance(y, tuple) else y
            measure.backward(y, [x, *layer.parameters()], torch.ones_like(y))

        rows.append(
            measure.compare(
                f"LRU({width}) forward+backward, ({batch}, {length})",
                lambda train=train, ours=ours: train(ours),
                "nn.LSTM",
                lambda train=train, rival=rival: train(rival),
            )
        )
    return rows


def main() -> None:
    torch.manual_seed(0)
    measure.write("linear_scan", operation() + bandwidth() + layers())


if __name__ == "__main__":
    measure.command(main)
