"""LSSL: a bank of state space models with a dense matrix A, the ancestor of S4, without its shortcuts.

With x[t] = Ā x[t−1] + B̄ u[t], y[t] = C x[t] + D u[t], everything here is made of the Krylov vectors of Ā: the columns
Ā^j B̄ and the rows C Ā^j. Taken T positions at a time the recurrence is

    x' = Ā^T x + Σ_j Ā^(T−1−j) B̄ u_j,      y_j = C Ā^(j+1) x + Σ_{i<=j} (C Ā^(j−i) B̄) u_i + D u_j,

and with T ≈ √length no (d_model, d_state, length) tensor is needed, in the kernel neither.
"""

import math
from typing import NamedTuple, final

import torch
from torch import nn

from longwave.errors import ConfigError
from longwave.layers.base import LTIMixer, real_dtype, rounded
from longwave.layers.checks import check_positive
from longwave.math import StateSpace, dense_gbt, legs, log_uniform
from longwave.shapes import Float, Tensor


class LSSLSystem(NamedTuple):
    """x[t] = A x[t−1] + B u[t],  y[t] = C x[t] + D u[t], for every channel."""

    A: Float[Tensor, "d_model state state"]
    B: Float[Tensor, "d_model state"]
    C: Float[Tensor, "d_model state"]
    D: Float[Tensor, " d_model"]


class _Krylov(NamedTuple):
    """For T a power of two: A^T, the columns A^j B and the rows C A^j, j = 0, …, T − 1."""

    power: Float[Tensor, "d_model state state"]
    columns: Float[Tensor, "d_model state block"]
    rows: Float[Tensor, "d_model block state"]


