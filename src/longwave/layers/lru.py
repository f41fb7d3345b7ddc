"""LRU, the linear recurrent unit: one multi-input system with a complex diagonal matrix, drawn inside the unit disk."""

import math
from typing import NamedTuple, final

import torch
from torch import nn

from longwave.layers.base import LTIMixer, rounded
from longwave.layers.checks import check_positive
from longwave.layers.mimo import drive, impulse_response, read
from longwave.math import StateSpace, ring
from longwave.ops import linear_scan
from longwave.shapes import Complex, Float, Tensor


class LRUSystem(NamedTuple):
    """h[t] = A h[t−1] + B u[t],  y[t] = Re(C h[t]) + D u[t], with A = diag(λ)."""

    A: Complex[Tensor, " modes"]
    B: Complex[Tensor, "modes d_model"]
    C: Complex[Tensor, "d_model modes"]
    D: Float[Tensor, " d_model"]


@final
class LRU(LTIMixer):
    """The linear recurrent unit: h[t] = λ h[t−1] + γ B u[t],  y[t] = Re(C h[t]) + D u[t].

    λ = exp(−exp(``nu_log``) + i exp(``theta_log``)) lies inside the unit disk whatever the parameters, and
    γ = exp(``gamma_log``), which begins as √(1 − |λ|²), gives every mode unit variance on white noise. Each mode
    stands for itself alone: the output has no factor 2. Then GELU and ``output``.

    Args:
        d_model: channels of input and output.
        d_state: complex modes, shared by all channels.
        r_min: smallest initial |λ|.
        r_max: largest initial |λ|, at most 1; a mode remembers about 1/(1 − |λ|) positions.
        max_phase: largest initial arg λ, radians per position; small phases suit long sequences.
        output: ``"glu"``, ``"linear"`` or None: what follows the GELU.
        dropout: probability that a channel is zeroed after the GELU, one mask for the whole sequence.

    Raises:
        ConfigError: an option is unknown or out of its range.

    Numerics: λ is computed in float64 and rounded once to complex64 (complex128 for float64 parameters). At
        ``rate`` r it is λʳ, with B as it is.

    Source: Orvieto et al., 2023, Resurrecting Recurrent Neural Networks for Long Sequences, arXiv:2303.06349, §3 and
        appendix A. B ~ CN(0, 1/d_model), C ~ CN(0, 2/d_state), as in its listing; D ~ N(0, 1).

    Example:
        >>> layer = LRU(d_model=8, d_state=16, r_min=0.9)
        >>> y, state = layer.prefill(torch.zeros(2, 100, 8))
        >>> y_t, state = layer.step(torch.zeros(2, 8), state)
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 256,
        *,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 2 * math.pi,
        output: str | None = "glu",
        dropout: float = 0.0,
    ) -> None:
        check_positive("d_state", d_state)
        super().__init__(d_model, (d_state,), output, dropout)
        dtype = torch.get_default_dtype()
        lam = ring(d_state, r_min, r_max, max_phase)
        nu, theta = -lam.abs().log(), lam.angle() % (2 * math.pi)
        gamma = (-torch.expm1(-2 * nu)).sqrt()
        self.nu_log = nn.Parameter(nu.log().to(dtype))
        self.theta_log = nn.Parameter(theta.log().to(dtype))
        self.gamma_log = nn.Parameter(gamma.log().to(dtype))
        self.B = nn.Parameter(torch.randn(d_state, d_model, 2) / math.sqrt(2 * d_model))
        self.C = nn.Parameter(torch.randn(d_model, d_state, 2) / math.sqrt(d_state))
        self.D = nn.Parameter(torch.randn(d_model))

    def discretize(self, rate: float = 1.0) -> LRUSystem:
        """Compute λ, γB, C and D for data sampled at ``rate``."""
        nu, theta, gamma = (log.double().exp() for log in (self.nu_log, self.theta_log, self.gamma_log))
        lam = torch.exp(rate * torch.complex(-nu, theta))
        B, C = (torch.view_as_complex(pair.double()) for pair in (self.B, self.C))
        return LRUSystem(*rounded(self.D, lam, gamma[:, None] * B, C, self.D))

    def kernel(self, length: int, rate: float = 1.0) -> Float[Tensor, "out in length"]:
        """Return the impulse response from every input to every output, k[l] = Re(C diag(λˡ) B) + D δ[l]."""
        A, B, C, D = self.system(rate)
        return impulse_response(A, B, C, D, length)

    def to_state_space(self, rate: float = 1.0) -> StateSpace:
        """Return the system as dense float64 matrices with 2 d_state real states, Re h and Im h in turn."""
        A, B, C, D = (x.detach() for x in self.system(rate))
        return StateSpace.from_diagonal(A, B, C, torch.diag(D), conjugate_pairs=False)

    def slow_parameters(self) -> tuple[str, ...]:
        """Name λ, γ and B, which the paper trains more slowly and without decay."""
        return "nu_log", "theta_log", "gamma_log", "B"

    def _scan(
        self, system: LRUSystem, u: Tensor, state: Tensor | None, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        A, B, C, D = system
        u = u.to(D.dtype)
        h, final = linear_scan(A, drive(u, B), state, reset=reset, lengths=lengths)
        return read(h, C, D, u), final

    def _advance(self, system: LRUSystem, u_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        A, B, C, D = system
        h = torch.addcmul(u_t.to(A.dtype) @ B.mT, A, state)
        return torch.addcmul((h @ C.mT).real, D, u_t), h
