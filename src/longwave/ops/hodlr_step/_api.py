"""The public function and its argument checks; the other files of this folder compute."""

from typing import NamedTuple

from torch import Tensor

from longwave.errors import ShapeError
from longwave.ops import _checks as check
from longwave.ops._dispatch import Implementation, Op
from longwave.ops.hodlr_step import _cpu, _reference
from longwave.shapes import Float

_op = Op("hodlr_step", cpu=Implementation(_cpu.run, _cpu.refuses), reference=Implementation(_reference.run))


class HODLRStep(NamedTuple):
    """The output at one position, and the state after it."""

    y: Float[Tensor, "batch dim"]
    final_state: Float[Tensor, "batch dim state"]


def hodlr_step(
    x: Float[Tensor, "batch dim state"],
    u: Float[Tensor, "batch dim"],
    near: Float[Tensor, "leaves leaf leaf"],
    gather: Float[Tensor, "leaves leaf columns"],
    spread: Float[Tensor, "leaves columns leaf"],
    B: Float[Tensor, " state"],
    C: Float[Tensor, "dim state"],
    D: Float[Tensor, " dim"],
    *,
    impl: str = "auto",
) -> HODLRStep:
    """One position of a bank of systems that share A, a matrix with blocks of low rank off its diagonal.

    x' = A x + B u,  y = C x' + D u, for every channel, as `dense_step`; of A this takes what
    `longwave.math.hodlr` makes of it.

    Args:
        x: the state before the position.
        u: the input there.
        near, gather, spread: A, in `leaves` leaves, a power of two and 2 at least; `columns` is a multiple of its
            exponent, the number of levels.
        B: the input's weights, for all channels.
        C, D: each channel's output.
        impl: "auto", "reference" or "cpu".

    Returns:
        `y`, and x' as `final_state`.

    Raises:
        ShapeError: shapes, dtypes or devices do not fit.
        UnsupportedError: the implementation asked for cannot take these arguments.

    Numerics:
        Sums in the dtype of the arguments. Results do not depend on the threads.

    Source:
        Ambikasaran and Darve, "An O(N log N) fast direct solver for partial hierarchically semi-separable matrices"
        (2013), §3.

    Example:
        >>> import torch
        >>> from longwave.math import hodlr
        >>> from longwave.ops import hodlr_step
        >>> A = hodlr(torch.eye(32), leaf=16, tolerance=1e-9)
        >>> one = torch.ones(1, 32).double()
        >>> hodlr_step(one[None], one[:, :1], *A, 3 * one[0], one, one[0, :1]).y
        tensor([[129.]], dtype=torch.float64)
    """
    tensors = (x, u, near, gather, spread, B, C, D)
    shapes = [tuple(t.shape) for t in tensors]
    batch, dim, state = x.shape if x.ndim == 3 else (0, 0, 0)
    leaves, leaf, columns = gather.shape if gather.ndim == 3 else (0, 0, 0)
    levels = leaves.bit_length() - 1
    parts = [(leaves, leaf, leaf), (leaves, leaf, columns), (leaves, columns, leaf)]
    tree = levels > 0 and leaves == 1 << levels and columns % levels == 0 and leaves * leaf == state
    if not tree or shapes != [(batch, dim, state), (batch, dim), *parts, (state,), (dim, state), (dim,)]:
        raise ShapeError(
            f"hodlr_step: x, u, near, gather, spread, B, C, D have shapes {', '.join(map(str, shapes))}; expected "
            "(batch, dim, state), (batch, dim), (leaves, leaf, leaf), (leaves, leaf, columns), "
            "(leaves, columns, leaf), (state,), (dim, state), (dim,): 2, 4, 8, … leaves make up "
            "the state, and every level has as many columns."
        )
    check.one_real_dtype("hodlr_step", x=x, u=u, near=near, gather=gather, spread=spread, B=B, C=C, D=D)
    return HODLRStep(*_op(impl, *tensors))