@final
class LSSL(LTIMixer):
    """The linear state space layer LSSL: a bank of d_model systems that share one dense A, each with its own step.

    In continuous time, for each channel,  x' = A x + B u,  y = C x + D u,  with A and B of HiPPO-LegS, discretised by
    the generalised bilinear rule with dt = rate · exp(``log_dt``):
    Ā = (I − α dt A)⁻¹ (I + (1−α) dt A),  B̄ = (I − α dt A)⁻¹ dt B. Then GELU and ``output``.

    It costs what S4 and S4D were invented to save: d_state³ for each channel and update of the parameters, and
    d_state² for each channel and step. It is the layer to compare them with, not one to train at length.

    Args:
        d_model: channels of input and output.
        d_state: real states of each channel.
        learned: whether A and B are trained, as one dense matrix and vector (``A``, ``B``), or stay those of LegS.
            Nothing keeps a trained A stable.
        alpha: α, from 0 (forward Euler) over 1/2 (bilinear) to 1 (backward Euler). Below 1/2 a stable A may become an
            unstable Ā: forward Euler needs dt · d_state < 2.
        dt_min: smallest initial step; a channel remembers about 1/dt positions.
        dt_max: largest initial step. The steps are log-uniform between the two.
        output: ``"glu"``, ``"linear"`` or None: what follows the GELU.
        dropout: probability that a channel is zeroed after the GELU, one mask for the whole sequence.

    Raises:
        ConfigError: an option is out of its range.

    Numerics: Ā and B̄ are computed in float64 and rounded once; Krylov vectors of that rounded system are made in
        float64. Padding is free; a sequence with ``reset`` is run position by position.

    Source: Gu et al., 2021, Combining Recurrent, Convolutional, and Continuous-time Models with Linear State-Space
        Layers, arXiv:2110.13985. The paper trains A within a family of structured matrices; here, if at all, A is
        trained as it is.

    Not to be confused with `S4D`, the bank whose A is diagonal.

    Example:
        >>> layer = LSSL(d_model=8, d_state=16)
        >>> y, state = layer.prefill(torch.zeros(2, 100, 8))
        >>> state.x.shape
        torch.Size([2, 8, 16])
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        learned: bool = False,
        alpha: float = 0.5,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        output: str | None = "glu",
        dropout: float = 0.0,
    ) -> None:
        check_positive("d_state", d_state)
        if not 0 <= alpha <= 1:
            raise ConfigError(f"alpha={alpha} must lie between 0, forward Euler, and 1, backward Euler")
        super().__init__(d_model, (d_model, d_state), output, dropout)
        self.learned, self.alpha = learned, alpha
        dtype = torch.get_default_dtype()
        self.log_dt = nn.Parameter(log_uniform((d_model,), dt_min, dt_max).log().to(dtype))
        if learned:
            self.A, self.B = (nn.Parameter(matrix.to(dtype)) for matrix in legs(d_state))
        self.C = nn.Parameter(torch.randn(d_model, d_state))
        self.D = nn.Parameter(torch.randn(d_model))

    def discretize(self, rate: float = 1.0) -> LSSLSystem:
        """Compute Ā, B̄, C and D for data sampled at ``rate``."""
        A, B = (self.A, self.B) if self.learned else legs(self.C.shape[-1])
        dt = self.log_dt.double().exp()
        systems = (len(dt), *A.shape)  # every channel's A and B are the same, its step is its own
        A, B = dense_gbt(
            rate * dt, A.to(dt).expand(systems), B.to(dt)[:, None].expand(*systems[:2], 1), alpha=self.alpha
        )
        return LSSLSystem(*rounded(self.D, A, B[..., 0], self.C, self.D))

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
        return StateSpace(A, B[:, :, None], C[:, None, :], D[:, None, None])

    def slow_parameters(self) -> tuple[str, ...]:
        """Name dt and, if they are trained, A and B, which set time scales."""
        return ("log_dt", "A", "B") if self.learned else ("log_dt",)

    def _state_dtype(self, dtype: torch.dtype) -> torch.dtype:
        return real_dtype(dtype)

    def _scan(
        self, system: LSSLSystem, u: Tensor, state: Tensor | None, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        u = u.to(system.D.dtype)
        state = u.new_zeros(len(u), *self.state_shape) if state is None else state
        lengths = torch.full((len(u),), u.shape[1], device=u.device) if lengths is None else lengths.long()
        if reset is not None:
            return self._recur(system, u, state, lengths, reset)
        T = _block_size(u.shape[1])
        y, states = _blocks(system, u, state, T)
        # Each row ends within a block: from the state before that, position by position.
        begins = lengths // T * T
        positions = begins[:, None] + torch.arange(T, device=u.device)
        tail = nn.functional.pad(u, (0, 0, 0, T)).take_along_dim(positions[:, :, None], 1)
        before = states[lengths // T, torch.arange(len(u), device=u.device)]
        return y, self._recur(system, tail, before, lengths - begins)[1]

    def _recur(
        self, system: LSSLSystem, u: Tensor, x: Tensor, lengths: Tensor, reset: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Every output, and the state of each row after its own length, by the recurrence itself."""
        ys = [u[:, :0]]
        for t, u_t in enumerate(u.unbind(1)):
            active = (t < lengths)[:, None, None]
            if reset is not None:
                x = torch.where(active & reset[:, t, None, None], 0, x)
            y_t, after = self._advance(system, u_t, x)
            x = torch.where(active, after, x)
            ys.append(y_t[:, None])
        return torch.cat(ys, 1), x

    def _advance(self, system: LSSLSystem, u_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        A, B, C, D = system
        x = torch.addcmul((A @ state[..., None])[..., 0], B, u_t[:, :, None])
        return torch.addcmul((C * x).sum(-1), D, u_t), x


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


def _blocks(system: LSSLSystem, u: Tensor, x: Tensor, T: int) -> tuple[Tensor, Tensor]:
    """y, and the states before every block of T positions and after the last: (blocks + 1, batch, dim, state)."""
    A, B, C, D = system
    time, count = u.shape[1], -(-u.shape[1] // T)
    krylov = _krylov(A.double(), B.double(), C.double(), T)
    lag = torch.arange(T, device=u.device) - torch.arange(T, device=u.device)[:, None]
    k = (krylov.rows[:, :1] @ krylov.columns)[:, 0]
    toeplitz = torch.where(lag >= 0, k[:, lag.clamp(min=0)], 0).to(D.dtype)
    compress, expand = krylov.columns.flip(-1).mT.to(D.dtype), (krylov.rows @ A.double()).mT.to(D.dtype)
    power = krylov.power.mT.to(D.dtype)
    # (dim, blocks, batch, T): one matrix product per channel for all blocks and rows.
    padded = nn.functional.pad(u, (0, 0, 0, count * T - time))
    blocks = padded.unflatten(1, (count, T)).permute(3, 1, 0, 2)
    driven = blocks @ compress[:, None]
    states = [x.transpose(0, 1)]
    for i in range(count):
        states.append(torch.baddbmm(driven[:, i], states[-1], power))
    states = torch.stack(states, 1)
    y = states[:, :-1] @ expand[:, None] + blocks @ toeplitz[:, None]
    y = y.permute(2, 1, 3, 0).flatten(1, 2)[:, :time]
    return torch.addcmul(y, D, u), states.permute(1, 2, 0, 3)
