"""RTF: a bank of systems given by their rational transfer functions, trained without a state."""

import itertools
import math
import warnings
from collections.abc import Callable
from typing import NamedTuple, final

import torch
import torch.nn.functional as F
from torch import nn

from longwave.errors import ConfigError, UnsupportedError
from longwave.layers.base import LTIMixer, State, real_dtype, rounded, without_autocast
from longwave.layers.cache import SystemCache
from longwave.layers.checks import check_positive
from longwave.layers.options import choose
from longwave.layers.padding import real_positions
from longwave.math import StateSpace, rational
from longwave.ops import long_conv
from longwave.shapes import Bool, Float, Int, Tensor


class RTFSystem(NamedTuple):
    """w[t] = u[t] − Σ A_k w[t−k],  y[t] = Σ C_k w[t−k] + D u[t], and the first l_max lags of it, k."""

    A: Float[Tensor, "d_model state"]
    C: Float[Tensor, "d_model state"]
    D: Float[Tensor, " d_model"]
    k: Float[Tensor, "d_model length"]


def _zero(d_model: int, n: int) -> tuple[Tensor, Tensor]:
    """The system that passes its input: y = D u."""
    return torch.zeros(d_model, n), torch.zeros(d_model, n)


def _xavier(d_model: int, n: int) -> tuple[Tensor, Tensor]:
    """Uniform coefficients of variance 2/(d_model + n); nothing keeps the poles inside the unit circle."""
    bound = math.sqrt(6 / (d_model + n))
    return torch.empty(d_model, n).uniform_(-bound, bound), torch.empty(d_model, n).uniform_(-bound, bound)


def _montel(d_model: int, n: int) -> tuple[Tensor, Tensor]:
    """Those of xavier, a scaled to Σ|a| = 1/2: by Montel's bound, Σ|a| < 1 keeps every pole inside the unit circle."""
    a, b = _xavier(d_model, n)
    return a / (2 * a.abs().sum(-1, keepdim=True)), b


_INITS: dict[str, Callable[[int, int], tuple[Tensor, Tensor]]] = {"zero": _zero, "xavier": _xavier, "montel": _montel}


