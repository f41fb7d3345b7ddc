"""RetNet: attention without softmax, whose scores decay and turn with the distance: a linear recurrence."""

from typing import NamedTuple, final

import torch
import torch.nn.functional as F
from torch import nn

from longwave.errors import ConfigError, UnsupportedError
from longwave.layers.base import Mixer, State, real_dtype, without_autocast
from longwave.layers.checks import check_positive, check_state
from longwave.shapes import Float, Tensor

CHUNK = 128  # positions that attend to one another directly; the rest comes through the state


class RetNetState(NamedTuple):
    """S, as seen from its last position: float32 at least."""

    S: Float[Tensor, "batch heads key value"]


class Powers(NamedTuple):
    """γⁿ, and the cosine and sine of nθ, for n = 0 … CHUNK: computed in float64 and rounded once."""

    gamma: Float[Tensor, "heads n"]
    cos: Float[Tensor, "n pairs"]
    sin: Float[Tensor, "n pairs"]


@final
class RetNet(Mixer):
    """Multi-scale retention: in each head o[n] = Σ_{m≤n} γⁿ⁻ᵐ (Rⁿ q[n] · Rᵐ k[m]) v[m], where R turns pairs by θ.

    q = W_q x, k = W_k x/√(width of a key), v = W_v x. Then every head is normalised by itself and gated:
    y = W_o (swish(W_g x) ⊙ norm(o)). Head h forgets with γ = 1 − 2^(−5−h), and pair j of its keys turns by
    θ_j = 10000^(−j/(pairs − 1)) a position.

    Rⁿ q · Rᵐ k depends on n − m alone, so that a recurrence needs no position: S[n] = γ R⁻¹ S[n−1] + k[n] v[n]ᵀ and
    o[n] = q[n]ᵀ S[n].

    Args:
        d_model: channels of input and output.
        heads: number of heads, a divisor of d_model that leaves keys of even width; d_model/256 if None, but one at
            least.
        value_factor: channels of the values in units of d_model.

    Raises:
        ConfigError: an option is out of its range, or the keys of a head do not come in pairs.
        UnsupportedError: ``rate`` is not 1: γ and θ belong to positions, not to time.

    Numerics: retention runs in float32 at least, its projections in the dtype of the parameters, or of autocast.
        Sequences run in chunks of 128; powers of γ and R are computed in float64 and rounded once, and ``step`` turns
        its state in float64, so that slow heads do not drift. Nothing depends on how far a position is from the
        beginning: position 10⁶ is as exact as the first.

    Source: Sun et al., 2023, Retentive Network: A Successor to Transformer for Large Language Models,
        arXiv:2307.08621, equations 5 to 8. θ and the norm without parameters are those of its published code; the
        score normalisations of §2.3 are left out, since the norm of a head undoes them.

    Example:
        >>> layer = RetNet(d_model=8, heads=2)
        >>> y, state = layer.prefill(torch.zeros(2, 100, 8))
        >>> y_t, state = layer.step(torch.zeros(2, 8), state)
    """

    def __init__(self, d_model: int, heads: int | None = None, *, value_factor: int = 2) -> None:
        super().__init__(d_model)
        heads = max(1, d_model // 256) if heads is None else heads
        check_positive("heads", heads)
        check_positive("value_factor", value_factor)
        if d_model % (2 * heads):
            raise ConfigError(
                f"heads={heads} must leave keys of even width: d_model={d_model} is no multiple of {2 * heads}"
            )
        self.heads, self.key_dim, self.value_dim = heads, d_model // heads, value_factor * d_model // heads
        values = value_factor * d_model
        self.query = nn.Linear(d_model, d_model, bias=False)
        self.key = nn.Linear(d_model, d_model, bias=False)
        self.value = nn.Linear(d_model, values, bias=False)
        self.gate = nn.Linear(d_model, values, bias=False)
        self.output = nn.Linear(values, d_model, bias=False)
        for linear in (self.query, self.key, self.value, self.gate):
            nn.init.xavier_uniform_(linear.weight, gain=2**-2.5)
        nn.init.xavier_uniform_(self.output.weight)

    def initial_state(
        self, batch_size: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> RetNetState:
        like = self.query.weight
        shape = (batch_size, self.heads, self.key_dim, self.value_dim)
        return RetNetState(torch.zeros(shape, dtype=real_dtype(dtype or like.dtype), device=device or like.device))

    def _run(
        self, x: Tensor, state: State | None, lengths: Tensor | None, reset: Tensor | None, rate: float
    ) -> tuple[Tensor, RetNetState]:
        S = self._checked(state, x, rate)
        with without_autocast(x.device.type):
            powers = self._powers(min(CHUNK, x.shape[1]), S)
        q, k, v = self._projected(x)
        o = []
        with without_autocast(x.device.type):
            for start in range(0, x.shape[1], CHUNK):
                now = slice(start, start + CHUNK)
                ends = None if lengths is None else lengths - start
                fresh = None if reset is None else reset[:, now]
                o_now, S = _retain(q[:, :, now], k[:, :, now], v[:, :, now], S, powers, ends, fresh)
                o.append(o_now)
        o = torch.cat(o, 2) if o else v
        return self._gated(x, o), RetNetState(S)

    def _step(self, x_t: Tensor, state: State, rate: float) -> tuple[Tensor, RetNetState]:
        S, x = self._checked(state, x_t, rate), x_t[:, None]
        q, k, v = self._projected(x)
        with without_autocast(x.device.type):
            gamma, cos, sin = self._powers(1, S.double())
            turned = _turn(S.mT.double(), cos[1], -sin[1]).mT
            S = (gamma[:, 1, None, None] * turned + k.mT.double() * v.double()).to(S.dtype)
            o = q @ S
        return self._gated(x, o)[:, 0], RetNetState(S)

    def _projected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v of every head, (batch, heads, time, width), in the precision of the state."""
        every = (
            linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for linear in (self.query, self.key, self.value)
        )
        q, k, v = (z.to(real_dtype(x.dtype)) for z in every)
        return q, k * self.key_dim**-0.5, v

    def _gated(self, x: Tensor, o: Tensor) -> Tensor:
        """The heads' outputs, each normalised, gated and mixed: (batch, time, d_model)."""
        normed = F.layer_norm(o, (self.value_dim,)).transpose(1, 2).flatten(2).to(x.dtype)
        return self.output(F.silu(self.gate(x)) * normed).to(x.dtype)

    def _powers(self, n: int, like: Tensor) -> Powers:
        """Those up to n, in the dtype of the state."""
        count = torch.arange(n + 1, dtype=torch.float64, device=like.device)
        head = torch.arange(self.heads, dtype=torch.float64, device=like.device)
        pairs = self.key_dim // 2
        theta = 10000 ** -torch.linspace(0, 1, pairs, dtype=torch.float64, device=like.device)
        gamma = (1 - 2 ** (-5 - head))[:, None] ** count
        angle = count[:, None] * theta
        return Powers(*(x.to(like.dtype) for x in (gamma, angle.cos(), angle.sin())))

    def _checked(self, state: State | None, x: Tensor, rate: float) -> Tensor:
        """The tensor inside a state, which must fit the inputs."""
        if rate != 1:
            raise UnsupportedError(f"rate={rate}: retention decays and turns with positions, not with time; give 1")
        (S,) = self.initial_state(x.shape[0], dtype=x.dtype, device=x.device) if state is None else state
        check_state(S, (x.shape[0], self.heads, self.key_dim, self.value_dim), real_dtype(x.dtype), x)
        return S


def _retain(
    q: Tensor, k: Tensor, v: Tensor, S: Tensor, powers: Powers, ends: Tensor | None, reset: Tensor | None
) -> tuple[Tensor, Tensor]:
    """o and the state after one chunk of T positions, row b of which ends after ``ends[b]`` of them.

    With positions p = 1 … T inside the chunk: o[p] = Σ_{i≤p} γᵖ⁻ⁱ (Rᵖ q[p] · Rⁱ k[i]) v[i] + γᵖ (Rᵖ q[p])ᵀ S, and
    R^E S' = γ^E S + Σ_{i≤E} γ^(E−i) (Rⁱ k[i]) v[i]ᵀ, where E is the row's last position.
    """
    time, (gamma, cos, sin) = q.shape[2], powers
    q, k = _turn(q, cos[1 : time + 1], sin[1 : time + 1]), _turn(k, cos[1 : time + 1], sin[1 : time + 1])
    place = torch.arange(1, time + 1, device=q.device)
    end = place[-1:] if ends is None else ends.clamp(0, time)
    # Two positions belong together if as many sequences have begun at the one as at the other; at the state, none has.
    begun = place.new_zeros(1, time) if reset is None else reset.cumsum(1)
    last = torch.where(end[:, None] > 0, begun.take_along_dim((end[:, None] - 1).clamp(min=0), 1), 0)

    lag = place[:, None] - place
    together = (begun[:, :, None] == begun[:, None]) & (lag >= 0)
    scores = (q @ k.mT) * torch.where(together[:, None], gamma[:, lag.clamp(min=0)], 0)
    o = scores @ v + torch.where((begun == 0)[:, None], gamma[:, 1 : time + 1], 0)[..., None] * (q @ S)

    ahead = end[:, None] - place  # how far a row's end is
    goes_on = (begun == last) & (ahead >= 0)
    weight = torch.where(goes_on[:, None], gamma[:, ahead.clamp(min=0)].transpose(0, 1), 0)
    kept = torch.where(last == 0, gamma[:, end].mT, 0)[..., None, None]
    S = kept * S + (k * weight[..., None]).mT @ v
    return o, _turn(S.mT, cos[end][:, None, None], -sin[end][:, None, None]).mT


def _turn(x: Float[Tensor, "... twice_pairs"], cos: Tensor, sin: Tensor) -> Float[Tensor, "... twice_pairs"]:
    """Turn neighbours (a, b) on the last axis into (a cos − b sin, a sin + b cos)."""
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)
