"""Banks of systems with a dense matrix A: every view of them, made of the Krylov vectors of Ā.

With x[t] = Ā x[t−1] + B̄ u[t], y[t] = C x[t] + D u[t] these are the columns Ā^j B̄ and the rows C Ā^j. Taken T positions
at a time the recurrence is

    x' = Ā^T x + Σ_j Ā^(T−1−j) B̄ u_j,      y_j = C Ā^(j+1) x + Σ_{i<=j} (C Ā^(j−i) B̄) u_i + D u_j,

and with T ≈ √length no (d_model, d_state, length) tensor is needed, in the kernel neither.
"""

import math
from abc import abstractmethod
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from longwave.layers.base import LTIMixer, real_dtype, rounded
from longwave.layers.recurrence import recur
from longwave.math import StateSpace
from longwave.ops import dense_step
from longwave.shapes import Float, Tensor


class DenseSystem(NamedTuple):
    """x[t] = A x[t−1] + B u[t],  y[t] = C x[t] + D u[t], for every channel; one A and one B may serve all."""

    A: Float[Tensor, "#d_model state state"]
    B: Float[Tensor, "#d_model state"]
    C: Float[Tensor, "d_model state"]
    D: Float[Tensor, " d_model"]


def dense_system(like: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> DenseSystem:
    """Round a float64 system as `rounded` does; A has its columns contiguous, which is how `dense_step` reads it."""
    return DenseSystem(*rounded(like, A.mT.contiguous().mT, B, C, D))


class _Krylov(NamedTuple):
    """For T a power of two: A^T, the columns A^j B and the rows C A^j, j = 0, …, T − 1."""

    power: Float[Tensor, "#d_model state state"]
    columns: Float[Tensor, "#d_model state block"]
    rows: Float[Tensor, "d_model block state"]


class DenseBank(LTIMixer):
    """A bank of dense systems: a subclass writes ``discretize``, which returns a `DenseSystem`."""

    @abstractmethod
    def discretize(self, rate: float = 1.0) -> DenseSystem:
        """Compute the discrete system of the parameters in float64 and round it to the state's dtype."""

    def kernel(self, length: int, rate: float = 1.0) -> Float[Tensor, "d_model length"]:
        """Return each channel's impulse response, k[l] = C Āˡ B̄ + D δ[l], from Krylov vectors: l = T i + j."""
        A, B, C, D = self.system(rate)
        T = _block_size(length)
        fine = _krylov(A.double(), B.double(), C.double(), T)
        coarse = _krylov(fine.power, B.double(), C.double(), -(-length // T))
        k = (coarse.rows @ fine.columns).flatten(1)[:, :length].to(D.dtype)
        return torch.cat([k[:, :1] + D[:, None], k[:, 1:]], dim=1)

    def to_state_space(self, rate: float = 1.0) -> StateSpace:
        """Return the d_model systems as dense float64 matrices, (d_model, d_state, d_state) and so on."""
        A, B, C, D = (x.detach().double() for x in self.system(rate))
        A, B = A.expand(len(C), -1, -1), B.expand_as(C)
        return StateSpace(A, B[:, :, None], C[:, None, :], D[:, None, None])

    def _state_dtype(self, dtype: torch.dtype) -> torch.dtype:
        return real_dtype(dtype)

    def _scan(
        self, system: DenseSystem, u: Tensor, state: Tensor | None, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        u = u.to(system.D.dtype)
        state = u.new_zeros(len(u), *self.state_shape) if state is None else state
        if reset is not None:
            return self._recur(system, u, state, lengths, reset)
        T = _block_size(u.shape[1])
        y, states = _blocks(system, u, state, T)
        # Each row ends within a block: from the state before that, position by position.
        if lengths is None:
            whole = u.shape[1] // T
            return y, self._recur(system, u[:, whole * T :], states[whole])[1]
        whole = lengths.long() // T
        positions = T * whole[:, None] + torch.arange(T, device=u.device)
        tail = nn.functional.pad(u, (0, 0, 0, T)).take_along_dim(positions[:, :, None], 1)
        before = states[whole, torch.arange(len(u), device=u.device)]
        return y, self._recur(system, tail, before, lengths - T * whole)[1]

    def _recur(
        self, system: DenseSystem, u: Tensor, x: Tensor, lengths: Tensor | None = None, reset: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Every output, and the state of each row after its own length, by the recurrence itself."""
        ys, (x,) = recur(partial(self._advance, system), u, (x,), lengths, reset)
        return (torch.stack(ys, 1) if ys else u), x

    def _advance(self, system: DenseSystem, u_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return dense_step(state, u_t, *system)


def _block_size(length: int) -> int:
    """T: the power of two next to √length."""
    return 1 << round(math.log2(max(1, length)) / 2)


def _krylov(A: Tensor, B: Tensor, C: Tensor, count: int) -> _Krylov:
    """At least ``count`` Krylov vectors on either side, by doubling."""
    power, columns, rows = A, B[:, :, None], C[:, None, :]
    while rows.shape[1] < count:
        columns, rows = torch.cat([columns, power @ columns], -1), torch.cat([rows, rows @ power], 1)
        power = power @ power
    return _Krylov(power, columns, rows)


def _blocks(system: DenseSystem, u: Tensor, x: Tensor, T: int) -> tuple[Tensor, Tensor]:
    """y, and the states before every block of T positions and after the last: (blocks + 1, batch, dim, state)."""
    A, B, C, D = system
    time, count = u.shape[1], -(-u.shape[1] // T)
    krylov = _krylov(A.double(), B.double(), C.double(), T)
    lag = torch.arange(T, device=u.device) - torch.arange(T, device=u.device)[:, None]
    k = (krylov.rows[:, :1] @ krylov.columns)[:, 0]
    toeplitz = torch.where(lag >= 0, k[:, lag.clamp(min=0)], 0).to(D.dtype)
    compress, expand = krylov.columns.flip(-1).mT.to(D.dtype), (krylov.rows @ A.double()).mT.to(D.dtype)
    power = krylov.power.mT.to(D.dtype).expand(len(D), -1, -1)
    # (dim, blocks · batch, T): one matrix product per channel for all blocks and rows.
    padded = nn.functional.pad(u, (0, 0, 0, count * T - time))
    blocks = padded.unflatten(1, (count, T)).permute(3, 1, 0, 2).flatten(1, 2)
    driven = (blocks @ compress).unflatten(1, (count, len(u)))
    states = [x.transpose(0, 1)]
    for i in range(count):
        states.append(torch.baddbmm(driven[:, i], states[-1], power))
    states = torch.stack(states, 1)
    y = states[:, :-1].flatten(1, 2) @ expand + blocks @ toeplitz
    y = y.unflatten(1, (count, len(u))).permute(2, 1, 3, 0).flatten(1, 2)[:, :time]
    return torch.addcmul(y, D, u), states.permute(1, 2, 0, 3)