@final
class RTF(LTIMixer):
    """A bank of d_model rational transfer functions, H(z) = D + Σ C_k z⁻ᵏ / (1 + Σ a_k z⁻ᵏ), k = 1 … d_state.

    In training the first l_max lags of the impulse response come from one FFT of length l_max of the coefficients,
    k = (D, IDFT(DFT(``b``) / DFT(1, ``a``))), whatever the size of the state: ``b`` is the circular numerator of that
    length. The deployed numerator C, the first coefficients of (1, a) ∗ (k − D δ), has the same first l_max lags and
    serves every other length: longer inputs, ``prefill`` from a state, and ``step``, which is the recurrence
    w[t] = u[t] − Σ a_k w[t−k],  y[t] = Σ C_k w[t−k] + D u[t]. Then GELU and ``output``.

    Args:
        d_model: channels of input and output.
        d_state: n, the number of coefficients of numerator and denominator.
        l_max: length of the FFT, above d_state; ``b`` belongs to it. Inputs up to it are convolved with the FFT's k.
        init: ``"zero"``; ``"xavier"``, whose poles may be unstable; or ``"montel"``, with Σ|a| = 1/2, stable.
        output: ``"glu"``, ``"linear"`` or None: what follows the GELU.
        dropout: probability that a channel is zeroed after the GELU, one mask for the whole sequence.

    Raises:
        ConfigError: an option is unknown or out of its range.
        UnsupportedError: ``rate`` is not 1: coefficients of z know no sampling interval.

    Warns:
        RuntimeWarning: the recurrence, or its matrices, are asked for and a pole lies outside the unit circle. The FFT
            hides that: its impulse response ends at l_max.

    Numerics: k and C are computed in float64 and rounded once. Outputs of ``forward`` and ``prefill`` are FFT
        convolutions, so their error is relative to a channel's largest output. The state is w[t] … w[t−n], n + 1
        numbers, real: here outputs read the state after the input, and w[t−n] is needed then.

    Source: Parnichkun et al., 2024, State-Free Inference of State-Space Models: The Transfer Function Approach,
        arXiv:2405.06147. Its published code lets lag l_max fall on lag 0, and solves for C without a transpose; both
        are right here. D begins as ones.

    Example:
        >>> layer = RTF(d_model=8, d_state=16, l_max=100)
        >>> y, state = layer.prefill(torch.zeros(2, 250, 8))
        >>> y_t, state = layer.step(torch.zeros(2, 8), state)
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        l_max: int = 1024,
        init: str = "zero",
        output: str | None = "glu",
        dropout: float = 0.0,
    ) -> None:
        check_positive("d_state", d_state)
        check_positive("l_max", l_max)
        if l_max <= d_state:
            raise ConfigError(f"l_max={l_max} must exceed d_state={d_state}: the FFT holds every coefficient")
        super().__init__(d_model, (d_model, d_state + 1), output, dropout)
        self.l_max = l_max
        a, b = choose("init", init, _INITS)(d_model, d_state)
        self.a, self.b = nn.Parameter(a), nn.Parameter(b)
        self.D = nn.Parameter(torch.ones(d_model))
        self._radius, self._warning, self._phi = SystemCache(), SystemCache(), SystemCache()

    def prefill(
        self,
        x: Float[Tensor, "batch time d_model"],
        state: State | None = None,
        *,
        lengths: Int[Tensor, " batch"] | None = None,
        reset: Bool[Tensor, "batch time"] | None = None,
        rate: float = 1.0,
    ) -> tuple[Float[Tensor, "batch time d_model"], State]:
        """Map a chunk of each sequence: `Mixer.prefill`, on the deployed form."""
        self._warn_if_unstable()
        return super().prefill(x, state, lengths=lengths, reset=reset, rate=rate)

    def step(
        self, x_t: Float[Tensor, "batch d_model"], state: State, *, rate: float = 1.0
    ) -> tuple[Float[Tensor, "batch d_model"], State]:
        """Map one position: `Mixer.step`, on the deployed form."""
        self._warn_if_unstable()
        return super().step(x_t, state, rate=rate)

    def discretize(self, rate: float = 1.0) -> RTFSystem:
        """Compute the deployed coefficients, and the impulse response up to l_max."""
        if rate != 1:
            raise UnsupportedError(f"rate={rate}: a rational function of z belongs to one sampling interval; give 1")
        a, D = self.a.double(), self.D.double()
        q = rational.circular_response(a, self.b, self.l_max)
        k = torch.cat([D[:, None], q[:, :-1]], 1)
        return RTFSystem(*rounded(self.D, a, rational.deployed_numerator(a, q), D, k))

    def kernel(self, length: int, rate: float = 1.0) -> Float[Tensor, "d_model length"]:
        """Return each channel's impulse response: the FFT's up to l_max, and from there on that of the recurrence."""
        return self._kernel(self.system(rate), length)

    def to_state_space(self, rate: float = 1.0) -> StateSpace:
        """Return the d_model systems as dense float64 companion matrices on (w[t], …, w[t−n])."""
        self._warn_if_unstable()
        a, C, D = (x.detach().double() for x in self.system(rate)[:3])
        A = rational.companion(F.pad(a, (0, 1)))
        B = torch.zeros_like(A[:, :, :1])
        B[:, 0] = 1
        return StateSpace(A, B, F.pad(C, (1, 0))[:, None], D[:, None, None])

    @torch.no_grad()
    def load_state_space(self, system: StateSpace) -> float:
        """Set the parameters to the transfer functions of a bank of d_model systems with d_state states each.

        Args:
            system: matrices (d_model, d_state, d_state) and so on.

        Returns:
            max|k − k'| / max|k'| over l_max lags, k the kernel of this layer and k' that of ``system``.

        Raises:
            ConfigError: it has other sizes.
            UnsupportedError: the coefficients, as rounded, have a pole outside the unit circle; nothing is changed.
        """
        if system.B.shape != (*self.a.shape, 1) or system.D.shape[1:] != (1, 1):
            raise ConfigError(f"system has B {tuple(system.B.shape)}; this layer wants {(*self.a.shape, 1)}")
        a, b, D = rational.to_rational(system)
        a = a.to(self.a.dtype)
        radius = rational.spectral_radius(a).max()
        if radius > 1:
            raise UnsupportedError(
                f"load_state_space: in {a.dtype} a pole has modulus {radius:.6g}: the poles of system are too slow or "
                "too close for coefficients; use a float64 layer, fewer states, or larger steps"
            )
        self.a.copy_(a)
        # The circular numerator goes with the denominator as it was rounded.
        self.b.copy_(rational.circular_numerator(a, b, self.l_max))
        self.D.copy_(D)
        truth = system.impulse_response(self.l_max)[:, 0, 0]
        return float((self.kernel(self.l_max) - truth).abs().max() / truth.abs().max())

    @torch.no_grad()
    def spectral_radius(self) -> Float[Tensor, " d_model"]:
        """Return max|p| over the poles of every channel: the recurrence decays where it is below 1."""
        return self._radius.get(lambda: rational.spectral_radius(self.a), [self.a], ())

    def slow_parameters(self) -> tuple[str, ...]:
        """Name the coefficients, which the published recipes train more slowly."""
        return "a", "b"

    def _state_dtype(self, dtype: torch.dtype) -> torch.dtype:
        return real_dtype(dtype)

    def _warn_if_unstable(self) -> None:
        """Say so if the recurrence grows."""
        if torch.compiler.is_compiling() or self.a.is_meta:
            return
        with torch.no_grad():
            warning = self._warning.get(self._instability, [self.a], ())
        if warning is not None:
            warnings.warn(warning, RuntimeWarning, stacklevel=3)

    def _instability(self) -> str | None:
        """What there is to warn of; Σ|a| < 1 alone shows that the recurrence does not grow."""
        if bool((self.a.double().abs().sum(-1) < 1).all()):
            return None
        radius = self.spectral_radius()
        if not bool((radius > 1).any()):
            return None
        channel = int(radius.argmax())
        return (
            f"RTF: {int((radius > 1).sum())} of {self.d_model} channels are unstable, channel {channel} with a "
            f"pole of modulus {radius[channel]:.6g}: its recurrence grows beyond l_max={self.l_max} positions"
        )

    def _kernel(self, system: RTFSystem, length: int) -> Tensor:
        """The impulse response to any length."""
        if length <= self.l_max:
            return system.k[:, :length]
        tail = rational.response(system.A, system.C, length - 1)[:, self.l_max - 1 :]
        return torch.cat([system.k, tail.to(system.k.dtype)], 1)

    def _map(self, x: Tensor, lengths: Tensor | None, reset: Tensor | None, rate: float) -> Tensor:
        """Up to l_max positions one convolution is all, and no pole is asked for."""
        if reset is not None or x.shape[1] > self.l_max:
            return super()._map(x, lengths, reset, rate)
        with without_autocast(x.device.type):
            k = self.system(rate).k
            y = long_conv(_without_padding(x.to(k.dtype), lengths), k[:, : x.shape[1]]).y
        return self.readout(y.to(x.dtype)).to(x.dtype)

    def _scan(
        self, system: RTFSystem, u: Tensor, state: Tensor | None, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        before = u.new_zeros(u.shape[0], *self.state_shape, dtype=system.D.dtype) if state is None else state
        if reset is None or not u.numel():
            u = _without_padding(u.to(system.D.dtype), lengths)
            return self._convolve(system, u, before, lengths)
        ends = [u.shape[1]] * len(u) if lengths is None else lengths.tolist()
        rows = [self._pieces(system, u[i, :end], before[i], reset[i, :end]) for i, end in enumerate(ends)]
        y = [F.pad(y, (0, 0, 0, u.shape[1] - len(y))) for y, _ in rows]
        return torch.stack(y), torch.stack([final for _, final in rows])

    def _pieces(self, system: RTFSystem, u: Tensor, state: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
        """One row, packed: every sequence in it is convolved for itself, the first from the state."""
        begins = [0, *(t for t in reset.nonzero().flatten().tolist() if t), len(u)]
        state = torch.zeros_like(state) if bool(reset[:1].any()) else state
        ys, before = [], state
        for begin, end in itertools.pairwise(begins):
            y, state = self._convolve(system, u[None, begin:end].to(system.D.dtype), before[None], None)
            ys.append(y[0])
            before, state = torch.zeros_like(before), state[0]
        return torch.cat(ys), state

    def _convolve(self, system: RTFSystem, u: Tensor, state: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """y = k ∗ u and what the state adds; w = φ ∗ u and what the state adds, φ = 1/(1, a)."""
        n, time = self.a.shape[1], u.shape[1]
        past = state.mT.flip(1)  # w[−n−1] … w[−1]
        # (1, a) ∗ w is zero after the past, if there is no input: the past enters by what it adds to a ∗ w.
        driven = -long_conv(F.pad(past, (0, 0, 0, n)), F.pad(system.A, (1, 0))).y[:, n + 1 :]
        phi = self._phi.get(lambda: rational.reciprocal(system.A, time).to(u.dtype), [self.a], (time, u.dtype))
        free = long_conv(_fit(driven, time), phi).y
        y = long_conv(u, self._kernel(system, time)).y
        y = y + long_conv(torch.cat([past, free], 1), F.pad(system.C, (1, 0))).y[:, n + 1 :]
        w = torch.cat([past, free + long_conv(u, phi).y], 1)
        ends = u.new_full((len(u),), time, dtype=torch.int64) if lengths is None else lengths.long()
        last = ends[:, None] + n - torch.arange(n + 1, device=u.device)
        return y, w.gather(1, last[:, :, None].expand(-1, -1, w.shape[2])).mT

    def _advance(self, system: RTFSystem, u_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        A, C, D, _ = system
        past = state[:, :, :-1]
        w = u_t - (A * past).sum(-1)
        return torch.addcmul((C * past).sum(-1), D, u_t), torch.cat([w[:, :, None], past], -1)


def _without_padding(u: Tensor, lengths: Tensor | None) -> Tensor:
    """u with zeros for padding: an FFT rounds relative to the whole row, whatever stands there."""
    return u if lengths is None else torch.where(real_positions(lengths, u.shape[1])[:, :, None], u, 0)


def _fit(x: Tensor, time: int) -> Tensor:
    """x, cut or continued by zeros to this time."""
    return F.pad(x[:, :time], (0, 0, 0, max(0, time - x.shape[1])))
