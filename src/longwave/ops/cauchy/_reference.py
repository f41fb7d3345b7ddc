"""The definition, in double precision, a piece of the nodes at a time: no (dim, modes, nodes) tensor of all of them."""

import torch
from torch import Tensor

PIECE = 512  # nodes


def run(v: Tensor, omega: Tensor, w: Tensor) -> Tensor:
    """(dim, rows, nodes), all in double precision."""
    w, nodes = w[..., None], 1j * omega
    return torch.cat([v @ (1 / (z - w)) + v.conj() @ (1 / (z - w.conj())) for z in nodes.split(PIECE)], -1)
