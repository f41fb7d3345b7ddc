"""DSS: the bank of diagonal systems that came before S4D, with one set of eigenvalues and complex output weights."""

import math
from typing import NamedTuple, final

import torch
from torch import nn

from longwave.errors import ConfigError, UnsupportedError
from longwave.layers.base import LTIMixer, LTIState, State, real_dtype, rounded
from longwave.layers.checks import check_positive
from longwave.layers.options import choose
from longwave.math import SPECTRA, StateSpace, expm1, log_uniform, zoh
from longwave.ops import diagonal_ssm, vandermonde
from longwave.shapes import Complex, Float, Tensor

_VERSIONS = {version: version for version in ("exp", "softmax")}


class DSSSystem(NamedTuple):
    """x[t] = A x[t−1] + B u[t],  y[t] = Re(Σ C x[t]) + D u[t], for every channel."""

    A: Complex[Tensor, "d_model modes"]
    B: Complex[Tensor, "d_model modes"]
    C: Complex[Tensor, "d_model modes"]
    D: Float[Tensor, " d_model"]


@final
class DSS(LTIMixer):
    """The diagonal state space DSS: for each channel a kernel of d_state exponentials, exp or softmax.

    With z = dt Λ and the paper's w (``C``), lag l of a channel's kernel is

        exp:      k[l] = Re Σ w Λ⁻¹ (e^z − 1) e^{z l}
        softmax:  k[l] = Re Σ w Λ⁻¹ e^{z l} / Σ_r e^{z r},  r = 0, …, l_max − 1.

    Both are Λ held constant over steps dt = rate · exp(``log_dt``): x' = Λ x + B u, y = Re(w x), with B = 1 (exp) or
    B = 1/(e^{z l_max} − 1) (softmax), and so recurrences. Λ is shared by the channels. Its real part is
    −exp(``log_neg_Lambda_real``) in exp; in softmax it is ``Lambda_real``, of either sign: a mode with Re Λ > 0 looks
    at what is l_max positions old more than at the present. Then D u is added, and GELU and ``output`` follow.

    The softmax belongs to a length. Here that is ``l_max`` for every input, since a recurrence cannot know how long
    its input will be. Modes with Re Λ ≤ 0 go on beyond it, by the same formula, and fade. A mode with Re Λ > 0 would
    grow there without bound: with such a mode only ``forward``, on l_max / rate positions or fewer, is possible.

    Args:
        d_model: channels of input and output.
        d_state: complex modes of each channel; each stands for itself alone, so the output has no factor 2.
        version: ``"exp"`` or ``"softmax"``.
        l_max: number of lags, at rate 1, over which softmax normalises; softmax needs it, exp has no use for it.
        init: the initial Λ, a name of `longwave.math.SPECTRA`; ``"legs"`` is the paper's Skew-HiPPO.
        dt_min: smallest initial step; a channel remembers about 1/dt positions.
        dt_max: largest initial step. The steps are log-uniform between the two.
        output: ``"glu"``, ``"linear"`` or None: what follows the GELU.
        dropout: probability that a channel is zeroed after the GELU, one mask for the whole sequence.

    Raises:
        ConfigError: an option is unknown or out of its range, or l_max does not go with the version.

    Numerics: Ā and B̄ are computed in float64 and rounded once; for Re Λ > 0, B = −e^{−z l_max}/(e^{−z l_max} − 1). A
        recurrence in floating point bears a growth |e^{z l_max}| up to the square root of the largest number, e⁴⁴ in
        float32 and e³⁵⁴ in float64; more raises `UnsupportedError`. So do the poles of the softmax, e^{z l_max} = 1:
        nothing is added to its denominator to hide them.

    Source: Gupta, Gu and Berant, 2022, Diagonal State Spaces are as Effective as Structured State Spaces,
        arXiv:2203.14343, Proposition 1. Re w, Im w ~ N(0, 1). As in the paper there is one dt for a channel; the
        authors' code can have one for Re Λ and another for Im Λ, and takes as l_max the length of each input.

    Not to be confused with `S4D`, whose modes are conjugate pairs, with a Λ and a B for every channel.

    Example:
        >>> layer = DSS(d_model=8, d_state=16, version="softmax", l_max=100)
        >>> layer(torch.zeros(2, 100, 8)).shape
        torch.Size([2, 100, 8])
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        version: str = "exp",
        l_max: int | None = None,
        init: str = "legs",
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        output: str | None = "glu",
        dropout: float = 0.0,
    ) -> None:
        check_positive("d_state", d_state)
        super().__init__(d_model, (d_model, d_state), output, dropout)
        self.version = choose("version", version, _VERSIONS)
        self.l_max = _checked_length(version, l_max)
        dtype = torch.get_default_dtype()
        Lambda = choose("init", init, SPECTRA)(d_state)
        self.log_dt = nn.Parameter(log_uniform((d_model,), dt_min, dt_max).log().to(dtype))
        if version == "exp":
            self.log_neg_Lambda_real = nn.Parameter((-Lambda.real).log().to(dtype))
        else:
            self.Lambda_real = nn.Parameter(Lambda.real.to(dtype, copy=True))
        self.Lambda_imag = nn.Parameter(Lambda.imag.to(dtype, copy=True))
        self.C = nn.Parameter(torch.randn(d_model, d_state, 2))
        self.D = nn.Parameter(torch.randn(d_model))

    def discretize(self, rate: float = 1.0) -> DSSSystem:
        """Compute Ā, B̄, C and D for data sampled at ``rate``; softmax keeps its window, l_max · dt at rate 1."""
        dt, C = self.log_dt.double().exp(), torch.view_as_complex(self.C.double())
        real = -self.log_neg_Lambda_real.double().exp() if self.l_max is None else self.Lambda_real.double()
        Lambda = torch.complex(real, self.Lambda_imag.double()).expand_as(C)
        if self.l_max is None:
            B = torch.ones_like(C)
        else:
            B = _normaliser(self.l_max * dt[:, None] * Lambda, real_dtype(self.D.dtype))
        A, B = zoh(rate * dt, Lambda, B)
        return DSSSystem(*rounded(self.D, A, B, C, self.D))

    def kernel(self, length: int, rate: float = 1.0) -> Float[Tensor, "d_model length"]:
        """Return each channel's impulse response, k[l] = Re(Σ C Āˡ B̄) + D δ[l]."""
        self._check_growth("kernel", length * rate)
        A, B, C, D = self.system(rate)
        k = vandermonde(A, B * C / 2, length).kernel
        return torch.cat([k[:, :1] + D[:, None], k[:, 1:]], dim=1)

    def to_state_space(self, rate: float = 1.0) -> StateSpace:
        """Return the d_model systems as dense float64 matrices with 2 d_state real states, Re x and Im x in turn."""
        A, B, C, D = (x.detach() for x in self.system(rate))
        return StateSpace.from_diagonal(A, B[:, :, None], C[:, None, :], D[:, None, None], conjugate_pairs=False)

    def slow_parameters(self) -> tuple[str, ...]:
        """Name dt and Λ, which set time scales."""
        return "log_dt", "log_neg_Lambda_real" if self.l_max is None else "Lambda_real", "Lambda_imag"

    def _run(
        self, x: Tensor, state: State | None, lengths: Tensor | None, reset: Tensor | None, rate: float
    ) -> tuple[Tensor, LTIState]:
        self._check_growth("forward", x.shape[1] * rate)
        return super()._run(x, state, lengths, reset, rate)

    def _check_causal(self, method: str) -> None:
        super()._check_causal(method)
        self._check_growth(method, None)

    def _check_growth(self, method: str, span: float | None) -> None:
        """Modes of softmax with Re Λ > 0 must end at l_max; a span of None is a stream, which does not."""
        if self.l_max is None or torch.compiler.is_compiling() or (span is not None and span <= self.l_max):
            return
        growing = int((self.Lambda_real > 0).sum())
        if growing:
            raise UnsupportedError(
                f"{method}: {growing} of {len(self.Lambda_real)} modes have Re Λ > 0, and the softmax keeps those "
                f"finite for l_max={self.l_max} positions only: call forward on at most that many, build the layer "
                'with a larger l_max, or take version="exp", which has no such modes'
            )

    def _scan(
        self, system: DSSSystem, u: Tensor, state: Tensor | None, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        A, B, C, D = system
        # The op counts each mode twice, as one of a conjugate pair.
        return diagonal_ssm(u, None, A, B, C / 2, D, state, reset=reset, lengths=lengths)

    def _advance(self, system: DSSSystem, u_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        A, B, C, D = system
        x = torch.addcmul(B * u_t[:, :, None], A, state)
        return torch.addcmul((C * x).sum(-1).real, D, u_t), x


def _checked_length(version: str, l_max: int | None) -> int | None:
    """l_max, if it is there for softmax and only there."""
    if version == "softmax":
        if l_max is None:
            raise ConfigError('version="softmax" normalises over a length: give l_max, that of the longest sequence')
        check_positive("l_max", l_max)
    elif l_max is not None:
        raise ConfigError(f'l_max={l_max} belongs to version="softmax"; version="exp" runs at any length: leave it out')
    return l_max


def _normaliser(zL: Complex[Tensor, "d_model modes"], dtype: torch.dtype) -> Complex[Tensor, "d_model modes"]:
    """1/(e^{zL} − 1), which times (e^z − 1)/Λ is Λ⁻¹ over the softmax's denominator, for a recurrence in ``dtype``."""
    grows = zL.real > 0
    decaying = torch.where(grows, -zL, zL)
    denominator = expm1(decaying)
    if not torch.compiler.is_compiling():
        _check_range(zL, denominator, dtype)
    return torch.where(grows, -decaying.exp(), 1) / denominator


def _check_range(zL: Tensor, denominator: Tensor, dtype: torch.dtype) -> None:
    """The softmax must be defined, and the growth of its modes within the range of the recurrence."""
    if bool((denominator == 0).any()):
        raise UnsupportedError(
            "DSS: the softmax of a mode divides by zero, since e^{Λ dt l_max} = 1 (Λ = 0, for one): "
            "move Lambda_real away from zero"
        )
    # States reach e^{zL} B and gradients e^{zL}: their products must be numbers too.
    limit = math.log(torch.finfo(dtype).max) / 2
    if bool((zL.real > limit).any()):
        raise UnsupportedError(
            f"DSS: a mode grows by e^{zL.real.max():.0f} over l_max positions, and a recurrence in {dtype} bears "
            f"e^{limit:.0f}: lower Lambda_real or log_dt, use float64, or take a smaller l_max"
        )
