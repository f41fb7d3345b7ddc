"""The public function and its argument checks; the other files of this folder compute."""

from typing import NamedTuple

from torch import Tensor

from longwave.errors import ShapeError
from longwave.ops import _checks as check
from longwave.ops._dispatch import Implementation, Op
from longwave.ops.vandermonde import _cpu, _reference
from longwave.shapes import Float, Inexact

_op = Op("vandermonde", cpu=Implementation(_cpu.run, _cpu.refuses), reference=Implementation(_reference.run))


class Vandermonde(NamedTuple):
    """The convolution kernel."""

    kernel: Float[Tensor, "dim length"]


def vandermonde(
    a: Inexact[Tensor, "dim modes"], w: Inexact[Tensor, "dim modes"], length: int, *, impl: str = "auto"
) -> Vandermonde:
    """Impulse response of a bank of diagonal discrete systems.

    k[h, l] = 2 Re Σₙ w[h, n] a[h, n]ˡ for l = 0 … length − 1; with real a and w: Σₙ w[h, n] a[h, n]ˡ.

    Args:
        a: discrete eigenvalues Ā.
        w: weights, C ⊙ B̄.
        length: number of lags.
        impl: "auto", "reference" or "cpu" (plain PyTorch, a matrix product per channel).

    Returns:
        The kernel, in the real precision of `a` and `w`.

    Raises:
        ShapeError: shapes, dtypes or devices do not fit, or `length` is negative.
        UnsupportedError: the implementation asked for cannot take these arguments.

    Numerics:
        Powers are made in float64, so phases of thousands of turns keep their accuracy; the kernel is within a few
        units in the last place of its largest term.

    Source:
        Gu, Gupta, Goel, Ré, "On the parameterization and initialization of diagonal state space models" (2022), §3.2,
        eq. 5-6.

    Example:
        >>> import torch
        >>> from longwave.ops import vandermonde
        >>> vandermonde(torch.tensor([[0.5]]), torch.ones(1, 1), 3).kernel
        tensor([[1.0000, 0.5000, 0.2500]])
    """
    if a.ndim != 2 or a.shape != w.shape:
        raise ShapeError(f"vandermonde: a has shape {tuple(a.shape)}, w {tuple(w.shape)}; expected both (dim, modes).")
    if length < 0:
        raise ShapeError(f"vandermonde: length={length}; expected 0 or more.")
    if a.is_complex() != w.is_complex() or a.dtype not in check.STATE_DTYPE:
        raise ShapeError(f"vandermonde: a is {a.dtype}, w {w.dtype}; expected both real or both complex.")
    check.same_device("vandermonde", a=a, w=w)
    return Vandermonde(_op(impl, a, w, length))
