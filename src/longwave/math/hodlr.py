"""Matrices whose blocks off the diagonal are of low rank, on every scale: how to keep them, and multiply by them."""

from typing import NamedTuple

import torch
from torch.nn.functional import pad

from longwave.errors import ConfigError
from longwave.shapes import Float, Tensor

_VECTOR = 16  # numbers: kernels compute with as many columns, or with a divisor of it


class HODLR(NamedTuple):
    """A matrix of size N = leaves · leaf, leaves = 2^levels, as what it does to the leaves x_q of a row vector x.

    (x A')_q = x_q near_q + w_q spread_q,  where at each level w_q is the sum of  x_p gather_p  over the leaves p of the
    block beside that of q: at the first level q's other half of the matrix, at the last its only sibling. The columns
    of ``gather`` and the rows of ``spread`` are levels · rank, the first level first.
    """

    near: Float[Tensor, "leaves leaf leaf"]
    gather: Float[Tensor, "leaves leaf columns"]
    spread: Float[Tensor, "leaves columns leaf"]

    @property
    def cost(self) -> float:
        """Multiplications with a vector, as a share of the N² of the dense matrix."""
        return sum(part.numel() for part in self) / (self.near.shape[0] * self.near.shape[1]) ** 2


def hodlr(A: Float[Tensor, "n n"], leaf: int, *, tolerance: float) -> HODLR:
    """Compress a matrix: near_q = A_qq', and of every block A_ij off the diagonal the largest singular values.

    Args:
        A: the matrix.
        leaf: size of the diagonal blocks that are kept as they are; n/leaf is a power of two, 2 at least.
        tolerance: singular values of a block up to ``tolerance`` · ‖A‖₂ are left out.

    Returns:
        HODLR(near, gather, spread), of one rank for all blocks: what the worst of them needs, rounded up until levels ·
        rank is a multiple of 16. That may be more numbers than A has, see ``cost``.

    Raises:
        ConfigError: the sizes do not fit.

    Numerics: float64. ‖A − A'‖₂ ≤ levels · tolerance · ‖A‖₂, for what is left out is block diagonal at each level.

    Source: Ambikasaran and Darve, 2013, An O(N log N) fast direct solver for partial hierarchically semi-separable
        matrices, §3, for the form.

    Example:
        >>> far = torch.outer(torch.arange(128.0), torch.arange(128.0)).double()
        >>> hodlr(far + torch.eye(128), leaf=32, tolerance=1e-12).spread.shape
        torch.Size([4, 16, 32])
    """
    n = A.shape[-1]
    leaves = n // leaf
    if A.shape != (n, n) or n % leaf or leaves < 2 or leaves & (leaves - 1):
        raise ConfigError(f"leaf={leaf} does not divide a matrix of shape {tuple(A.shape)} into 2, 4, 8, … leaves")
    A, levels = A.double(), leaves.bit_length() - 1
    factors = [torch.linalg.svd(_beside(A, 2 << level).mT) for level in range(levels)]
    least = tolerance * torch.linalg.matrix_norm(A, 2)
    needed = max(int(S.gt(least).sum(-1).max()) for _, S, _ in factors)
    rank = next(r for r in range(max(needed, 1), needed + _VECTOR + 1) if levels * r % _VECTOR == 0)
    gather, spread = [], []
    for U, S, Vh in factors:
        root = S.sqrt()[:, None]
        left, right = (pad(side * root, (0, rank - S.shape[-1])) for side in (U, Vh.mT))  # or cut
        # What gathers from block j reaches block i = j ± 1 beside it.
        gather.append(left.unflatten(0, (-1, 2)).flip(1).reshape(leaves, leaf, rank))
        spread.append(right.reshape(leaves, leaf, rank).mT)
    near = A.view(leaves, leaf, leaves, leaf).diagonal(dim1=0, dim2=2).permute(2, 1, 0)
    return HODLR(near.contiguous(), torch.cat(gather, -1), torch.cat(spread, -2))


def exchanged(z: Float[Tensor, "leaves rows columns"]) -> Float[Tensor, "leaves rows columns"]:
    """Sum what the leaves gathered: at each level w_q = Σ z_p, over the leaves p of the block beside that of q.

    The map is its own adjoint, for "beside" goes both ways.

    Args:
        z: what every leaf gathered, x_p gather_p; the columns of the first level first.

    Returns:
        What every leaf has to spread.

    Example:
        >>> exchanged(torch.arange(8.0).reshape(4, 1, 2))[:, 0]  # two levels of rank 1
        tensor([[10.,  3.],
                [10.,  1.],
                [ 2.,  7.],
                [ 2.,  5.]])
    """
    levels = len(z).bit_length() - 1
    parts = []
    for level, part in enumerate(z.unflatten(-1, (levels, -1)).unbind(-2)):
        pairs = part.unflatten(0, (1 << level, 2, -1))  # of blocks
        parts.append(pairs.sum(2, keepdim=True).flip(1).expand_as(pairs).flatten(0, 2))
    return torch.cat(parts, -1)


def _beside(A: Tensor, blocks: int) -> Tensor:
    """The blocks A_ij beside those on the diagonal, i = 0, 1, …, j = 1, 0, 3, 2, …: (blocks, n/blocks, n/blocks)."""
    i, size = torch.arange(blocks, device=A.device), len(A) // blocks
    return A.view(blocks, size, blocks, size)[i, :, i ^ 1]
