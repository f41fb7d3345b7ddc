"""S4: a bank of state space models that are diagonal plus low rank, one single-input system for each channel."""

import math
from typing import NamedTuple, final

import torch
from torch import nn

from longwave.errors import ConfigError
from longwave.layers.base import LTIMixer, LTIState, State, real_dtype, rounded, without_autocast
from longwave.layers.cache import SystemCache
from longwave.layers.checks import check_positive
from longwave.layers.dplr_scan import SPAN, dplr_scan
from longwave.layers.options import choose
from longwave.math import NPLR_FORMS, StateSpace, log_uniform
from longwave.math.dplr import DiscreteDPLR, as_complex, as_functional, as_real, bilinear_dplr, paired
from longwave.ops import block_scan, block_tables, cauchy
from longwave.shapes import Complex, Float, Tensor

SLOWEST = 1e-4  # Re Λ begins no nearer to 0: where a measure has 0 itself, its logarithm could not be stored


class S4System(NamedTuple):
    """x[t] = x[t−1] + A x[t−1] − Q (S · x[t−1]) + B u[t],  y[t] = C · x[t] + D u[t], with s · x = 2 Re Σ s x."""

    A: Complex[Tensor, "d_model modes"]
    Q: Complex[Tensor, "d_model modes rank"]
    S: Complex[Tensor, "d_model rank modes"]
    B: Complex[Tensor, "d_model modes"]
    C: Complex[Tensor, "d_model modes"]
    D: Float[Tensor, " d_model"]


class S4Step(NamedTuple):
    """What a step reads of the state, y[t] and S · x[t−1], and what it writes to it, in real coordinates.

    (z, s) = reads · x[t−1],  y[t] = z + through u[t],  x[t] = a x[t−1] + writes · (u[t], s).
    """

    a: Complex[Tensor, "d_model modes"]
    reads: Float[Tensor, "d_model one_plus_rank state"]  # C Ā and S
    writes: Float[Tensor, "d_model one_plus_rank modes 2"]  # B and −Q
    through: Float[Tensor, " d_model"]  # C B + D


