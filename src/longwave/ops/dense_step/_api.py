"""The public function and its argument checks; the other files of this folder compute."""

from typing import NamedTuple

from torch import Tensor

from longwave.errors import ShapeError
from longwave.ops import _checks as check
from longwave.ops._dispatch import Implementation, Op
from longwave.ops.dense_step import _cpu, _reference
from longwave.shapes import Float

_op = Op("dense_step", cpu=Implementation(_cpu.run, _cpu.refuses), reference=Implementation(_reference.run))


class DenseStep(NamedTuple):
    """The output at one position, and the state after it."""

    y: Float[Tensor, "batch dim"]
    final_state: Float[Tensor, "batch dim state"]


def dense_step(
    x: Float[Tensor, "batch dim state"],
    u: Float[Tensor, "batch dim"],
    A: Float[Tensor, "#dim state state"],
    B: Float[Tensor, "#dim state"],
    C: Float[Tensor, "dim state"],
    D: Float[Tensor, " dim"],
    *,
    impl: str = "auto",
) -> DenseStep:
    """One position of a bank of systems with dense matrices.

    x' = A x + B u,  y = C x' + D u, for every channel.

    Args:
        x: the state before the position.
        u: the input there.
        A, B: the discrete system, one for all channels or one for each.
        C, D: each channel's output.
        impl: "auto", "reference" or "cpu".

    Returns:
        `y`, and x' as `final_state`.

    Raises:
        ShapeError: shapes, dtypes or devices do not fit.
        UnsupportedError: the implementation asked for cannot take these arguments.

    Numerics:
        Sums in the dtype of the arguments. Results do not depend on the threads. The kernel reads the columns of A, and
        copies one that has its rows contiguous: keep ``A.mT.contiguous().mT``.

    Source:
        Gu et al., "Combining recurrent, convolutional, and continuous-time models with linear state-space layers"
        (2021), eq. 3 and 4.

    Example:
        >>> import torch
        >>> from longwave.ops import dense_step
        >>> x, u, turn = torch.tensor([[[1.0, 0.0]]]), torch.ones(1, 1), torch.tensor([[[0.0, -1.0], [1.0, 0.0]]])
        >>> dense_step(x, u, turn, 3 * torch.ones(1, 2), torch.ones(1, 2), torch.ones(1))
        DenseStep(y=tensor([[8.]]), final_state=tensor([[[3., 4.]]]))
    """
    tensors = (x, u, A, B, C, D)
    shapes = [t.shape for t in tensors]
    batch, dim, state = shapes[0] if x.ndim == 3 else (0, 0, 0)
    systems = 1 if A.ndim == 3 and A.shape[0] == 1 else dim
    if shapes != [(batch, dim, state), (batch, dim), (systems, state, state), (systems, state), (dim, state), (dim,)]:
        raise ShapeError(
            f"dense_step: x, u, A, B, C, D have shapes {', '.join(str(tuple(shape)) for shape in shapes)}; expected "
            "(batch, dim, state), (batch, dim), (1 or dim, state, state), (1 or dim, state), (dim, state), (dim,)."
        )
    check.one_real_dtype("dense_step", x=x, u=u, A=A, B=B, C=C, D=D)
    return DenseStep(*_op(impl, *tensors))
