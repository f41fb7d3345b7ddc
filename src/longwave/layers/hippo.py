"""HiPPO, a memory without parameters: the past of a signal, held as its coefficients on orthonormal functions."""

import math
from typing import NamedTuple, final

import torch
from torch import nn

from longwave.errors import ConfigError, ShapeError, UnsupportedError
from longwave.layers.checks import check_duration, check_positive
from longwave.layers.options import choose
from longwave.math import BASES, DENSE_DISCRETIZATIONS, MEASURES, legendre_basis
from longwave.ops import linear_scan
from longwave.shapes import Float, Tensor

# rule -> α of the generalised bilinear one; zero-order hold is none of them
_ALPHA = {"forward": 0.0, "bilinear": 0.5, "backward": 1.0}


class HiPPOState(NamedTuple):
    """What is known of each signal: its coefficients, and the time up to which it has been read."""

    coefficients: Float[Tensor, "batch state"]
    time: Float[Tensor, " batch"]


@final
class HiPPO(nn.Module):
    """The online projection of a signal on the functions of a measure, and its reconstruction from them.

    x' = (A x + B u) / t for LegS, whose past [0, t] weighs equally however long it gets;  x' = (A x + B u) / θ for
    the others, with window or time constant θ. A sample holds from the previous sample's time until its own, the
    first from time 0 on.

    Args:
        N: number of coefficients.
        measure: ``"legs"``, all of the past on Legendre polynomials; ``"legt"`` or ``"fourier"``, the last θ on
            Legendre polynomials or a Fourier series; ``"lagt"``, the past on Laguerre functions, which fade over θ.
        discretization: ``"forward"`` or ``"backward"`` (Euler), ``"bilinear"``, ``"zoh"`` (exact for held samples).
        theta: window or time constant, > 0, in units of time; LegS has none.
        dt: time between samples, > 0, where no time stamps say otherwise.

    Raises:
        ConfigError: an option is unknown or out of its range; forward Euler is unstable at this dt / theta.

    Numerics: states are float64, outputs have the dtype of the signal. LegS depends on the ratios of times alone, and
        each of its steps is exact for a constant signal. A step of LegS costs O(N) by the generalised bilinear rules
        and O(N²) by zero-order hold, with no solve and no exponential of a matrix; of the others O(N²), one product
        with a matrix that was discretised once. Forward Euler amplifies coefficient n of LegS while t/dt < (n+1)/2,
        and rounding with it: for more than about 32 coefficients take another rule.

    Source: Gu et al. 2020, "HiPPO: Recurrent Memory with Optimal Polynomial Projections", Theorems 1 to 3. The
        generalised bilinear rules weigh the two ends of a step by A/t at its beginning and at its end, which is of
        second order for the bilinear one; the released code has the beginning's in both places.

    Not to be confused with `longwave.math.HiPPO`, the pair of matrices (A, B) of a measure.

    Example:
        >>> memory = HiPPO(8, "legs")
        >>> c = memory(torch.ones(1, 100))
        >>> memory.reconstruct(c[:, -1], torch.tensor([10.0, 90.0]), now=100.0)
        tensor([[1., 1.]])
    """

    def __init__(
        self, N: int, measure: str = "legs", *, discretization: str = "bilinear", theta: float = 1.0, dt: float = 1.0
    ) -> None:
        super().__init__()
        check_positive("N", N)
        choose("measure", measure, MEASURES)
        choose("discretization", discretization, DENSE_DISCRETIZATIONS)
        check_duration("theta", theta)
        check_duration("dt", dt)
        self.N, self.measure, self.discretization, self.theta, self.dt = N, measure, discretization, theta, dt
        # Plain attributes: a buffer would be rounded by .float(), and a state is float64 whatever the model.
        self._fixed = _gauss(N) if measure == "legs" else self._system()

    def forward(
        self, u: Float[Tensor, "batch time"], *, times: Float[Tensor, " time"] | None = None
    ) -> Float[Tensor, "batch time state"]:
        """Return the coefficients after every sample; arguments as in `prefill`."""
        return self.prefill(u, times=times)[0]

    def prefill(
        self,
        u: Float[Tensor, "batch time"],
        state: HiPPOState | None = None,
        *,
        times: Float[Tensor, " time"] | None = None,
    ) -> tuple[Float[Tensor, "batch time state"], HiPPOState]:
        """Project a signal, or its continuation, online.

        Args:
            u: samples.
            state: what an earlier part left; None is time 0.
            times: time stamps, the same for all rows, rising, at any distances; None is every ``dt``.

        Returns:
            The coefficients after every sample, and the state at the end.

        Raises:
            UnsupportedError: ``times`` with a measure other than LegS, whose system is discretised once.
            ShapeError: ``u``, ``state`` or ``times`` has the wrong shape, or ``times`` do not rise.
        """
        _check_signal(u)
        state = self.initial_state(len(u), device=u.device) if state is None else state
        if state.coefficients.shape != (len(u), self.N):
            raise ShapeError(
                f"state has coefficients {tuple(state.coefficients.shape)}, and u wants {(len(u), self.N)}: begin with "
                f"initial_state({len(u)}) of the same memory"
            )
        self._check_times(times, u.shape[1], state)
        outputs = []
        for k, u_t in enumerate(u.unbind(1)):
            state = self._advance(u_t.double(), state, None if times is None else times[k].double())
            outputs.append(state.coefficients)
        c = torch.stack(outputs, 1) if outputs else state.coefficients[:, None][:, :0]
        return c.to(u.dtype), state

    def step(
        self, u_t: Float[Tensor, " batch"], state: HiPPOState, *, time: float | None = None
    ) -> tuple[Float[Tensor, "batch state"], HiPPOState]:
        """Read one sample, at ``time`` or ``dt`` after the last; returns the coefficients and the new state."""
        stamp = None if time is None else torch.tensor([time], dtype=torch.float64, device=u_t.device)
        c, state = self.prefill(u_t[:, None], state, times=stamp)
        return c[:, 0], state

    def initial_state(self, batch_size: int, *, device: torch.device | str | None = None) -> HiPPOState:
        """Return the state at time 0, of signals of which nothing is known."""
        zeros = torch.zeros(batch_size, self.N + 1, dtype=torch.float64, device=device)
        return HiPPOState(zeros[:, 1:], zeros[:, 0])

    def reconstruct(
        self, coefficients: Float[Tensor, "*channels state"], times: Float[Tensor, " points"], *, now: float
    ) -> Float[Tensor, "*channels points"]:
        """Return the signal that coefficients stand for, û(τ) = Σ_n c_n φ_n(τ).

        Args:
            coefficients: what was known at time ``now``.
            times: where to evaluate, absolute and ≤ now; before time 0, or the window, there is no meaning.
            now: the time of the coefficients; sample k of a regular signal (from 0) is read at (k+1) dt.

        Returns:
            Values of û in the dtype of the coefficients.
        """
        if not (math.isfinite(now) and now > 0):
            raise ConfigError(f"now={now} must be positive and finite: it is the time at which coefficients were read")
        x = times.double() / now if self.measure == "legs" else (now - times.double()) / self.theta
        values = coefficients.double() @ BASES[self.measure](self.N, x).mT
        return values.to(coefficients.dtype)

    def approximation_error(
        self,
        u: Float[Tensor, "batch time"],
        coefficients: Float[Tensor, "batch state"],
        *,
        times: Float[Tensor, " time"] | None = None,
    ) -> Float[Tensor, " batch"]:
        """Return the root mean square of u − û over the past that the measure weighs, seen from the last sample.

        Args:
            u: samples.
            coefficients: those after the last of them.
            times: time stamps, as in `prefill`.

        Returns:
            The error, in the unit of u: each sample against û at the middle of the interval in which it holds. The past
            is [0, t], or the part of it within the window of LegT and Fourier.
        """
        _check_signal(u)
        if not u.shape[1]:
            raise ShapeError("approximation_error: u has no samples: give one or more")
        self._check_times(times, u.shape[1], self.initial_state(1, device=u.device))
        steps = self.dt * torch.arange(1, u.shape[1] + 1, dtype=torch.float64, device=u.device)
        ends = steps if times is None else times.double()
        now = ends[-1].item()
        begins = torch.cat([ends.new_zeros(1), ends[:-1]])
        if self.measure in ("legt", "fourier"):
            begins, ends = begins.clamp(min=now - self.theta), ends.clamp(min=now - self.theta)
        gap = u.double() - self.reconstruct(coefficients.double(), (begins + ends) / 2, now=now)
        weights = (ends - begins) / (ends - begins).sum()
        return (gap.square().where(weights > 0, 0) @ weights).sqrt().to(u.dtype)

    def extra_repr(self) -> str:
        """What print shows."""
        theta = "" if self.measure == "legs" else f", theta={self.theta}"
        return f"{self.N}, {self.measure!r}, discretization={self.discretization!r}{theta}, dt={self.dt}"

    def _system(self) -> tuple[Tensor, Tensor]:
        """Ā and B̄ of a measure that does not change with time."""
        A, B = MEASURES[self.measure](self.N)
        h = self.dt / self.theta
        # Fourier's idle state keeps its eigenvalue 1: rounding alone is no instability.
        if self.discretization == "forward" and (1 + h * torch.linalg.eigvals(A)).abs().max() > 1 + 1e-9:
            raise ConfigError(
                f"forward Euler is unstable for {self.measure} with N={self.N} at dt/theta={h:.3g}: make dt smaller, "
                "or take discretization='bilinear'"
            )
        A, B = DENSE_DISCRETIZATIONS[self.discretization](torch.tensor(h, dtype=A.dtype), A, B[:, None])
        return A, B[:, 0]

    def _advance(self, u: Tensor, state: HiPPOState, stamp: Tensor | None) -> HiPPOState:
        """The state after one more sample."""
        c, t = state
        after = t + self.dt if stamp is None else stamp.expand_as(t)
        fixed = [matrix.to(c.device) for matrix in self._fixed]
        if self.measure != "legs":
            A, B = fixed
            return HiPPOState(torch.addcmul(c @ A.mT, u[:, None], B), after)
        # A e_0 = −B: a constant u is u e_0 for ever, and d = c − u e_0 obeys d' = A d / t, without input.
        constant = nn.functional.pad(u[:, None], (0, self.N - 1))
        # Where t = 0, ratios of times are those of a step from the end: finite, since their gradient is asked for too.
        begin = t.where(t > 0, after)
        if self.discretization == "zoh":
            d = _hold(c - constant, begin / after, *fixed)
        else:
            d = _stretch(c - constant, (after - t) / begin, (after - t) / after, _ALPHA[self.discretization])
        # Nothing is left at the end of the first interval, which has no other past.
        return HiPPOState(constant + d.where(t[:, None] > 0, 0), after)

    def _check_times(self, times: Tensor | None, count: int, state: HiPPOState) -> None:
        if times is None:
            return
        if self.measure != "legs":
            raise UnsupportedError(f"times need measure='legs', not {self.measure!r}, which is discretised for one dt")
        if times.shape != (count,):
            raise ShapeError(f"times has shape {tuple(times.shape)}, and u has {count} samples: give one time for each")
        before = torch.cat([state.time.max()[None], times.double()])
        if not bool((before.diff() > 0).all()):
            raise ShapeError(
                f"times must rise, from later than {before[0].item():g}, to which the signal has been read"
            )


