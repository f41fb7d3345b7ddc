"""Recordings in PCM .wav files."""

from __future__ import annotations

import io
import wave

import numpy as np
import numpy.typing as npt
import torch

from longwave.shapes import Float, Tensor

__all__ = ["WavError", "read_wav"]


class WavError(ValueError):
    """A file is not a recording in PCM; the reader of a data set says which file."""


def read_wav(content: bytes) -> tuple[Float[Tensor, "time channels"], int]:
    """A recording as fractions of full scale, from −1 to 1, and its sampling rate in Hz.

    Args:
        content: a .wav file with PCM of 8 (unsigned), 16, 24 or 32 bits and any number of channels.

    Returns:
        The samples, (time, channels) in 32-bit floating point, and the sampling rate.

    Raises:
        WavError: the file is none of these, or it breaks off.
    """
    try:
        with wave.open(io.BytesIO(content)) as recording:
            channels, width, rate, frames, *_ = recording.getparams()
            samples = recording.readframes(frames)
    except (wave.Error, EOFError) as error:
        reason = str(error) or "it breaks off"
        raise WavError(f"it is not PCM in a .wav file ({reason}); convert it to 16-bit PCM") from error
    if width not in (1, 2, 3, 4):
        raise WavError(f"its samples have {8 * width} bits; convert it to 16-bit PCM")
    if len(samples) != frames * channels * width:
        raise WavError(f"it breaks off after {len(samples)} of {frames * channels * width} bytes of samples")
    values = _integers(samples, width).reshape(-1, channels) / 2.0 ** (8 * width - 1)
    return torch.from_numpy(values.astype(np.float32)), rate


def _integers(samples: bytes, width: int) -> npt.NDArray[np.integer]:
    if width == 1:
        return np.frombuffer(samples, np.uint8).astype(np.int16) - 128
    if width != 3:
        return np.frombuffer(samples, f"<i{width}")
    # Three bytes become the upper three of four; the shift brings the sign down.
    wide = np.zeros((len(samples) // 3, 4), np.uint8)
    wide[:, 1:] = np.frombuffer(samples, np.uint8).reshape(-1, 3)
    return wide.view("<i4")[:, 0] >> 8
