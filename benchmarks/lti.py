"""The time-invariant layers: S4, S5 and LRU against other libraries' and textbook code, RTF by its order, single steps.

python -m benchmarks.lti
"""

from functools import partial
from unittest import mock

import torch
from torch import Tensor, nn

from benchmarks import measure, peers
from longwave import ops
from longwave.layers import MIXERS, LTIMixer
from longwave.layers import s4 as s4_module
from longwave.layers.lru import LRU
from longwave.layers.rtf import RTF
from longwave.layers.s4 import S4
from longwave.layers.s5 import S5

SHAPES = ((8, 1024), (4, 4096))
D_MODEL = 128
STEPS = 100


def train_step(layer: nn.Module, x: Tensor) -> None:
    """Forward and backward, gradients of the input and of every parameter."""
    y = layer(x)
    y = y[0] if isinstance(y, tuple) else y
    measure.backward(y, [x, *layer.parameters()], torch.ones_like(y))


def against(name: str, ours: nn.Module, rivals: dict[str, nn.Module], shape: tuple[int, int]) -> list[measure.Row]:
    """One layer of ours, forward and backward, against others of the same width."""
    x = torch.randn(*shape, D_MODEL, requires_grad=True)
    what = f"{name} forward+backward, {shape}"
    mine = partial(train_step, ours, x)
    return [measure.compare(what, mine, rival, partial(train_step, layer, x)) for rival, layer in rivals.items()]


def s4() -> list[measure.Row]:
    """S4 with 64 real states, HiPPO-LegS."""
    rivals = {
        "textbook S4": peers.TextbookS4(D_MODEL),
        "textbook S4, products for sums": peers.TextbookS4(D_MODEL, products=True),
        "nn.LSTM": peers.lstm(D_MODEL),
    }
    return [row for shape in SHAPES for row in against("S4(128)", S4(D_MODEL), rivals, shape)]


def kernel_step(layer: S4, length: int, impl: str) -> None:
    """The kernel and the gradient of every parameter, with one implementation of the Cauchy sums."""
    with mock.patch.object(s4_module, "cauchy", partial(ops.cauchy, impl=impl)):
        k = layer.kernel(length)
    measure.backward(k, list(layer.parameters()), torch.ones_like(k))


def cauchy() -> list[measure.Row]:
    """The kernel of S4 with native Cauchy sums against the reference's."""
    rows = []
    for d_model, length in ((D_MODEL, 1024), (8, 16384)):  # 128 channels would take the reference 16 s
        native, reference = (partial(kernel_step, S4(d_model, output=None), length, i) for i in ("cpu", "reference"))
        what = f"S4({d_model}).kernel({length}) forward+backward"
        rows.append(measure.compare(what, native, "reference's sums", reference))
    return rows


def mimo() -> list[measure.Row]:
    """S5 and LRU with 64 complex modes, and LRU with 128, which keep no conjugates."""
    rivals = {"nn.LSTM": peers.lstm(D_MODEL), "s5-pytorch": peers.s5_pytorch(D_MODEL, 64)}
    ours = {
        "S5(128), 64 pairs": S5(D_MODEL, 128),
        "LRU(128), 64 modes": LRU(D_MODEL, 64),
        "LRU(128), 128 modes": LRU(D_MODEL, 128),
    }
    return [row for name, layer in ours.items() for row in against(name, layer, rivals, SHAPES[0])] + [
        row for name, layer in ours.items() for row in against(name, layer, {"nn.LSTM": rivals["nn.LSTM"]}, SHAPES[1])
    ]


def rtf() -> list[measure.Row]:
    """RTF of order 64 and of order 1,024."""
    rows = []
    for shape in SHAPES:
        small, large = (RTF(D_MODEL, order, l_max=max(2048, shape[1])) for order in (64, 1024))
        rows += against("RTF(128), order 64,", small, {"RTF of order 1,024": large}, shape)
    return rows


@torch.no_grad()
def steps() -> list[measure.Row]:
    """One position at batch 1, every mixer at its defaults."""
    x, cell = torch.randn(1, D_MODEL), nn.LSTMCell(D_MODEL, D_MODEL)
    rows = []
    for name, mixer in MIXERS.items():
        if not issubclass(mixer, LTIMixer):
            continue
        layer = mixer(D_MODEL)
        state = layer.initial_state(1)
        layer.step(x, state)  # discretises

        def mine(layer: LTIMixer = layer, state: tuple = state) -> None:
            for _ in range(STEPS):
                layer.step(x, state)

        row = measure.compare(
            f"{name}(128).step, {STEPS} positions", mine, "nn.LSTMCell", lambda: [cell(x) for _ in range(STEPS)]
        )
        rows.append(measure.Row(**{**row.__dict__, "note": f"({1000 * row.ours_ms / STEPS:.0f} µs a step)"}))
    return rows


def main() -> None:
    rows = [row for section in ("s4", "cauchy", "mimo", "rtf", "steps") for row in measure.in_a_process("lti", section)]
    measure.write("lti", rows)


if __name__ == "__main__":
    measure.command(main)
