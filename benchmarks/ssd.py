"""`ssd` against its multiply-adds, and Mamba-2's layer against the plain one of transformers.

python -m benchmarks.ssd
"""

import torch
from torch import Tensor, nn

from benchmarks import measure
from longwave import Mamba2
from longwave.ops import ssd

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
    """Of `ssd`: states in and out, half a masked product, C Bᵀ; backward four products with states, two masked ones."""
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
            peer = "one matrix product of as many multiply-adds"
            rows.append(measure.compare(what, ours, peer, lambda a=a, b=b: a @ b))
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


def main() -> None:
    torch.manual_seed(0)
    measure.write("ssd", operation() + layers())


if __name__ == "__main__":
    main()
