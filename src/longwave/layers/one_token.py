"""One position of Mamba or Mamba-2 as one native call (`longwave.ops._decoding`), projections included.

What does not change from position to position, where the weights lie and what is made of them, is found once and kept
until a weight or a part of the mixer is another. Where more takes part than weights, as in a quantised or adapted
projection, one that has hooks, or under autocast, a mixer's parts are called one after the other.
"""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import nn

from longwave.layers.cache import SystemCache
from longwave.layers.projection import is_watched
from longwave.ops._decoding import OneCall, Options, Weights
from longwave.ops._native import unrecorded
from longwave.shapes import Float, Tensor

Found = OneCall | None
Gather = Callable[[Any], Found]  # of a mixer, ours or of another library, what the kernel reads
LIMITS, EPSILONS = ("dt_limit", "time_step_limit"), ("eps", "variance_epsilon")  # ours, and those of transformers

_known: WeakKeyDictionary[nn.Module, SystemCache] = WeakKeyDictionary()


def known(mixer: Any, gather: Gather, x: Tensor) -> Found:
    """What `gather` found, as long as it holds; None where a mixer's parts have to be called one after the other."""
    if not unrecorded(x) or not x.is_cpu or torch.is_autocast_enabled("cpu"):
        return None
    seen = [vars(mixer).get(name) for name in LIMITS]
    for part in mixer._modules.values():
        if part is None or is_watched(part):
            return None
        seen += type(part), *map(vars(part).get, EPSILONS), *map(_place, part._parameters.values())
    # A and more are made of the mixer's own parameters; all else is read where it lies, whatever it is by then
    own = [parameter for parameter in mixer._parameters.values() if parameter is not None]
    return _known.setdefault(mixer, SystemCache()).get(lambda: gather(mixer), own, seen)


def step(
    mixer: Any, gather: Gather, x_t: Float[Tensor, "batch d_model"], seen: Tensor, h: Tensor
) -> tuple[Tensor, Tensor, Tensor] | None:
    """y_t, what the convolution has seen and the state after one position, if it can be one call."""
    at_once = known(mixer, gather, x_t)
    if at_once is None:
        return None
    x, window = x_t[:, None].contiguous(), F.pad(seen, (1, 0))
    h = h.clone(memory_format=torch.contiguous_format)  # the kernel writes to it, and to the window
    return (at_once.step(x, window, h)[:, 0], window[..., 1:], h) if at_once.takes(x, window, h) else None


def one_call_of(mixer: Any, options: Options, A: Tensor, D: Tensor, norm: Any = None) -> Found:
    """The mixer whose parts have their published names, if they are torch's own, so that what they compute is known."""
    of_mamba = "dt_proj" in mixer._modules
    names = ("in_proj", "out_proj", "x_proj", "dt_proj") if of_mamba else ("in_proj", "out_proj")
    matrices, own = [mixer._modules[name] for name in names], {"A_log", "D"} if of_mamba else {"A_log", "D", "dt_bias"}
    torchs = type(mixer.conv1d) is nn.Conv1d and all(type(matrix) is nn.Linear for matrix in matrices)
    if not torchs or not own <= mixer._parameters.keys() or (norm is not None and "weight" not in norm._parameters):
        return None
    if of_mamba and mixer.x_proj.bias is not None:
        return None
    x_proj, dt_proj = (mixer.x_proj.weight, mixer.dt_proj.weight) if of_mamba else (None, None)
    weights = Weights(
        in_proj=mixer.in_proj.weight,
        in_bias=mixer.in_proj.bias,
        taps=mixer.conv1d.weight[:, 0],
        taps_bias=mixer.conv1d.bias,
        x_proj=x_proj,
        dt_proj=dt_proj,
        dt_bias=mixer.dt_proj.bias if of_mamba else mixer.dt_bias,
        A=A,
        D=D,
        norm=None if norm is None else norm.weight,
        out_proj=mixer.out_proj.weight,
        out_bias=mixer.out_proj.bias,
    )
    return OneCall.of(weights, options)


def _place(weight: Tensor | None) -> tuple[object, ...] | None:
    """Where a weight lies, and how."""
    return None if weight is None else (weight.data_ptr(), weight.dtype, weight.shape, weight.is_contiguous())
