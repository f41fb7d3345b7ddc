"""LMUCell: the Legendre memory unit as published, a nonlinear recurrence beside the delay memory that it uses."""

import math
from functools import partial
from typing import NamedTuple, final

import torch
import torch.nn.functional as F
from torch import nn

from longwave.errors import UnsupportedError
from longwave.layers.base import Mixer, State, real_dtype, rounded, without_autocast
from longwave.layers.cache import SystemCache
from longwave.layers.checks import check_duration, check_positive, check_state
from longwave.layers.recurrence import recur
from longwave.math import dense_zoh, lmu
from longwave.shapes import Float, Tensor


class LMUCellState(NamedTuple):
    """The hidden state h[t−1] and the memories m[t−1], in float32 at least."""

    h: Float[Tensor, "batch d_model"]
    m: Float[Tensor, "batch memories state"]


class _System(NamedTuple):
    """The discretised memory and the weights, in one precision."""

    A: Float[Tensor, "state state"]
    B: Float[Tensor, " state"]
    W_x: Float[Tensor, "d_model d_model"]
    W_h: Float[Tensor, "d_model d_model"]
    W_m: Float[Tensor, "d_model in"]
    e_x: Float[Tensor, "memories d_model"]
    e_h: Float[Tensor, "memories d_model"]
    e_m: Float[Tensor, "memories in"]


@final
class LMUCell(Mixer):
    """The Legendre memory unit: a hidden state h of tanh units beside linear memories m of what it wrote to them.

    u[t] = e_x x[t] + e_h h[t−1] + e_m m[t−1],
    m[t] = Ā m[t−1] + B̄ u[t],
    h[t] = tanh(W_x x[t] + W_h h[t−1] + W_m m[t]),

    and the output is h. Ā and B̄ are those of `longwave.math.lmu` with the window ``theta``, held over each position.
    The hidden state feeds the memory and each memory all of them, so no convolution and no scan computes this: it is a
    Python loop over time, many times slower than `LMU`.

    Args:
        d_model: channels of the input, and units of h.
        d_state: number of polynomials, the order of a memory.
        theta: θ, the length of its window in positions; it is not trained.
        memories: how many numbers u has, each with a memory of its own; W_m and e_m read all of them.

    Raises:
        ConfigError: an option is out of its range.
        UnsupportedError: ``rate`` is not 1: h is a recurrence over positions, whatever lies between them.

    Numerics: Ā and B̄ are computed in float64 and rounded once. The recurrence runs in float32 at least, whatever the
        dtype of x and under autocast.

    Source: Voelker, Kajić and Eliasmith, 2019, Legendre Memory Units: Continuous-Time Representation in Recurrent
        Neural Networks, §2, with one memory; its experiment on permuted MNIST has these d_state and θ. Kernels begin
        Xavier normal, e_x and e_h LeCun uniform, e_m zero; there are no biases.

    Not to be confused with `LMU`, a bank of such memories for the channels themselves, all linear.

    Example:
        >>> layer = LMUCell(d_model=8, d_state=16, theta=100.0)
        >>> y, state = layer.prefill(torch.zeros(2, 250, 8))
        >>> state.m.shape
        torch.Size([2, 1, 16])
    """

    def __init__(self, d_model: int, d_state: int = 256, *, theta: float = 784.0, memories: int = 1) -> None:
        super().__init__(d_model)
        check_positive("d_state", d_state)
        check_positive("memories", memories)
        check_duration("theta", theta)
        self.d_state, self.theta, self.memories = d_state, theta, memories
        read = memories * d_state
        self.W_x, self.W_h = _xavier_normal(d_model, d_model), _xavier_normal(d_model, d_model)
        self.W_m = _xavier_normal(d_model, read)
        self.e_x, self.e_h = _lecun_uniform(memories, d_model), _lecun_uniform(memories, d_model)
        self.e_m = nn.Parameter(torch.zeros(memories, read))
        # Plain attributes: a buffer would be rounded by .float(), and with it what .double() needs.
        with torch.device("cpu"):  # also where a model is made without its parameters, to be read from a file
            A, B = lmu(d_state)
            A, B = dense_zoh(torch.tensor(1 / theta, dtype=A.dtype), A, B[:, None])
            self._memory = A.clone(), B.clone()  # they are parts of one matrix, and torch.export saves whole ones
        self._cache = SystemCache()

    def initial_state(
        self, batch_size: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> LMUCellState:
        like = self._reference()
        zeros = partial(torch.zeros, dtype=real_dtype(dtype or like.dtype), device=device or like.device)
        return LMUCellState(zeros(batch_size, self.d_model), zeros(batch_size, self.memories, self.d_state))

    def _run(
        self, x: Tensor, state: State | None, lengths: Tensor | None, reset: Tensor | None, rate: float
    ) -> tuple[Tensor, LMUCellState]:
        system = self._system(rate)
        h, m = self.initial_state(x.shape[0], dtype=x.dtype) if state is None else self._checked(state, x)
        with without_autocast(x.device.type):
            ys, (h, m) = recur(partial(_advance, system), _drive(system, x), (h, m), lengths, reset)
        return torch.stack(ys, 1).to(x.dtype) if ys else x, LMUCellState(h, m)

    def _step(self, x_t: Tensor, state: State, rate: float) -> tuple[Tensor, LMUCellState]:
        system = self._system(rate)
        with without_autocast(x_t.device.type):
            y_t, h, m = _advance(system, _drive(system, x_t), *self._checked(state, x_t))
        return y_t.to(x_t.dtype), LMUCellState(h, m)

    def _system(self, rate: float) -> _System:
        """Memory and weights in the precision of the recurrence."""
        if rate != 1:
            raise UnsupportedError(f"rate={rate}: the hidden state is a recurrence over positions; give rate=1")
        return self._cache.get(self._rounded, self.parameters(), ())

    def _rounded(self) -> _System:
        A, B = (matrix.to(self.W_h.device) for matrix in self._memory)
        return _System(*rounded(self.W_h, A, B[:, 0], self.W_x, self.W_h, self.W_m, self.e_x, self.e_h, self.e_m))

    def _checked(self, state: State, x: Tensor) -> LMUCellState:
        """A state, checked against the inputs."""
        h, m = state
        check_state(h, (x.shape[0], self.d_model), real_dtype(x.dtype), x)
        check_state(m, (x.shape[0], self.memories, self.d_state), real_dtype(x.dtype), x)
        return LMUCellState(h, m)


def _drive(system: _System, x: Tensor) -> Tensor:
    """What x adds at every position: W_x x, and then e_x x."""
    return F.linear(x.to(system.W_x.dtype), torch.cat([system.W_x, system.e_x]))


def _advance(system: _System, driven: Tensor, h: Tensor, m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One position: the output, which is h, then h and m."""
    W_x_x, e_x_x = driven.tensor_split([h.shape[1]], -1)
    u = e_x_x + F.linear(h, system.e_h) + F.linear(m.flatten(1), system.e_m)
    m = torch.addcmul(m @ system.A.mT, u[:, :, None], system.B)
    h = torch.tanh(W_x_x + F.linear(h, system.W_h) + F.linear(m.flatten(1), system.W_m))
    return h, h, m


def _xavier_normal(rows: int, columns: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(rows, columns) * math.sqrt(2 / (rows + columns)))


def _lecun_uniform(rows: int, columns: int) -> nn.Parameter:
    bound = math.sqrt(3 / columns)
    return nn.Parameter(torch.empty(rows, columns).uniform_(-bound, bound))