@final
class S4(LTIMixer):
    """The structured state space model S4, a bank of d_model systems with d_state real states each.

    In continuous time, for each channel,  x' = (diag(Λ) − P Pᴴ) x + B u,  y = 2 Re(C x) + D u,  with
    Λ = −exp(``log_neg_A_real``) + i ``A_imag``; discretised by the bilinear rule with dt = rate · exp(``log_dt``). Each
    of the d_state/2 complex modes stands for itself and its conjugate. Then GELU and ``output``.

    Args:
        d_model: channels of input and output.
        d_state: real states of each channel, even.
        measure: the HiPPO operator that Λ, P and B begin with, a name of
            `longwave.math.NPLR_FORMS`.
        B_clip: largest initial |B| of a mode; None keeps HiPPO's B, whose fastest modes have the largest ones.
        dt_min: smallest initial step; a channel remembers about 1/dt positions.
        dt_max: largest initial step. The steps are log-uniform between the two.
        output: ``"glu"``, ``"linear"`` or None: what follows the GELU.
        dropout: probability that a channel is zeroed after the GELU, one mask for the whole sequence.

    Raises:
        ConfigError: an option is unknown or out of its range.

    Numerics: the discrete system is kept in float64, as increments Ā − I. States are complex64 between calls
        (complex128 for float64 inputs); a step computes in float64 in between. ``forward`` runs the system in blocks
        (`dplr_scan`), ``kernel`` is made by its generating function; all views agree to 1e-5 of the largest output at
        length 16,384 (1e-10 in float64).

    Source: Gu, Goel, Ré, 2022, Efficiently Modeling Long Sequences with Structured State Spaces, arXiv:2111.00396, §3
        and appendix C. P is the same on both sides, as in Goel et al., 2022, It's Raw!, arXiv:2202.09729, §4.1, so a
        stable system stays stable. Here C is the parameter itself, which no length enters, where the paper trains
        C (I − Āᴸ). The published code clips Im B at ±2 in whatever phase its eigensolver chose; ``B_clip`` limits |B|.
        C ~ CN(0, 1), E|C|² = 1; D ~ N(0, 1).

    Not to be confused with S4D, which has no low-rank term.

    Example:
        >>> layer = S4(d_model=8, d_state=16)
        >>> layer(torch.zeros(2, 100, 8)).shape
        torch.Size([2, 100, 8])
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        measure: str = "legs",
        B_clip: float | None = None,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        output: str | None = "glu",
        dropout: float = 0.0,
    ) -> None:
        check_positive("d_state", d_state)
        if d_state % 2:
            raise ConfigError(f"d_state={d_state} must be even: the modes come in conjugate pairs")
        if B_clip is not None and not B_clip > 0:
            raise ConfigError(f"B_clip={B_clip} must be positive, or None to keep B as it is")
        modes = d_state // 2
        super().__init__(d_model, (d_model, modes), output, dropout)
        Lambda, P, B, _ = choose("measure", measure, NPLR_FORMS)(d_state)
        if B_clip is not None:
            B = B * (B_clip / B.abs()).clamp(max=1)
        self.log_dt = nn.Parameter(log_uniform((d_model,), dt_min, dt_max).log().to(torch.get_default_dtype()))
        self.log_neg_A_real = _per_channel((-Lambda.real).clamp(min=SLOWEST).log(), d_model)
        self.A_imag = _per_channel(Lambda.imag, d_model)
        self.P = _per_channel(torch.view_as_real(P.resolve_conj()), d_model)
        self.B = _per_channel(torch.view_as_real(B.resolve_conj()), d_model)
        self.C = nn.Parameter(torch.randn(d_model, modes, 2) / math.sqrt(2))
        self.D = nn.Parameter(torch.randn(d_model))
        self._stepping = SystemCache()

    def discretize(self, rate: float = 1.0) -> S4System:
        """Compute Ā, B̄, C and D for data sampled at ``rate``, in float64."""
        # Not rounded: where dt |Λ| ≫ 2, A is close to −2, and float32 would lose how slowly such a mode decays.
        Lambda = torch.complex(-self.log_neg_A_real.double().exp(), self.A_imag.double())
        P, B, C = (torch.view_as_complex(pair.double()) for pair in (self.P, self.B, self.C))
        dynamics = bilinear_dplr(rate * self.log_dt.double().exp(), Lambda, P, B)
        return S4System(*rounded(self.D.double(), *dynamics, C, self.D))

    def kernel(self, length: int, rate: float = 1.0) -> Float[Tensor, "d_model length"]:
        """Return each channel's impulse response, k[l] = 2 Re(C Āˡ B̄) + D δ[l]."""
        system = self.system(rate)
        k = _impulse_response(system, length)
        return torch.cat([k[:, :1] + system.D[:, None], k[:, 1:]], dim=1).to(real_dtype(self.D.dtype))

    def to_state_space(self, rate: float = 1.0) -> StateSpace:
        """Return the d_model systems as dense float64 matrices, (d_model, d_state, d_state) and so on."""
        A, Q, S, B, C, D = (x.detach() for x in self.system(rate))
        a = 1 + A.to(torch.complex128)
        diagonal = StateSpace.from_diagonal(a, B[:, :, None], C[:, None, :], D[:, None, None], conjugate_pairs=True)
        # The same real coordinates for Q S: those of B for its columns, those of C for its rows.
        low_rank = StateSpace.from_diagonal(a, Q, S, D.new_zeros(len(D), *2 * Q.shape[2:]), conjugate_pairs=True)
        return StateSpace(diagonal.A - low_rank.B @ low_rank.C, diagonal.B, diagonal.C, diagonal.D)

    def slow_parameters(self) -> tuple[str, ...]:
        """Name dt, A, P and B, which set time scales; the S4 recipes train them slowly and without decay."""
        return "log_dt", "log_neg_A_real", "A_imag", "P", "B"

    def _map(self, x: Tensor, lengths: Tensor | None, reset: Tensor | None, rate: float) -> Tensor:
        """Within a block, the state at the end of a sequence costs tables of its own."""
        *dynamics, C, D = self.system(rate)
        with without_autocast(x.device.type):
            y, _ = dplr_scan(DiscreteDPLR(*dynamics), C, D, x, None, lengths, reset, with_state=False)
        return self.readout(y.to(x.dtype)).to(x.dtype)

    def _scan(
        self, system: S4System, u: Tensor, state: Tensor | None, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        return dplr_scan(DiscreteDPLR(*system[:4]), system.C, system.D, u, state, lengths, reset)

    def _step(self, x_t: Tensor, state: State, rate: float) -> tuple[Tensor, LTIState]:
        system = self._stepping.get(lambda: _step_system(self.system(rate)), self._sources(), rate)
        return self._step_system(system, x_t, state)

    def _advance(self, system: S4Step, u_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        a, reads, writes, through = system
        before, u_t = state.to(a.dtype), u_t.to(through.dtype)
        z, *fed_back = (reads * as_real(before)[:, :, None]).sum(-1).unbind(2)
        x = a * before
        parts = torch.view_as_real(x)
        for value, column in zip((u_t, *fed_back), writes.unbind(1), strict=True):
            parts.addcmul_(column, value[:, :, None, None])
        return torch.addcmul(z, through, u_t), x.to(state.dtype)


def _step_system(system: S4System) -> S4Step:
    """The numbers of a step; C Ā = C + C A − (C Q) S."""
    A, Q, S, B, C, D = system
    CA = C[:, None] + (A * C)[:, None] - paired(C[:, None], Q.mT).to(S.dtype) @ S
    reads, writes = as_functional(torch.cat([CA, S], 1)), torch.cat([B[:, None], -Q.mT], 1)
    return S4Step(1 + A, reads, torch.view_as_real(writes.resolve_conj()), 2 * (C * B).sum(-1).real + D)


def _per_channel(x: Tensor, d_model: int) -> nn.Parameter:
    """A parameter that begins the same in every channel, with memory of its own."""
    return nn.Parameter(x.to(torch.get_default_dtype()).expand(d_model, *x.shape).clone())


def _impulse_response(system: S4System, length: int) -> Float[Tensor, "d_model length"]:
    """k[l] = 2 Re(C Āˡ B) in float64, by the generating function at the n-th roots of unity, n ≥ length even.

    With C̃ = C (I − Āⁿ), Σ_{l<n} k[l] zˡ = C̃ (I − Ā z)⁻¹ B where zⁿ = 1, and with g = 1/(1 − a z)

        (I − Ā z)⁻¹ = g − g Q (1/z + S g Q)⁻¹ S g,      1 − a z = (1 + z) (iω − w)(2 + A)/2,

    where iω = (1 − z)/(1 + z) = i tan(θ/2) for z = e^{−iθ}, and w = A/(2 + A). So C̃ g B = C̃B/(1 + z) and so on, with
    Cauchy sums C̃B, C̃Q, SB, SQ at imaginary nodes, and (1 + z)/z = 1 + z̄ on the circle. At z = −1 the node is infinite,
    and g = 1/(2 + A).
    """
    A, Q, S, B, C, _ = (x.to(torch.complex128) for x in system)
    n = max(2, 1 << (length - 1).bit_length())
    left = torch.cat([_truncating(DiscreteDPLR(A, Q, S, B), C, n), S], 1)
    right = torch.cat([B[..., None], Q], 2)
    v = (left[:, :, None] * right.mT[:, None] * (2 / (2 + A))[:, None, None]).flatten(1, 2)
    half = math.pi / n * torch.arange(n // 2, dtype=torch.float64, device=A.device)  # θ/2
    one_plus_z = torch.polar(2 * half.cos(), -half)
    sums = cauchy(v, half.tan(), A / (2 + A)).values
    below = _with_feedback(sums, one_plus_z.conj()) / one_plus_z
    sums = v.sum(-1, keepdim=True).real.to(v.dtype)
    return torch.fft.irfft(torch.cat([below, _with_feedback(sums, -torch.ones_like(sums[0, 0]))], 1), n)[:, :length]


def _with_feedback(
    sums: Complex[Tensor, "dim rows nodes"], identity: Complex[Tensor, " nodes"]
) -> Complex[Tensor, "dim nodes"]:
    """CB − CQ (identity + SQ)⁻¹ SB at every node."""
    side = math.isqrt(sums.shape[1])
    CB, CQ, SB, SQ = (
        sums.unflatten(1, (side, side))[:, i, j] for i in (0, slice(1, None)) for j in (0, slice(1, None))
    )
    if side == 2:  # LAPACK would take every node by itself
        return CB - CQ[:, 0] * SB[:, 0] / (identity + SQ[:, 0, 0])
    if side == 3:
        a, d = identity + SQ[:, 0, 0], identity + SQ[:, 1, 1]
        b, c = SQ[:, 0, 1], SQ[:, 1, 0]
        adjugate = CQ[:, 0] * (d * SB[:, 0] - b * SB[:, 1]) + CQ[:, 1] * (a * SB[:, 1] - c * SB[:, 0])
        return CB - adjugate / (a * d - b * c)
    matrices = SQ.movedim(-1, 1) + identity[:, None, None] * torch.eye(side - 1, dtype=SQ.dtype, device=SQ.device)
    return CB - (CQ * torch.linalg.solve(matrices, SB.mT).mT).sum(1)


def _truncating(dynamics: DiscreteDPLR, C: Tensor, n: int) -> Complex[Tensor, "d_model 1 modes"]:
    """C (I − Āⁿ), for n a power of two, by row vectors: a row times Āᵀ is a state of the transposed system."""
    span = min(n, SPAN)
    A, Q, S, B = dynamics
    row, transition = as_functional(C[:, None]), block_tables(A, Q.mT, S, B, C, span).transition.mT
    none = row.new_zeros(row.shape)  # inputs and outputs of the recurrence, which is run for its states alone
    inputs = row.new_zeros(len(row), 1, n // span, 1)
    row = block_scan(inputs, transition, none, none, none[..., 0], row).final_state
    return C[:, None] - as_complex(row).conj() / 2
