"""FFT convolution in plain PyTorch, padded so that nothing wraps around.

The transforms are MKL's, and they are nearly all of the time: a floor for any code that convolves by FFT
(benchmarks/s4d.py measures them alone beside this function).
"""

import torch
from torch import Tensor


def refuses(u: Tensor, *_: Tensor) -> str | None:
    """Why this implementation cannot take the arguments, or None."""
    if u.device.type != "cpu":
        return f"it was measured and chosen on the CPU, and u is on {u.device}"
    return None


def run(u: Tensor, k: Tensor) -> Tensor:
    """y (batch, time, dim)."""
    time = u.shape[1]
    if 0 in u.shape or k.shape[1] == 0:
        return torch.zeros_like(u) + 0 * k.sum()
    k = k[:, :time]
    n = 1 << (time + k.shape[1] - 2).bit_length()  # the next power of two that holds every product
    spectrum = torch.fft.rfft(u.mT, n) * torch.fft.rfft(k, n)
    return torch.fft.irfft(spectrum, n)[..., :time].mT
