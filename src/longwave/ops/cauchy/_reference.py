"""The definition, in double precision, a piece of the nodes at a time: no (dim, modes, nodes) tensor of all of them."""

import torch
from torch import Tensor

from longwave.ops._checks import COMPLEX, STATE_DTYPE

PIECE = 512  # nodes


def run(v: Tensor, omega: Tensor, w: Tensor) -> Tensor:
    """(dim, rows, nodes)."""
    dtype = COMPLEX[STATE_DTYPE[v.dtype]]
    v, w, nodes = v.to(torch.complex128), w.to(torch.complex128)[..., None], 1j * omega.double()
    pieces = [v @ (1 / (z - w)) + v.conj() @ (1 / (z - w.conj())) for z in nodes.split(PIECE)]
    return torch.cat(pieces, -1).to(dtype)