def _check_signal(u: Tensor) -> None:
    if u.ndim != 2 or not u.is_floating_point():
        raise ShapeError(f"u must be real numbers with shape (batch, time), got {u.dtype} with shape {tuple(u.shape)}")


def _stretch(
    d: Float[Tensor, "batch state"], begin: Float[Tensor, " batch"], end: Float[Tensor, " batch"], alpha: float
) -> Float[Tensor, "batch state"]:
    """A generalised bilinear step of d' = A d / t; dt/t is ``begin`` at its beginning, ``end`` at its end."""
    return _solve(d + _times_A(d) * ((1 - alpha) * begin)[:, None], alpha * end)


def _times_A(d: Float[Tensor, "batch state"]) -> Float[Tensor, "batch state"]:
    """A d for LegS in O(N): −(n+1) d_n − r_n Σ_{k<n} r_k d_k."""
    n, r = _indices(d)
    partial_sums = (r * d).cumsum(-1) - r * d
    return -(n + 1) * d - r * partial_sums


def _solve(z: Float[Tensor, "batch state"], beta: Float[Tensor, " batch"]) -> Float[Tensor, "batch state"]:
    """(I − β A)⁻¹ z for LegS in O(N).

    Row n reads (1 + β(n+1)) y_n + β r_n s_n = z_n with s_n = Σ_{k<n} r_k y_k, so s is a recurrence over n:
    s_{n+1} = s_n + r_n y_n = ((1 − βn) s_n + r_n z_n) / (1 + β(n+1)), whose factors stay within [−1, 1].
    """
    n, r = _indices(z)
    beta = beta[:, None]
    pivot = 1 + beta * (n + 1)
    # The op's time is n, its channels are our rows.
    sums = linear_scan(((1 - beta * n) / pivot).mT[None], (r * z / pivot).mT[None]).states[0].mT
    before = nn.functional.pad(sums[:, :-1], (1, 0))
    return (z - beta * r * before) / pivot


