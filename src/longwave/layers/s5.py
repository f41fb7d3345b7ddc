"""S5: one multi-input state space model with a diagonal matrix, for regular and for irregular samples."""

import math
from typing import NamedTuple, final

import torch
from torch import nn

from longwave.errors import ConfigError
from longwave.layers.base import LTIMixer, LTIState, State, rounded
from longwave.layers.checks import check_positive, check_steps
from longwave.layers.mimo import drive, impulse_response, read
from longwave.layers.options import choose
from longwave.math import DISCRETIZATIONS, StateSpace, legs_nplr, log_uniform
from longwave.ops import linear_scan
from longwave.shapes import Bool, Complex, Float, Int, Tensor


class S5System(NamedTuple):
    """x[t] = A x[t−1] + B u[t],  y[t] = 2 Re(C x[t]) + D u[t], with A = diag(Λ̄)."""

    A: Complex[Tensor, " modes"]
    B: Complex[Tensor, "modes d_model"]
    C: Complex[Tensor, "d_model modes"]
    D: Float[Tensor, " d_model"]


class S5Samples(NamedTuple):
    """x[t] = A[t] x[t−1] + g[t] ⊙ (B u[t]),  y[t] = 2 Re(C x[t]) + D u[t]: a step for each position, or for one."""

    A: Complex[Tensor, "*positions modes"]
    g: Complex[Tensor, "*positions modes"]
    B: Complex[Tensor, "modes d_model"]
    C: Complex[Tensor, "d_model modes"]
    D: Float[Tensor, " d_model"]


