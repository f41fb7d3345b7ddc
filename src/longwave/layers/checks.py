"""What every mixer asks of its inputs, with one clear line for each mistake."""

import math

import torch

from longwave.errors import ConfigError, ShapeError
from longwave.shapes import Tensor

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def check_positive(argument: str, value: object) -> None:
    """A size must be a positive integer."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{argument}={value!r} must be a positive integer")


def check_duration(argument: str, value: float) -> None:
    """A window or a step must take time."""
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{argument}={value} must be positive and finite")


def check_rate(rate: float) -> None:
    """The sampling rate is a ratio to that of training."""
    if not (math.isfinite(rate) and rate > 0):
        raise ConfigError(f"rate={rate} must be positive and finite: rate=2 is data at half the frequency of training")


def check_input(x: Tensor, axes: tuple[str, ...], width: int, like: Tensor) -> None:
    """The input must have ``axes`` and ``width`` channels, and sit where the parameters (``like``) are."""
    if x.ndim != len(axes) + 1 or x.shape[-1] != width:
        raise ShapeError(f"x must have shape ({', '.join(axes)}, {width}), got {tuple(x.shape)}")
    if x.device != like.device:
        raise ShapeError(f"x is on {x.device} but the parameters are on {like.device}: move one of them with .to()")
    if x.dtype != like.dtype and not _autocasts(x, like):
        raise ShapeError(f"x is {x.dtype} but the parameters are {like.dtype}: convert one of them with .to()")


def check_sequence(x: Tensor, width: int, like: Tensor, lengths: Tensor | None, reset: Tensor | None) -> None:
    """The input must be (batch, time, width), and ``lengths`` and ``reset`` must fit it."""
    check_input(x, ("batch", "time"), width, like)
    check_lengths(lengths, x)
    if reset is not None:
        _check_companion("reset", reset, tuple(x.shape[:2]), (torch.bool,), x)


def check_lengths(lengths: Tensor | None, x: Tensor) -> None:
    """The lengths of the rows of x (batch, time, …), if they are given, must lie within it."""
    if lengths is None:
        return
    batch, time = x.shape[:2]
    _check_companion("lengths", lengths, (batch,), _INTEGERS, x)
    # While compiling the values are not known yet; the eager call has this check.
    if not torch.compiler.is_compiling() and bool(((lengths < 0) | (lengths > time)).any()):
        raise ShapeError(f"lengths must lie between 0 and the {time} positions of x, got {lengths.tolist()}")


def check_state(state: Tensor, shape: tuple[int, ...], dtype: torch.dtype, x: Tensor) -> None:
    """The state must be one that this mixer made for a batch of this size."""
    if state.shape != shape or state.dtype != dtype or state.device != x.device:
        raise ShapeError(
            f"state must have shape {shape}, {dtype}, on {x.device}, got {tuple(state.shape)}, {state.dtype}, on "
            f"{state.device}: begin with initial_state({x.shape[0]}) of the same layer"
        )


def check_steps(dt: Tensor, shape: tuple[int, ...], x: Tensor) -> None:
    """Step sizes must be real, one for each position of x, finite, and not negative."""
    if dt.shape != shape or not dt.is_floating_point() or dt.device != x.device:
        raise ShapeError(
            f"dt must be floating point with shape {shape} on {x.device}, got {dt.dtype} "
            f"with shape {tuple(dt.shape)} on {dt.device}"
        )
    if not torch.compiler.is_compiling() and not bool((dt.isfinite() & (dt >= 0)).all()):
        low, high = dt.aminmax()
        raise ShapeError(f"dt must be finite and not negative, got values from {low:g} to {high:g}; pad with zeros")


def _check_companion(
    argument: str, value: Tensor, shape: tuple[int, ...], dtypes: tuple[torch.dtype, ...], x: Tensor
) -> None:
    """A tensor beside x must have this shape, one of these dtypes, and the device of x."""
    if value.shape != shape or value.dtype not in dtypes or value.device != x.device:
        kind = "boolean" if dtypes == (torch.bool,) else "integer"
        raise ShapeError(
            f"{argument} must be {kind} with shape {shape} on {x.device}, got {value.dtype} "
            f"with shape {tuple(value.shape)} on {value.device}"
        )


def check_heads(channels: int, headdim: int, ngroups: int) -> None:
    """Raise unless the channels are whole heads, and the heads whole groups."""
    if channels % headdim or channels // headdim % ngroups:
        raise ConfigError(
            f"headdim={headdim} and ngroups={ngroups} do not divide the {channels} channels into groups of whole heads"
        )


def _autocasts(x: Tensor, like: Tensor) -> bool:
    """Whether torch.autocast will reconcile the two dtypes; it leaves float64 and integers alone."""
    floats = x.is_floating_point() and torch.float64 not in (x.dtype, like.dtype)
    return floats and torch.is_autocast_enabled(x.device.type)
