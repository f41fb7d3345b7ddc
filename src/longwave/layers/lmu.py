"""LMU: the Legendre delay memory, a sliding window of the past of every channel on Legendre polynomials."""

import math
from typing import NamedTuple, final

import torch
from torch import nn

from longwave.layers.base import LTIState, State, real_dtype, rounded
from longwave.layers.cache import SystemCache
from longwave.layers.checks import check_duration, check_positive
from longwave.layers.dense import DenseBank, DenseSystem, dense_system
from longwave.math import dense_zoh, hodlr, lmu
from longwave.ops import hodlr_step
from longwave.shapes import Float, Tensor

_LEAF = 64


class LMUStep(NamedTuple):
    """`DenseSystem` of one A and B for all channels, with A in the form of `longwave.math.HODLR`."""

    near: Float[Tensor, "leaves leaf leaf"]
    gather: Float[Tensor, "leaves leaf columns"]
    spread: Float[Tensor, "leaves columns leaf"]
    B: Float[Tensor, " state"]
    C: Float[Tensor, "d_model state"]
    D: Float[Tensor, " d_model"]


@final
class LMU(DenseBank):
    """The linear Legendre memory unit: each channel remembers its last θ positions, and reads a weighting of them.

    In continuous time, for each channel,  θ m' = A m + B u,  y = C m + D u,  with A and B of `longwave.math.lmu`, the
    input held over each position. Then u(t − θ′) ≈ Σ_i P̃_i(θ′/θ) m_i for 0 ≤ θ′ ≤ θ, P̃ the shifted Legendre
    polynomials: C chooses a delay, or any other weighting of the window. Then GELU and ``output``.

    Args:
        d_model: channels of input and output.
        d_state: number of polynomials, the order of the memory; it follows frequencies up to about d_state/θ radians
            per position.
        theta: θ, the length of the window, in positions at rate 1; with ``learned``, where every channel's begins.
        learned: whether each channel trains a window of its own, θ = exp(``log_theta``), or all keep ``theta``. That
            costs d_state³ for each channel and update instead of once.
        output: ``"glu"``, ``"linear"`` or None: what follows the GELU.
        dropout: probability that a channel is zeroed after the GELU, one mask for the whole sequence.

    Raises:
        ConfigError: an option is unknown or out of its range.

    Numerics: Ā and B̄ are computed by a matrix exponential in float64 and rounded once; Krylov vectors of that rounded
        system are made in float64. Padding is free; a sequence with ``reset`` is run position by position. In float32,
        where no gradients are recorded, a step takes a fixed Ā of 128, 256, 512, … states as `longwave.math.hodlr` has
        it, without singular values below ε/16: that is less than its rounding. To double precision the blocks of Ā are
        not of low rank.

    Source: Voelker, Kajić and Eliasmith, 2019, Legendre Memory Units: Continuous-Time Representation in Recurrent
        Neural Networks, §2, whose experiment on permuted MNIST has these d_state and θ; Chilkuri and Eliasmith, 2021,
        Parallelizing Legendre Memory Unit Training, arXiv:2102.11417, for the linear layer. C ~ N(0, 1/d_state) and
        D ~ N(0, 1) are this library's, and so is a θ for each channel.

    Not to be confused with `LMUCell`, in which a nonlinear hidden state writes to the memory; nor with `HiPPO`
        (measure ``"legt"``), the same memory in orthonormal coordinates, without parameters.

    Example:
        >>> layer = LMU(d_model=8, d_state=16, theta=100.0)
        >>> y, state = layer.prefill(torch.zeros(2, 250, 8))
        >>> state.x.shape
        torch.Size([2, 8, 16])
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 256,
        *,
        theta: float = 784.0,
        learned: bool = False,
        output: str | None = "glu",
        dropout: float = 0.0,
    ) -> None:
        check_positive("d_state", d_state)
        check_duration("theta", theta)
        super().__init__(d_model, (d_model, d_state), output, dropout)
        self.theta, self.learned = theta, learned
        if learned:
            self.log_theta = nn.Parameter(torch.full((d_model,), math.log(theta)))
        self.C = nn.Parameter(torch.randn(d_model, d_state) / math.sqrt(d_state))
        self.D = nn.Parameter(torch.randn(d_model))
        self._steps = SystemCache()

    def discretize(self, rate: float = 1.0) -> DenseSystem:
        """Compute Ā, B̄, C and D for data sampled at ``rate``; a fixed Ā and B̄ are there once for all channels."""
        A, B = self._memory(rate)
        return dense_system(self.D, A, B, self.C, self.D)

    def slow_parameters(self) -> tuple[str, ...]:
        """Name θ, if it is trained: the time scale."""
        return ("log_theta",) if self.learned else ()

    def _memory(self, rate: float) -> tuple[Tensor, Tensor]:
        """Ā and B̄ in float64, (1 or d_model, state, …)."""
        fixed = torch.full((1,), self.theta, dtype=torch.float64, device=self.D.device)
        theta = self.log_theta.double().exp() if self.learned else fixed
        A, B = (matrix.to(theta) for matrix in lmu(self.C.shape[-1]))
        A, B = dense_zoh(rate / theta, A.expand(len(theta), -1, -1), B[:, None].expand(len(theta), -1, -1))
        return A, B[..., 0]

    def _compressed(self, rate: float) -> LMUStep | DenseSystem:
        """The system as a step takes it fastest."""
        leaves, rest = divmod(self.C.shape[-1], _LEAF)
        if self.learned or rest or leaves < 2 or leaves & (leaves - 1):
            return self.system(rate)
        A, B = self._memory(rate)
        tree = hodlr(A[0], _LEAF, tolerance=torch.finfo(real_dtype(self.D.dtype)).eps / 16)
        if tree.cost > 0.75:  # the dense product is the more regular one
            return self.system(rate)
        return LMUStep(*rounded(self.D, *tree, B[0], self.C, self.D))

    def _step(self, x_t: Tensor, state: State, rate: float) -> tuple[Tensor, LTIState]:
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return super()._step(x_t, state, rate)
        system = self._steps.get(lambda: self._compressed(rate), self._sources(), rate)
        return self._step_system(system, x_t, state)

    def _advance(self, system: LMUStep | DenseSystem, u_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return hodlr_step(state, u_t, *system) if isinstance(system, LMUStep) else super()._advance(system, u_t, state)