@final
class S5(LTIMixer):
    """The simplified state space model S5: one system with d_state real states, shared by all channels.

    In continuous time  x' = Λ x + B u,  y = 2 Re(C x) + D u,  with diagonal
    Λ = −exp(``log_neg_A_real``) + i ``A_imag``; mode n is discretised with its own step, rate · exp(``log_dt``[n]).
    Each of the d_state/2 complex modes stands for itself and its conjugate. Then GELU and ``output``.

    Irregular samples: ``forward`` and ``prefill`` take ``dt`` (batch, time), ``step`` takes ``dt`` (batch,). dt[t] is
    the time from sample t−1 to sample t, in units of the sampling interval of training, and multiplies the step there:
    the state decays over it and u[t] is held during it. dt of ones is ``dt=None``; at dt = 0 the state stays as it is.

    Args:
        d_model: channels of input and output.
        d_state: real states, shared by all channels.
        blocks: J; Λ begins as J copies of the spectrum of HiPPO-LegS of size N = d_state/J, an even number. Smaller
            blocks have lower frequencies: the largest is about N²/π radians per unit of time.
        discretization: ``"zoh"`` or ``"bilinear"``.
        dt_min: smallest initial step; a mode remembers about 1/dt positions.
        dt_max: largest initial step. The steps are log-uniform between the two.
        output: ``"glu"``, ``"linear"`` or None: what follows the GELU.
        dropout: probability that a channel is zeroed after the GELU, one mask for the whole sequence.

    Raises:
        ConfigError: an option is unknown or out of its range.

    Numerics: Λ̄ and B̄ are computed in float64 and rounded once to complex64 (complex128 for float64 parameters). With
        ``dt`` so are Λ̄[t] and g[t], the factor in B̄[t] = g[t] B: B u is one matrix product, and memory is
        O(batch · time · (d_model + d_state)), without a matrix for each position.

    Source: Smith, Warrington and Linderman, 2023, Simplified State Space Layers for Sequence Modeling,
        arXiv:2208.04933, §3 and §4. With V the eigenvectors of the blocks, B begins as V⁻¹ B₀ and C as C₀ V, B₀ real
        and C₀ complex with parts ~ N(0, 1/d_state); D ~ N(0, 1). The paper trains Re Λ itself, which may then become
        positive; here it is −exp(·), always stable.

    Not to be confused with `LRU`, whose eigenvalues are discrete-time parameters and whose output has no factor 2.

    Example:
        >>> layer = S5(d_model=8, d_state=16, blocks=2)
        >>> layer(torch.zeros(2, 100, 8), dt=torch.rand(2, 100)).shape
        torch.Size([2, 100, 8])
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 128,
        *,
        blocks: int = 1,
        discretization: str = "zoh",
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        output: str | None = "glu",
        dropout: float = 0.0,
    ) -> None:
        check_positive("d_state", d_state)
        check_positive("blocks", blocks)
        if d_state % (2 * blocks):
            raise ConfigError(f"d_state={d_state} must be a multiple of 2·blocks={2 * blocks}: modes come in pairs")
        super().__init__(d_model, (d_state // 2,), output, dropout)
        self._discretization = choose("discretization", discretization, DISCRETIZATIONS)
        dtype = torch.get_default_dtype()
        A, B, C = _hippo_blocks(d_model, d_state, blocks)
        self.log_dt = nn.Parameter(log_uniform((d_state // 2,), dt_min, dt_max).log().to(dtype))
        self.log_neg_A_real = nn.Parameter((-A.real).log().to(dtype))
        self.A_imag = nn.Parameter(A.imag.to(dtype, copy=True))
        self.B = nn.Parameter(torch.view_as_real(B).to(dtype))
        self.C = nn.Parameter(torch.view_as_real(C).to(dtype))
        self.D = nn.Parameter(torch.randn(d_model))

    def forward(
        self,
        x: Float[Tensor, "batch time d_model"],
        *,
        lengths: Int[Tensor, " batch"] | None = None,
        reset: Bool[Tensor, "batch time"] | None = None,
        rate: float = 1.0,
        dt: Float[Tensor, "batch time"] | None = None,
    ) -> Float[Tensor, "batch time d_model"]:
        """Map whole sequences, from the zero state: `Mixer.forward`, and ``dt`` for irregular samples."""
        if dt is None:
            return super().forward(x, lengths=lengths, reset=reset, rate=rate)
        return self.prefill(x, lengths=lengths, reset=reset, rate=rate, dt=dt)[0]

    def prefill(
        self,
        x: Float[Tensor, "batch time d_model"],
        state: State | None = None,
        *,
        lengths: Int[Tensor, " batch"] | None = None,
        reset: Bool[Tensor, "batch time"] | None = None,
        rate: float = 1.0,
        dt: Float[Tensor, "batch time"] | None = None,
    ) -> tuple[Float[Tensor, "batch time d_model"], LTIState]:
        """Map a chunk, from a state to the state at each row's own end: `Mixer.prefill`, and ``dt`` for this chunk."""
        self._check(x, lengths, reset, rate)
        if dt is None:
            return self._run(x, state, lengths, reset, rate)
        check_steps(dt, tuple(x.shape[:2]), x)
        return self._run_system(self.sample(rate * dt.double()), x, state, lengths, reset)

    def step(
        self,
        x_t: Float[Tensor, "batch d_model"],
        state: State,
        *,
        rate: float = 1.0,
        dt: Float[Tensor, " batch"] | None = None,
    ) -> tuple[Float[Tensor, "batch d_model"], LTIState]:
        """Map one position: `Mixer.step`, and ``dt``, the time since the sample before it."""
        self._check_step(x_t, rate)
        if dt is None:
            return self._step(x_t, state, rate)
        check_steps(dt, tuple(x_t.shape[:1]), x_t)
        return self._step_system(self.sample(rate * dt.double()), x_t, state)

    def discretize(self, rate: float = 1.0) -> S5System:
        """Compute Λ̄, B̄, C and D for data sampled at ``rate``."""
        A, g = self._discrete(rate * self.log_dt.double().exp())
        B, C = (torch.view_as_complex(pair.double()) for pair in (self.B, self.C))
        return S5System(*rounded(self.D, A, g[:, None] * B, C, self.D))

    def sample(self, dt: Float[Tensor, "*positions"]) -> S5Samples:
        """Compute Λ̄ and g at every position, and B, C and D.

        Args:
            dt: time since the sample before, in units of the sampling interval of training, ≥ 0.
        """
        A, g = self._discrete(dt.double()[..., None] * self.log_dt.double().exp())
        B, C = (torch.view_as_complex(pair.double()) for pair in (self.B, self.C))
        return S5Samples(*rounded(self.D, A, g, B, C, self.D))

    def kernel(self, length: int, rate: float = 1.0) -> Float[Tensor, "out in length"]:
        """Return the impulse response from every input to every output, k[l] = 2 Re(C diag(Λ̄ˡ) B̄) + D δ[l]."""
        A, B, C, D = self.system(rate)
        return impulse_response(A, B, 2 * C, D, length)

    def to_state_space(self, rate: float = 1.0) -> StateSpace:
        """Return the system as dense float64 matrices with d_state real states, Re x and Im x in turn."""
        A, B, C, D = (x.detach() for x in self.system(rate))
        return StateSpace.from_diagonal(A, B, C, torch.diag(D), conjugate_pairs=True)

    def slow_parameters(self) -> tuple[str, ...]:
        """Name dt, Λ and B, which the paper trains more slowly and without decay."""
        return "log_dt", "log_neg_A_real", "A_imag", "B"

    def _discrete(self, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Λ̄ and g for steps (*positions, modes): the discretisation of every mode with input weight 1."""
        A = torch.complex(-self.log_neg_A_real.double().exp(), self.A_imag.double())
        A = A.expand(steps.shape).reshape(-1, 1)
        discrete = self._discretization(steps.flatten(), A, torch.ones_like(A))
        return discrete.A.reshape(steps.shape), discrete.B.reshape(steps.shape)

    def _scan(
        self,
        system: S5System | S5Samples,
        u: Tensor,
        state: Tensor | None,
        lengths: Tensor | None,
        reset: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        u = u.to(system.D.dtype)
        Bu = drive(u, system.B)
        Bu = system.g * Bu if isinstance(system, S5Samples) else Bu
        x, final = linear_scan(system.A, Bu, state, reset=reset, lengths=lengths)
        return read(x, 2 * system.C, system.D, u), final

    def _advance(self, system: S5System | S5Samples, u_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        Bu = u_t.to(system.A.dtype) @ system.B.mT
        Bu = system.g * Bu if isinstance(system, S5Samples) else Bu
        x = torch.addcmul(Bu, system.A, state)
        return torch.add(system.D * u_t, (x @ system.C.mT).real, alpha=2), x


def _hippo_blocks(d_model: int, d_state: int, blocks: int) -> tuple[Tensor, Tensor, Tensor]:
    """Λ, B and C, drawn, of a block-diagonal HiPPO-LegS in its eigenbasis."""
    size = d_state // blocks
    hippo = legs_nplr(size)
    B = torch.randn(blocks, size, d_model, dtype=torch.float64) / math.sqrt(d_state)
    # randn draws complex numbers of variance 1; each part shall have variance 1/d_state.
    C = torch.randn(d_model, blocks, size, dtype=torch.complex128) * math.sqrt(2 / d_state)
    return hippo.Lambda.repeat(blocks), (hippo.V.mH @ B.to(hippo.V.dtype)).flatten(0, 1), (C @ hippo.V).flatten(1)
