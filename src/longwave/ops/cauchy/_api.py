"""The public function and its argument checks; the other files of this folder compute."""

from typing import NamedTuple

import torch
from torch import Tensor

from longwave.errors import ShapeError
from longwave.ops import _checks as check
from longwave.ops._dispatch import Implementation, Op
from longwave.ops.cauchy import _cpu, _reference
from longwave.shapes import Complex, Float

_op = Op("cauchy", cpu=Implementation(_cpu.run, _cpu.refuses), reference=Implementation(_reference.run))


class Cauchy(NamedTuple):
    """The sums at every node."""

    values: Complex[Tensor, "dim rows nodes"]


def cauchy(
    v: Complex[Tensor, "dim rows modes"],
    omega: Float[Tensor, " nodes"],
    w: Complex[Tensor, "dim modes"],
    *,
    impl: str = "auto",
) -> Cauchy:
    """Cauchy sums over conjugate pairs of poles, at nodes on the imaginary axis.

    c[h, r, k] = Σₙ ( v[h, r, n] / (iω[k] − w[h, n]) + v̄[h, r, n] / (iω[k] − w̄[h, n]) ).

    Args:
        v: weights, several rows of them for the poles of a channel; one of each conjugate pair.
        omega: the nodes ω; any real numbers, the same for all channels.
        w: poles, one of each conjugate pair; none of them iω itself.
        impl: "auto", "reference" or "cpu".

    Returns:
        The sums, complex, in the precision of `v`.

    Raises:
        ShapeError: shapes, dtypes or devices do not fit.
        UnsupportedError: the implementation asked for cannot take these arguments.

    Numerics:
        Computed in double precision. The rounding of ω counts as one of the pole nearest to it: nodes from an FFT's
        grid are to be made in float64, and here they may stay so beside single precision weights. A sum's error is a
        few roundings of Σ |v|/|iω − w| + |v|/|iω − w̄|, however near the pole. "cpu" adds the fractions of a pair,
        2 (iω Re v − Re v w̄) / ((Re w)² + (Im w − ω)(Im w + ω) − 2iω Re w), whose denominator must have a square:
        |iω − w| |iω − w̄| lies between 1e-150 and 1e150.

    Source:
        Gu, Goel, Ré, "Efficiently modeling long sequences with structured state spaces" (2022), appendix C.3.

    Example:
        >>> import torch
        >>> from longwave.ops import cauchy
        >>> one = torch.ones(1, 1, 1, dtype=torch.complex64)
        >>> cauchy(one, torch.zeros(1), -2 * one[0]).values
        tensor([[[1.+0.j]]])
    """
    if v.ndim != 3 or w.ndim != 2 or (v.shape[0], v.shape[2]) != tuple(w.shape):
        raise ShapeError(
            f"cauchy: v has shape {tuple(v.shape)}, w {tuple(w.shape)}; expected (dim, rows, modes) and (dim, modes)."
        )
    if omega.ndim != 1:
        raise ShapeError(f"cauchy: omega has shape {tuple(omega.shape)}; expected one axis of nodes.")
    if v.dtype not in (torch.complex64, torch.complex128) or w.dtype != v.dtype or not omega.is_floating_point():
        raise ShapeError(f"cauchy: v is {v.dtype}, w {w.dtype}, omega {omega.dtype}; expected complex, the same, real.")
    check.same_device("cauchy", v=v, omega=omega, w=w)
    values = _op(impl, v.to(torch.complex128), omega.double(), w.to(torch.complex128))
    return Cauchy(values.to(v.dtype))
