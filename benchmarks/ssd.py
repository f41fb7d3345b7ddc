"""`ssd` against its multiply-adds and its memory, and Mamba-2's layer against the plain one of transformers.

python -m benchmarks.ssd
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks import measure
from longwave import Mamba2
from longwave.ops import linear, ssd

LENGTHS = (512, 1024)
WIDTH, HEADS, HEADDIM, STATE = 768, 24, 64, 128
CHUNK = 64  # the native kernel's


def arguments(time: int) -> list[Tensor]:
    """One row of mamba2-130m: x, B and C as views of what a convolution returns."""
    xBC = torch.randn(1, time, HEADS * HEADDIM + 2 * STATE)
    x, B, C = xBC.split([HEADS * HEADDIM, STATE, STATE], -1)
    dt, A = 0.1 * torch.rand(1, time, HEADS), -torch.linspace(1, 16, HEADS)
    return [x.unflatten(-1, (HEADS, HEADDIM)), dt, A, B[:, :, None], C[:, :, None], torch.ones(HEADS)]


def multiply_adds(time: int, training: bool) -> float:
    """Of `ssd`: states in and out, half a masked product, C Bᵀ; backward four products with states, two masked ones.

    The last term, C Bᵀ and the gradients through it, is counted once a group, as a kernel could do at best.
    """
    inside, between = HEADS * HEADDIM * CHUNK / 2, HEADS * HEADDIM * STATE
    forward = 2 * between + inside + CHUNK * STATE / 2
    return time * (forward + (4 * between + 2 * inside + 1.5 * CHUNK * STATE if training else 0))


def operation() -> list[measure.Row]:
    """Forward, and forward and backward, against torch's matrix product with as many multiply-adds."""
    rows = []
    for time in LENGTHS:
        for training in (False, True):
            leaves = [u.requires_grad_(training) for u in arguments(time)]
            columns = int(multiply_adds(time, training) / (1024 * 1024))
            a, b = torch.randn(1024, 1024), torch.randn(1024, columns)
            gradient = torch.ones(1, time, HEADS, HEADDIM)

            def ours(leaves: list[Tensor] = leaves, training: bool = training, g: Tensor = gradient) -> None:
                y = ssd(*leaves).y
                if training:
                    measure.backward(y, leaves, g)

            what = f"ssd {'forward+backward' if training else 'forward'}, {time} positions"
            peer, note = "one matrix product of as many multiply-adds", f"{multiply_adds(time, training) / 1e6:.0f} M"
            rows.append(measure.compare(what, ours, peer, lambda a=a, b=b: a @ b, note))
    return rows


@torch.no_grad()
def bandwidth() -> list[measure.Row]:
    """Forward, against reading x, B and C and writing y once."""
    rows = []
    for time in LENGTHS:
        given = arguments(time)
        x, _, _, B, C, _ = given

        def copies(x: Tensor = x, B: Tensor = B, C: Tensor = C) -> tuple[Tensor, ...]:
            return x.clone(memory_format=torch.contiguous_format), B.sum(), C.sum()

        peer = "a copy of x and sums of B and C (the memory floor)"
        rows.append(measure.compare(f"ssd forward, {time} positions", lambda given=given: ssd(*given), peer, copies))
    return rows


def layers() -> list[measure.Row]:
    """Mamba2(768) at the sizes of mamba2-130m, forward and training, against transformers without kernels."""
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    config = Mamba2Config(
        hidden_size=WIDTH, state_size=STATE, head_dim=HEADDIM, num_heads=HEADS, n_groups=1, num_hidden_layers=1
    )
    rows, ours, theirs = [], Mamba2(WIDTH), Mamba2Mixer(config, layer_idx=0)
    theirs.load_state_dict(ours.state_dict())
    for time in LENGTHS:
        x = torch.randn(1, time, WIDTH)

        def train(layer: nn.Module, x: Tensor = x) -> None:
            y = layer(x)
            measure.backward(y, list(layer.parameters()), torch.ones_like(y))

        with torch.no_grad():
            what, peer = f"Mamba2({WIDTH}), {time} positions", "transformers, plain PyTorch"
            rows.append(measure.compare(f"{what}, forward", lambda x=x: ours(x), peer, lambda x=x: theirs(x)))
        rows.append(measure.compare(f"{what}, training", lambda t=train: t(ours), peer, lambda t=train: t(theirs)))
    return rows


def products() -> list[measure.Row]:
    """The layer against its two projections alone, by our operation."""
    rows, layer = [], Mamba2(WIDTH)
    matrices = [layer.in_proj.weight, layer.out_proj.weight]
    for time in LENGTHS:
        x, inner = torch.randn(1, time, WIDTH), torch.randn(1, time, HEADS * HEADDIM, requires_grad=True)

        def both(x: Tensor = x, inner: Tensor = inner) -> list[Tensor]:
            return [linear(u, weight).y for u, weight in zip((x, inner), matrices, strict=True)]

        def train_both(both: Callable[[], list[Tensor]] = both, inner: Tensor = inner) -> None:
            outputs = both()
            torch.autograd.grad(outputs, [inner, *matrices], [torch.ones_like(y) for y in outputs])

        def train(x: Tensor = x) -> None:
            y = layer(x)
            measure.backward(y, list(layer.parameters()), torch.ones_like(y))

        what, peer = f"Mamba2({WIDTH}), {time} positions", "its two projections alone"
        with torch.no_grad():
            rows.append(measure.compare(f"{what}, forward", lambda x=x: layer(x), peer, both))
        rows.append(measure.compare(f"{what}, training", train, peer, train_both))
    return rows


FLOORS = (
    "Floors: the least time of `ssd` is that of its multiply-adds, noted in millions, at the speed of one large matrix "
    "product, and in memory that of reading x, B and C and writing y; the layer's is that of its projections and both. "
    "A ratio below 1 says which part of the time the floor is."
)


def main() -> None:
    torch.manual_seed(0)
    measure.write("ssd", operation() + bandwidth() + layers() + products(), (FLOORS,))


if __name__ == "__main__":
    measure.command(main)
