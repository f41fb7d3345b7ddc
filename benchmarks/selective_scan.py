"""`selective_scan` against a loop over tokens, `short_conv` against torch's, and a Mamba layer against mambapy.

python -m benchmarks.selective_scan
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import measure, peers
from longwave import Mamba
from longwave.ops import selective_scan, short_conv

BATCH, LENGTH, DIM, STATES, WIDTH = 1, 1024, 1536, 16, 768
SHAPE = f"({BATCH}, {LENGTH}, {DIM}), {STATES} states"
# Per vector of states (one state of neighbouring channels): dt A, the six multiply-adds of 2^r, dt u B, h and y.
PRODUCTS_FORWARD = 10
# As often again without y's, and nine in the adjoint: g, dC, dB, s, back, dx, Σ dx A, dA and the carry's.
PRODUCTS_BACKWARD = 18


def arguments() -> dict[str, Tensor]:
    """Positive steps, real A as at Mamba's initialisation, no skip and no gate."""
    return {
        "u": torch.randn(BATCH, LENGTH, DIM),
        "delta": 0.1 * torch.rand(BATCH, LENGTH, DIM),
        "A": -torch.arange(1.0, STATES + 1).repeat(DIM, 1),
        "B": torch.randn(BATCH, LENGTH, 1, STATES),
        "C": torch.randn(BATCH, LENGTH, 1, STATES),
    }


@torch.no_grad()
def forward() -> list[measure.Row]:
    """The operation alone."""
    given = arguments()
    full = {**given, "D": torch.randn(DIM), "z": torch.randn(BATCH, LENGTH, DIM), "delta_bias": torch.randn(DIM)}
    return [
        measure.compare(
            f"forward, {SHAPE}",
            lambda: selective_scan(**given),
            "a loop over tokens",
            lambda: peers.selective_loop(**given),
            f"{LENGTH * DIM * STATES * PRODUCTS_FORWARD / 1e6:.0f} M multiply-adds",
        ),
        measure.compare(
            f"forward with softplus, skip and gate, {SHAPE}",
            lambda: selective_scan(**full, delta_softplus=True),
            "the same without them",
            lambda: selective_scan(**given),
        ),
        measure.compare(
            f"forward, {SHAPE}",
            lambda: selective_scan(**given),
            "a copy of u and delta and a sum (the memory floor)",
            lambda: given["u"] + given["delta"],
        ),
    ]


def training() -> list[measure.Row]:
    """Forward and backward against the loop's forward pass alone."""
    given = arguments()
    leaves = {name: x.clone().requires_grad_() for name, x in given.items()}
    gradient = torch.randn(BATCH, LENGTH, DIM)

    def train() -> None:
        measure.backward(selective_scan(**leaves).y, list(leaves.values()), gradient)

    @torch.no_grad()
    def loop() -> Tensor:
        return peers.selective_loop(**given)

    note = f"{LENGTH * DIM * STATES * (PRODUCTS_FORWARD + PRODUCTS_BACKWARD) / 1e6:.0f} M multiply-adds"
    return [measure.compare(f"forward+backward, {SHAPE}", train, "a loop over tokens, forward alone", loop, note)]


def convolution() -> list[measure.Row]:
    """Four taps and SiLU."""
    x, weight, bias = torch.randn(BATCH, LENGTH, DIM), torch.randn(DIM, 4), torch.randn(DIM)
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    gradient = torch.randn_like(x)

    def theirs(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.silu(F.conv1d(F.pad(x.mT, (3, 0)), weight[:, None], bias, groups=DIM)).mT

    def train(function: object) -> None:
        y = theirs(*leaves) if function is theirs else short_conv(*leaves, activation="silu").y
        measure.backward(y, leaves, gradient)

    return [
        measure.compare(
            f"short_conv forward+backward, ({BATCH}, {LENGTH}, {DIM}), 4 taps",
            lambda: train(short_conv),
            "F.conv1d and F.silu",
            lambda: train(theirs),
        )
    ]


def layers() -> list[measure.Row]:
    """A Mamba layer, forward and backward, with the same weights."""
    ours = Mamba(WIDTH)
    rival = peers.mamba(WIDTH)
    rival.load_state_dict(ours.state_dict())
    x = torch.randn(BATCH, LENGTH, WIDTH, requires_grad=True)
    gradient = torch.randn(BATCH, LENGTH, WIDTH)

    def train(layer: torch.nn.Module) -> None:
        measure.backward(layer(x), [x, *layer.parameters()], gradient)

    what = f"Mamba({WIDTH}) forward+backward, ({BATCH}, {LENGTH})"
    return [
        measure.compare(what, lambda: train(ours), "mambapy", lambda: train(rival)),
        measure.compare(what, lambda: train(ours), "its matrix products alone", peers.products(ours, LENGTH, True)),
    ]


def main() -> None:
    torch.manual_seed(0)
    rows = forward() + training() + convolution() + layers()
    note = (
        "Floors: a vector of states costs 10 multiply-adds forward (dt A, six for 2^r, dt u B, h, y) and 18 more with "
        "the backward pass, so the least time is their number over what the processor's multiply-add units can do; in "
        "memory a forward pass must read u and delta and write y."
    )
    measure.write("selective_scan", rows, (note,))


if __name__ == "__main__":
    measure.command(main)