def _hold(
    d: Float[Tensor, "batch state"],
    rho: Float[Tensor, " batch"],
    nodes: Float[Tensor, " state"],
    weights: Float[Tensor, " state"],
) -> Float[Tensor, "batch state"]:
    """e^{log(1/ρ) A} d for LegS: a function on [0, 1] is squeezed into [0, ρ], and zero beyond.

    Its new coefficients are ρ ∫₀¹ f(y) φ_n(ρ y) dy, polynomials of degree below 2N: Gauss's rule is exact with N nodes.
    """
    N = d.shape[-1]
    f = d @ legendre_basis(N, nodes).mT
    squeezed = legendre_basis(N, rho[:, None] * nodes)
    return ((rho[:, None] * f * weights)[:, None] @ squeezed)[:, 0]


def _gauss(N: int) -> tuple[Float[Tensor, " state"], Float[Tensor, " state"]]:
    """Nodes and weights of Gauss's rule on [0, 1]: eigenvalues of the Jacobi matrix, squared first components."""
    n = torch.arange(1, N, dtype=torch.float64)
    off = n / (4 * n * n - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    return (nodes + 1) / 2, vectors[0].square()


def _indices(d: Tensor) -> tuple[Tensor, Tensor]:
    """n, and r_n = √(2n+1)."""
    n = torch.arange(d.shape[-1], dtype=d.dtype, device=d.device)
    return n, (2 * n + 1).sqrt()
