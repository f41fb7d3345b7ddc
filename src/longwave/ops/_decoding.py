"""One position of a Mamba layer, written into the state where it lies (native/decoding.cpp).

These are no operations: they write to an argument and have no adjoint. They take the place of some of torch's calls,
each of which costs more than what it computes, where `takes` says that they can. `OneCall` runs a whole layer, from one
projection to the other.
"""

import math
from typing import NamedTuple, final

import torch
from torch import Tensor

from longwave.ops._native import address, kernels, packed, refuses, threads, unrecorded
from longwave.shapes import Float


def takes(state: Tensor, *others: Tensor | None) -> bool:
    """Whether the kernels can move this state on."""
    if not unrecorded(state, *others) or refuses(state, *others) is not None:
        return False
    return state.is_contiguous() and state.dtype in (torch.float32, torch.float64)


def _given(v: Tensor | None, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor | None:
    """A tensor as the kernel reads it."""
    if v is None:
        return None
    return packed(v if v.dtype == dtype and v.shape == shape else v.to(dtype).expand(shape))


def advance(
    h: Tensor,
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    dt_softplus: bool,
    dt_limit: tuple[float, float] | None,
) -> Tensor:
    """Move h (batch, heads, dim, modes) on; y (batch, heads, dim). A head's A, dt and bias may be one number."""
    batch, heads, dim, modes = h.shape
    per_head, groups = A[0].numel() == 1, B.shape[1]
    system = (1, 1) if per_head else (dim, modes)
    shapes = (
        (u, (batch, heads, dim)),
        (dt, (batch, heads, system[0])),
        (A, (heads, *system)),
        (B, (batch, groups, modes)),
        (C, (batch, groups, modes)),
        (D, (heads, dim)),
        (z, (batch, heads, dim)),
        (dt_bias, (heads, system[0])),
    )
    given = [_given(v, h.dtype, shape) for v, shape in shapes]
    y = h.new_empty(batch, heads, dim)
    kernels().state_advance(
        h.dtype == torch.float64,
        [batch, heads, groups, dim, modes],
        per_head,
        dt_softplus,
        dt_limit or (-math.inf, math.inf),
        [address(v) for v in (h, *given, y)],
        threads(4 * h.numel()),  # an exponential each
    )
    return y


def slide(window: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool) -> Tensor:
    """Let a window (batch, dim, width) see the next input (batch, dim); y (batch, dim), the taps' sum."""
    batch, dim, width = window.shape
    shapes = ((x, (batch, dim)), (weight, (dim, width)), (bias, (dim,)))
    given = [_given(v, window.dtype, shape) for v, shape in shapes]
    y = window.new_empty(batch, dim)
    kernels().window_slide(
        window.dtype == torch.float64,
        [batch, dim, width],
        silu,
        [address(v) for v in (window, *given, y)],
        threads(window.numel()),
    )
    return y


class Weights(NamedTuple):
    """What a mixer has; no norm, no bias and, of Mamba-2, no map to B, C and dt are None."""

    in_proj: Float[Tensor, "made d_model"]
    in_bias: Float[Tensor, " made"] | None
    taps: Float[Tensor, "channels width"]
    taps_bias: Float[Tensor, " channels"] | None
    x_proj: Float[Tensor, "selected dim"] | None
    dt_proj: Float[Tensor, "dim rank"] | None
    dt_bias: Float[Tensor, " steps"] | None  # a channel's, or of Mamba-2 a head's
    A: Float[Tensor, "*steps_and_modes"]
    D: Float[Tensor, " dim"]
    norm: Float[Tensor, " dim"] | None
    out_proj: Float[Tensor, "d_out dim"]
    out_bias: Float[Tensor, " d_out"] | None


class Options(NamedTuple):
    """What a mixer's weights do not tell; Mamba has but one head."""

    modes: int
    heads: int = 1
    groups: int = 1
    norm_size: int = 0  # channels of a group
    norm_first: bool = False
    dt_limit: tuple[float, float] = (-math.inf, math.inf)
    eps: float = 0.0


@final
class OneCall:
    """A mixer whose weights' places are known, so that one position is one call.

    Attributes:
        window_shape: (channels, width), of a row's window.
        state_shape: (channels, modes) of Mamba's state, (heads, channels of a head, modes) of Mamba-2's.
    """

    def __init__(self, weights: Weights, options: Options) -> None:
        (d_out, inner), (channels, width) = weights.out_proj.shape, weights.taps.shape
        rank = 0 if weights.dt_proj is None else weights.dt_proj.shape[1]
        modes, heads, groups, norm_size, *_ = options
        self._held = weights  # the addresses below are theirs
        self._addresses = [address(v) for v in weights]
        self._sizes = [weights.in_proj.shape[1], d_out, heads, groups, inner // heads, modes, width, rank, norm_size]
        self.window_shape = channels, width
        self.state_shape = (inner, modes) if rank else (heads, inner // heads, modes)
        self._options, self._dtype = options, weights.in_proj.dtype

    @staticmethod
    def of(weights: Weights, options: Options) -> "OneCall | None":
        """The mixer of these weights, if the kernel can read them where they lie."""
        given = [v for v in weights if v is not None]
        plain = all(type(v) in (Tensor, torch.nn.Parameter) and v.is_contiguous() for v in given)
        one_precision = {v.dtype for v in given} in ({torch.float32}, {torch.float64})
        shapes = zip(weights, _shapes(weights, options), strict=True)
        fit = all(v is None or v.shape == shape for v, shape in shapes)
        return OneCall(weights, options) if plain and one_precision and fit and refuses(*given) is None else None

    def takes(self, x: Tensor, window: Tensor, state: Tensor) -> bool:
        """Whether one position x (batch, 1, d_model) can move these on where they lie."""
        tensors = x, window, state
        return (
            unrecorded(*tensors)
            and x.shape[1:] == (1, self._sizes[0])
            and window.shape == (x.shape[0], *self.window_shape)
            and state.shape == (x.shape[0], *self.state_shape)
            and all(v.is_cpu and v.dtype == self._dtype and v.is_contiguous() for v in tensors)
        )

    def step(self, x: Tensor, window: Tensor, state: Tensor) -> Tensor:
        """y (batch, 1, d_out); the window (batch, channels, width) and the state are written to."""
        y, options = x.new_empty(x.shape[0], 1, self._sizes[1]), self._options
        kernels().mixer_token(
            self._dtype == torch.float64,
            x.shape[0],
            self._sizes,
            options.norm_first,
            options.dt_limit,
            options.eps,
            self._addresses,
            [v.data_ptr() for v in (x, window, state, y)],
            threads(x.shape[0] * self._held.in_proj.numel()),
        )
        return y


def _shapes(weights: Weights, options: Options) -> tuple[tuple[int, ...], ...]:
    """Those that the kernel takes weights to have, where they are."""
    (d_out, inner), d_model, width = weights.out_proj.shape, weights.in_proj.shape[-1], weights.taps.shape[-1]
    modes, heads, groups, *_ = options
    shared = 2 * groups * modes
    made, channels, rank, system = 2 * inner + shared + heads, inner + shared, 0, (heads,)
    if weights.dt_proj is not None:
        made, channels, rank, system = 2 * inner, inner, weights.dt_proj.shape[-1], (inner, modes)
    return (
        (made, d_model), (made,), (channels, width), (channels,), (rank + shared, inner), (inner, rank), system[:1],
        system, (inner,), (inner,), (d_out, inner), (d_out,),
    )  # fmt: skip
