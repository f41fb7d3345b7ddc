"""Mamba-3: Mamba-2's recurrence with a trapezoidal rule, rotating keys, and several columns written at a time."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from longwave.errors import ConfigError, UnsupportedError
from longwave.layers.base import Mixer, State, real_dtype, without_autocast
from longwave.layers.checks import check_heads, check_positive, check_state
from longwave.layers.mamba3_scan import Drive, Mamba3State, trapezoidal_scan, trapezoidal_step
from longwave.layers.norms import GatedRMSNorm
from longwave.layers.options import choose
from longwave.layers.padding import real_positions
from longwave.layers.projection import project
from longwave.math import log_uniform, softplus_inverse
from longwave.shapes import Tensor


def _heavy_tail(x: Tensor) -> Tensor:
    """1 + x, and 1/(1 − x) below zero."""
    return F.relu(x) + 1 / (1 + F.relu(-x))


_RATES = {"heavy_tail": _heavy_tail, "softplus": F.softplus}
_PAIRINGS = {"interleaved": False, "halves": True}


class Mamba3(Mixer):
    """Mamba-3: S[t] = α S[t−1] + β v[t−1] k[t−1]ᵀ + γ v[t] k[t]ᵀ,  y[t] = S[t] q[t] + D v[t] for every head.

    α = exp(Δ A),  β = (1 − λ) Δ α,  γ = λ Δ: the trapezoidal rule, with a share λ = σ(·) of its own at every position,
    where Mamba-2 has λ = 1. Keys k and queries q are B and C, normalised, plus a bias, and turned by the angles
    θ[t] = θ[t−1] + π tanh(·) Δ[t], pair by pair, which makes the decay of a pair complex. A = −heavy_tail(·), at most
    −``A_floor``. Everything comes from ``in_proj``; there is no convolution. Then ``out_proj``(y · silu(z)).
    With ``is_mimo`` a position writes and reads ``mimo_rank`` columns at once: v_r = v ∘ ``mimo_x``_r, z_r = z ∘
    ``mimo_z``_r, and what goes to out_proj is Σ_r y_r silu(z_r) ∘ ``mimo_o``_r.

    Args:
        d_model: channels of input and output.
        d_state: N, even: length of keys and queries.
        expand: channels of v and z, as a multiple of d_model.
        headdim: channels of a head; None is 64, or the largest power of two below it that fits.
        ngroups: groups of heads with their own B and C.
        rope_fraction: share of the N coordinates that turn.
        dt_min: smallest initial Δ; log Δ is drawn uniformly, and Δ kept from falling below dt_init_floor.
        dt_max: largest initial Δ.
        dt_init_floor: see dt_min.
        A_floor: smallest rate of decay −A.
        is_outproj_norm: RMSNorm(y) · silu(z), the norm head by head, in place of y · silu(z).
        is_mimo: several columns at each position.
        mimo_rank: how many.
        A_activation: ``"heavy_tail"`` as in the published checkpoints; ``"softplus"`` as in the first release.
        pairing: coordinates that turn together: ``"interleaved"``, 2i and 2i + 1, or ``"halves"``, i and i + N/2; None
            is what the published checkpoints have, halves with is_mimo and interleaved without.
        chunk_size: most positions of one masked product; it changes nothing but rounding and speed.

    Raises:
        ConfigError: an option is unknown or out of its range, or sizes do not divide one another.
        UnsupportedError: ``rate`` is not 1: Δ comes from the input, which does not know its sampling interval.

    Numerics: float32 at least between the projections. Angles are added up in float64 and reduced to [−π, π]. Without
        its last term S[t] is the state of `ssd` on the keys and values of t − 1, with the weight α[t] γ[t−1] + β[t];
        the last term is a product of numbers of position t alone. Nothing of a later position enters, even to cancel.

    Source: Mamba-3, 2026, arXiv:2603.15569, §3, and its released code, for names and shapes of parameters.

    Example:
        >>> layer = Mamba3(d_model=16, d_state=8, headdim=8, is_mimo=True)
        >>> y, state = layer.prefill(torch.zeros(2, 100, 16))
        >>> y_t, state = layer.step(torch.zeros(2, 16), state)
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 128,
        expand: int = 2,
        headdim: int | None = None,
        ngroups: int = 1,
        *,
        rope_fraction: float = 0.5,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_init_floor: float = 1e-4,
        A_floor: float = 1e-4,
        is_outproj_norm: bool = False,
        is_mimo: bool = False,
        mimo_rank: int = 4,
        A_activation: str = "heavy_tail",
        pairing: str | None = None,
        chunk_size: int = 64,
    ) -> None:
        super().__init__(d_model)
        sizes = {"d_state": d_state, "expand": expand, "ngroups": ngroups, "mimo_rank": mimo_rank}
        for name, size in {**sizes, "chunk_size": chunk_size}.items():
            check_positive(name, size)
        self.d_inner, self.d_state, self.ngroups = expand * d_model, d_state, ngroups
        self.headdim = math.gcd(64, self.d_inner) if headdim is None else headdim
        check_positive("headdim", self.headdim)
        self.nheads, self.rank = self.d_inner // self.headdim, mimo_rank if is_mimo else 1
        self.angles = int(d_state * rope_fraction) // 2
        self._check_sizes(rope_fraction)
        self.A_floor, self.chunk_size = A_floor, chunk_size
        self._rate = choose("A_activation", A_activation, _RATES)
        self._halves = choose("pairing", pairing or ("halves" if is_mimo else "interleaved"), _PAIRINGS)

        self.in_proj = nn.Linear(d_model, sum(self._widths()), bias=False)
        dt = log_uniform((self.nheads,), dt_min, dt_max).clamp(min=dt_init_floor)
        self.dt_bias = nn.Parameter(softplus_inverse(dt).to(torch.get_default_dtype()))
        self.B_bias = nn.Parameter(torch.ones(self.nheads, self.rank, d_state))
        self.C_bias = nn.Parameter(torch.ones(self.nheads, self.rank, d_state))
        self.B_norm, self.C_norm = nn.RMSNorm(d_state, eps=1e-5), nn.RMSNorm(d_state, eps=1e-5)
        self.is_mimo = is_mimo
        if is_mimo:
            columns = self.nheads, self.rank, self.headdim
            self.mimo_x = nn.Parameter(torch.full(columns, 1 / self.rank))
            self.mimo_z = nn.Parameter(torch.ones(columns))
            self.mimo_o = nn.Parameter(torch.full(columns, 1 / self.rank))
        self.D = nn.Parameter(torch.ones(self.nheads))
        self.norm = GatedRMSNorm(self.d_inner, self.headdim, norm_before_gate=True) if is_outproj_norm else None
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)

    def initial_state(
        self, batch_size: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> Mamba3State:
        like = self._reference()
        options = {"dtype": real_dtype(dtype or like.dtype), "device": device or like.device}
        return Mamba3State(*(torch.zeros(shape, **options) for shape in self._state_shapes(batch_size)))

    def slow_parameters(self) -> tuple[str, ...]:
        """Name D and the bias of Δ, which the published recipes do not decay."""
        return "D", "dt_bias"

    def _run(
        self, x: Tensor, state: State | None, lengths: Tensor | None, reset: Tensor | None, rate: float
    ) -> tuple[Tensor, Mamba3State]:
        state = self.initial_state(x.shape[0], dtype=x.dtype, device=x.device) if state is None else state
        before = self._checked(state, x)
        projected = self._projected(x, rate)
        if not x.shape[1]:
            return project(self.out_proj, projected[..., : self.d_inner]).to(x.dtype), before
        with without_autocast(x.device.type):
            z, drive = self._drive(projected)
            ends, columns = _ends(x, lengths, reset), self._columns("mimo_x")
            y, after = trapezoidal_scan(drive, before, *ends, columns, self.D, self._halves, self.chunk_size)
            y = self._gated(y, z).to(x.dtype)
        return project(self.out_proj, y).to(x.dtype), after

    def _reference(self) -> Tensor:
        return self.in_proj.weight  # checkpoints in 16 bits have the other parameters in 32

    def _step(self, x_t: Tensor, state: State, rate: float) -> tuple[Tensor, Mamba3State]:
        before = self._checked(state, x_t)
        projected = self._projected(x_t, rate)
        with without_autocast(x_t.device.type):
            z, drive = self._drive(projected)
            y, after = trapezoidal_step(drive, before, self._columns("mimo_x"), self.D, self._halves)
            y = self._gated(y, z).to(x_t.dtype)
        return project(self.out_proj, y).to(x_t.dtype), after

    def _projected(self, x: Tensor, rate: float) -> Tensor:
        if rate != 1:
            raise UnsupportedError(
                f"rate={rate}: Mamba3 has no sampling interval, its steps come from the input; give 1"
            )
        return project(self.in_proj, x)

    def _widths(self) -> list[int]:
        """Of z, x, B, C, and what makes Δ, A, λ and the angles."""
        keys = self.rank * self.ngroups * self.d_state
        return [self.d_inner, self.d_inner, keys, keys, *[self.nheads] * 3, self.angles]

    def _drive(self, projected: Tensor) -> tuple[Tensor, Drive]:
        """The gate, and what else in_proj says, in float32 at least."""
        dtype = real_dtype(projected.dtype)
        z, v, B, C, dt, rate, share, angles = projected.to(dtype).split(self._widths(), -1)
        dt = F.softplus(dt + self.dt_bias.to(dtype))
        decay = -dt * self._rate(rate).clamp(min=self.A_floor)
        turn = math.pi * torch.tanh(angles)[..., None, :] * dt[..., None]
        k, q = self._keys(B, self.B_norm, self.B_bias), self._keys(C, self.C_norm, self.C_bias)
        heads = self.nheads, self.headdim
        return z.unflatten(-1, heads), Drive(v.unflatten(-1, heads), k, q, dt, decay, share.sigmoid(), turn)

    def _keys(self, u: Tensor, norm: nn.RMSNorm, bias: Tensor) -> Tensor:
        """Normalised, spread from groups to heads, and with their bias."""
        u = u.unflatten(-1, (self.rank, self.ngroups, self.d_state))
        u = F.rms_norm(u, (self.d_state,), norm.weight.to(u.dtype), norm.eps)
        return u.repeat_interleave(self.nheads // self.ngroups, -2) + bias.to(u.dtype).movedim(1, 0)

    def _columns(self, name: str) -> Tensor:
        """One of the three (heads, rank, head_dim) weights, in float32 at least; ones where there is one column."""
        if self.is_mimo:
            return getattr(self, name).to(real_dtype(self.D.dtype))
        return torch.ones(self.nheads, 1, 1, dtype=real_dtype(self.D.dtype), device=self.D.device)

    def _gated(self, y: Tensor, z: Tensor) -> Tensor:
        """Σ_r of y_r (…, rank, heads, head_dim), gated."""
        gate = z[..., None, :, :] * self._columns("mimo_z").movedim(1, 0)
        y = y * F.silu(gate) if self.norm is None else self.norm(y.flatten(-2), gate.flatten(-2)).view(y.shape)
        return (y * self._columns("mimo_o").movedim(1, 0)).sum(-3).flatten(-2)

    def _state_shapes(self, batch: int) -> tuple[tuple[int, ...], ...]:
        heads = batch, self.nheads
        return (
            (*heads, self.angles),
            (*heads, self.headdim, self.d_state),
            (batch, self.rank, self.nheads, self.d_state),
            (*heads, self.headdim),
        )

    def _checked(self, state: State, x: Tensor) -> Mamba3State:
        for tensor, shape in zip(state, self._state_shapes(x.shape[0]), strict=True):
            check_state(tensor, shape, real_dtype(x.dtype), x)
        return Mamba3State(*state)

    def _check_sizes(self, rope_fraction: float) -> None:
        check_heads(self.d_inner, self.headdim, self.ngroups)
        if self.d_state % 2 or not 1 <= self.angles <= self.d_state // 2:
            raise ConfigError(
                f"d_state={self.d_state} must be even, and rope_fraction={rope_fraction} of it one pair or more"
            )


def _ends(x: Tensor, lengths: Tensor | None, reset: Tensor | None) -> tuple[Tensor, Tensor]:
    """Which positions are real, and which of them begin a sequence."""
    whole = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    real = whole if lengths is None else real_positions(lengths, x.shape[1])
    return real, ~whole if reset is None else reset & real
