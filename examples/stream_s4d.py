"""Stream a signal through an S4D layer: whole, chunk by chunk and position by position, always with the same numbers.

Run: python examples/stream_s4d.py --length 100000 --chunk 1000
"""

import torch
from jsonargparse import auto_cli

from longwave import S4D


@torch.no_grad()
def main(length: int = 20_000, chunk: int = 1_000, steps: int = 500) -> None:
    """Compare the three ways to run one layer.

    Args:
        length: positions of the signal.
        chunk: positions that arrive at once.
        steps: positions at the end of the signal that arrive one by one; fewer than length.
    """
    torch.manual_seed(0)
    layer = S4D(d_model=8, d_state=32).eval()
    signal = torch.randn(1, length, 8)
    whole = layer(signal)

    # The state is a value of fixed size, however much it has seen: it can be kept, copied, or sent elsewhere.
    state = layer.initial_state(batch_size=1)
    outputs = []
    for piece in signal[:, : length - steps].split(chunk, dim=1):
        y, state = layer.prefill(piece, state)
        outputs.append(y)
    for x_t in signal[:, length - steps :].unbind(1):
        y_t, state = layer.step(x_t, state)
        outputs.append(y_t[:, None])

    difference = (torch.cat(outputs, dim=1) - whole).abs().max() / whole.abs().max()
    print(f"{length - steps} positions in chunks of {chunk}, then {steps} one by one")
    print(f"state: {sum(part.numel() for part in state)} complex numbers")
    print(f"largest difference from the whole sequence at once, relative to the largest output: {difference:.1e}")


if __name__ == "__main__":
    auto_cli(main)
