"""The public function and its argument checks; the other files of this folder compute."""

from typing import NamedTuple

import torch
from torch import Tensor

from longwave.ops import _checks as check
from longwave.ops._dispatch import Implementation, Op
from longwave.ops._marks import position_marks
from longwave.ops.wkv import _cpu, _reference
from longwave.shapes import Bool, Float, Int

_op = Op("wkv", cpu=Implementation(_cpu.run, _cpu.refuses), reference=Implementation(_reference.run))


class WKV(NamedTuple):
    """The output at every position, and the state after the last one: a mean m and the logarithm L of its weight."""

    y: Float[Tensor, "batch time dim"]
    final_state: Float[Tensor, "batch 2 dim"]


def wkv(
    k: Float[Tensor, "batch time dim"],
    v: Float[Tensor, "batch time dim"],
    w: Float[Tensor, " dim"],
    u: Float[Tensor, " dim"],
    initial_state: Float[Tensor, "batch 2 dim"] | None = None,
    *,
    reset: Bool[Tensor, "batch time"] | None = None,
    lengths: Int[Tensor, " batch"] | None = None,
    seq_idx: Int[Tensor, "batch time"] | None = None,
    impl: str = "auto",
) -> WKV:
    """A mean of all values so far, with weights eᵏ that decay, and a bonus for the newest.

    y[t] = (Σ_{i<t} e^{(t−1−i) w + k[i]} v[i] + e^{u + k[t]} v[t]) / (the same without v), channel by channel.

    As a recurrence, with ``add(m, L; x, v)`` = ((1 − s) m + s v, log(e^L + eˣ)), s = eˣ/(e^L + eˣ):
    y[t] is the mean of ``add(m[t−1], L[t−1]; k[t] + u, v[t])``, and the state
    (m[t], L[t]) = ``add(m[t−1], L[t−1] + w; k[t], v[t])``.

    Args:
        k: logarithms of the weights.
        v: values.
        w: what a position adds to the logarithm of an older weight; negative, or nothing is forgotten. A model whose
            parameter is ``time_decay`` has w = −exp(time_decay).
        u: what the newest value has more in the logarithm of its weight, in y[t] alone.
        initial_state: (m, L) before the first position; nothing was read if None: m = 0, L = −10³⁸. In the published
            form (numerator, denominator, exponent) it is (m, 1, L), and L = exponent + log(denominator).
        reset: True where a new sequence begins.
        lengths: row i is padding from lengths[i] on: its outputs there are zero, its final state is that at its end.
        seq_idx: in place of these two, the number of the sequence that a position belongs to; −1 for padding.
        impl: "auto", "reference" or "cpu".

    Returns:
        `y` in the dtype of `v`, and `final_state` in float32 at least.

    Raises:
        ShapeError: shapes, dtypes or devices do not fit.
        UnsupportedError: the implementation asked for cannot take these arguments.

    Numerics:
        16-bit arguments are computed in float32. Weights are kept relative to the largest, so that any finite k will
        do; the error of a weight is that of rounding its logarithm. Results do not depend on the number of threads.

    Source:
        Peng et al., "RWKV: Reinventing RNNs for the Transformer Era" (2023), arXiv:2305.13048, eq. 16, and the
        recurrence of appendix D, whose a and b are here the mean a/b and log b.

    Not to be confused with:
        The attention of RWKV versions 5 to 7, whose state is a matrix for each head.

    Example:
        >>> import torch
        >>> from longwave.ops import wkv
        >>> one = torch.ones(1)
        >>> wkv(torch.zeros(1, 3, 1), torch.tensor([[[3.0], [6.0], [9.0]]]), 0 * one, 0 * one).y.flatten()
        tensor([3.0000, 4.5000, 6.0000])
    """
    check.three_axes("wkv", "v", v)
    batch, time, dim = v.shape
    check.shape("wkv", "k", k, (batch, time, dim), "(batch, time, dim) of v")
    check.shape("wkv", "w", w, (dim,), "(dim,)")
    check.shape("wkv", "u", u, (dim,), "(dim,)")
    if initial_state is not None:
        check.shape("wkv", "initial_state", initial_state, (batch, 2, dim), "(batch, mean and log-weight, dim)")
    tensors = {"k": k, "v": v, "w": w, "u": u, "initial_state": initial_state}
    check.real("wkv", **tensors)
    check.same_device("wkv", **tensors, reset=reset, lengths=lengths, seq_idx=seq_idx)
    marks = position_marks("wkv", batch, time, reset, lengths, seq_idx)
    compute = check.STATE_DTYPE[torch.promote_types(k.dtype, v.dtype)]
    y, final_state = _op(impl, *(None if x is None else x.to(compute) for x in tensors.values()), marks)
    return WKV(y.to(v.dtype), final_state)
