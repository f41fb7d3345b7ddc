"""S4D: a bank of diagonal state space models, one single-input system for each channel."""

import math
from typing import NamedTuple, final

import torch
from torch import nn

from longwave.errors import ConfigError
from longwave.layers.base import LTIMixer, rounded
from longwave.layers.checks import check_positive
from longwave.layers.options import choose
from longwave.math import DISCRETIZATIONS, SPECTRA, StateSpace, log_uniform
from longwave.ops import diagonal_ssm, vandermonde
from longwave.shapes import Complex, Float, Tensor


class S4DSystem(NamedTuple):
    """x[t] = A x[t−1] + B u[t],  y[t] = 2 Re(Σ C x[t]) + D u[t], for every channel."""

    A: Complex[Tensor, "d_model modes"]
    B: Complex[Tensor, "d_model modes"]
    C: Complex[Tensor, "d_model modes"]
    D: Float[Tensor, " d_model"]


@final
class S4D(LTIMixer):
    """The diagonal state space model S4D, a bank of d_model systems with d_state real states each.

    In continuous time, for each channel,  x' = A x + B u,  y = 2 Re(C x) + D u,  with diagonal
    A = −exp(``log_neg_A_real``) + i ``A_imag``; discretised with the step dt = rate · exp(``log_dt``). Each of the
    d_state/2 complex modes stands for itself and its conjugate, hence the 2 Re. Then GELU and ``output``.

    Args:
        d_model: channels of input and output.
        d_state: real states of each channel, even.
        init: the initial A, a name of `longwave.math.SPECTRA`. ``"real"`` begins with A_imag = 0, and may leave it.
        discretization: ``"zoh"`` or ``"bilinear"``.
        dt_min: smallest initial step; a channel remembers about 1/dt positions.
        dt_max: largest initial step. The steps are log-uniform between the two.
        bandlimit: α, in units of the Nyquist frequency at rate 1: only modes with dt |Im A| < α π reach the output.
            The same modes at every rate, so α = 1/r keeps a model free of aliases up to rate r. None keeps all.
        output: ``"glu"``, ``"linear"`` or None: what follows the GELU.
        dropout: probability that a channel is zeroed after the GELU, one mask for the whole sequence.

    Raises:
        ConfigError: an option is unknown or out of its range.

    Numerics: Ā and B̄ are computed in float64 and rounded once to complex64 (complex128 for float64 parameters); all
        views use that system and agree to 1e-5 of the largest output at length 16,384 (1e-10 in float64).

    Source: Gu et al., 2022, On the Parameterization and Initialization of Diagonal State Space Models,
        arXiv:2206.11893, §4. B begins as ones and is trained; C ~ CN(0, 1), E|C|² = 1; D ~ N(0, 1).

    Example:
        >>> layer = S4D(d_model=8, d_state=16)
        >>> layer(torch.zeros(2, 100, 8)).shape
        torch.Size([2, 100, 8])
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        init: str = "legs",
        discretization: str = "zoh",
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        bandlimit: float | None = None,
        output: str | None = "glu",
        dropout: float = 0.0,
    ) -> None:
        check_positive("d_state", d_state)
        if d_state % 2:
            raise ConfigError(f"d_state={d_state} must be even: the modes come in conjugate pairs")
        if bandlimit is not None and not bandlimit > 0:
            raise ConfigError(f"bandlimit={bandlimit} must be positive, or None to keep every mode")
        modes = d_state // 2
        super().__init__(d_model, (d_model, modes), output, dropout)
        self.bandlimit = bandlimit
        self._discretization = choose("discretization", discretization, DISCRETIZATIONS)
        dtype = torch.get_default_dtype()
        A = choose("init", init, SPECTRA)(modes).expand(d_model, modes)
        self.log_dt = nn.Parameter(log_uniform((d_model,), dt_min, dt_max).log().to(dtype))
        self.log_neg_A_real = nn.Parameter((-A.real).log().to(dtype))
        self.A_imag = nn.Parameter(A.imag.to(dtype, copy=True))
        self.B = nn.Parameter(torch.tensor([1.0, 0.0]).repeat(d_model, modes, 1))
        self.C = nn.Parameter(torch.randn(d_model, modes, 2) / math.sqrt(2))
        self.D = nn.Parameter(torch.randn(d_model))

    def discretize(self, rate: float = 1.0) -> S4DSystem:
        """Compute Ā, B̄, C and D for data sampled at ``rate``."""
        dt = self.log_dt.double().exp()
        A = torch.complex(-self.log_neg_A_real.double().exp(), self.A_imag.double())
        B, C = (torch.view_as_complex(pair.double()) for pair in (self.B, self.C))
        if self.bandlimit is not None:
            C = C * (dt[:, None] * A.imag.abs() < math.pi * self.bandlimit)
        A, B = self._discretization(rate * dt, A, B)
        return S4DSystem(*rounded(self.D, A, B, C, self.D))

    def kernel(self, length: int, rate: float = 1.0) -> Float[Tensor, "d_model length"]:
        """Return each channel's impulse response, k[l] = 2 Re(Σ C Āˡ B̄) + D δ[l]."""
        A, B, C, D = self.system(rate)
        k = vandermonde(A, B * C, length).kernel
        return torch.cat([k[:, :1] + D[:, None], k[:, 1:]], dim=1)

    def to_state_space(self, rate: float = 1.0) -> StateSpace:
        """Return the d_model systems as dense float64 matrices, (d_model, d_state, d_state) and so on."""
        A, B, C, D = (x.detach() for x in self.system(rate))
        return StateSpace.from_diagonal(A, B[:, :, None], C[:, None, :], D[:, None, None], conjugate_pairs=True)

    def slow_parameters(self) -> tuple[str, ...]:
        """Name dt, A and B, which set time scales; the S4 recipes train them slowly and without decay."""
        return "log_dt", "log_neg_A_real", "A_imag", "B"

    def _scan(
        self, system: S4DSystem, u: Tensor, state: Tensor | None, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        return diagonal_ssm(u, None, *system, state, reset=reset, lengths=lengths)

    def _advance(self, system: S4DSystem, u_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        A, B, C, D = system
        x = torch.addcmul(B * u_t[:, :, None], A, state)
        return torch.add(D * u_t, (C * x).sum(-1).real, alpha=2), x
