"""Read an S4D layer as matrices and run them in SciPy: the layer's numbers are those of a textbook linear system.

Run: python examples/compare_with_scipy.py --length 4000 --channel 3 (needs SciPy)
"""

import numpy as np
import torch
from jsonargparse import auto_cli
from scipy import signal

from longwave import S4D


@torch.no_grad()
def main(length: int = 2_000, channel: int = 0) -> None:
    """Compare one channel of a layer with `scipy.signal`.

    Args:
        length: positions of the signal.
        channel: which of the layer's 4 systems.
    """
    torch.manual_seed(0)
    layer = S4D(d_model=4, d_state=16, output=None).eval()  # y = GELU(k ∗ u): the linear system and nothing behind it
    space = layer.to_state_space()
    system = space.to_scipy(channel)
    u = torch.randn(1, length, 4)

    # SciPy has float64 and one system at a time; the layer runs all its channels in float32.
    _, y, _ = signal.dlsim(system, u[0, :, channel].double().numpy())
    expected = torch.nn.functional.gelu(torch.from_numpy(y[:, 0]))
    _, (impulse,) = signal.dimpulse(system, n=length)

    print(f"slowest pole of channel {channel}: |z| = {space.poles()[channel].abs().max():.6f}")
    print(f"output:           relative difference {relative(layer(u)[0, :, channel], expected):.1e}")
    print(f"impulse response: relative difference {relative(layer.kernel(length)[channel], impulse[:, 0]):.1e}")


def relative(actual: torch.Tensor, expected: torch.Tensor | np.ndarray) -> float:
    """max|actual − expected| / max|expected|."""
    want = np.asarray(expected)
    return float(np.abs(actual.numpy() - want).max() / np.abs(want).max())


if __name__ == "__main__":
    auto_cli(main)
