"""What follows the linear system in every LTI mixer: a nonlinearity, and a matrix that mixes the channels."""

import math
from typing import final

import torch
import torch.nn.functional as F
from torch import nn

from longwave.layers.dropout import TiedDropout
from longwave.layers.options import choose
from longwave.ops import gated_linear
from longwave.shapes import Float, Tensor

# The width of the linear map, in units of d_model.
_WIDTHS = {"glu": 2, "linear": 1}


@final
class Readout(nn.Module):
    """y ↦ output(dropout(GELU(y))), position by position.

    With ``output="glu"``: (W g + c) ⊙ σ(V g + d); with ``"linear"``: W g + c; with None: g, where g = dropout(GELU(y)).

    Args:
        d_model: channels of input and output.
        output: the map after the nonlinearity.
        dropout: probability that a channel of g is zeroed, one mask for the whole sequence.

    Source: the output block of S4 (Gu et al., 2022, arXiv:2111.00396, §3.4), with the GLU that the later S4, S4D and
        LRU experiments use.
    """

    def __init__(self, d_model: int, output: str | None = "glu", dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = TiedDropout(dropout)
        self.linear = None if output is None else nn.Linear(d_model, choose("output", output, _WIDTHS) * d_model)
        self.output = output

    def forward(self, y: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        linear = self.linear
        # Autocast chooses the dtype of torch's functions, not of ours.
        if linear is not None and self.output == "glu" and not torch.is_autocast_enabled(y.device.type):
            dropping = self.dropout.active
            x = self.dropout(F.gelu(y)) if dropping else y
            return gated_linear(x, linear.weight, linear.bias, gelu=not dropping).y
        g = self.dropout(_gelu_of_few(y) if y.ndim == 2 else F.gelu(y))
        z = g if linear is None else linear(g)
        return F.glu(z) if self.output == "glu" else z


def _gelu_of_few(y: Tensor) -> Tensor:
    """GELU(y) = y/2 (1 + erf(y/√2)), at half the time of torch's own, which in float32 goes through oneDNN."""
    if y.dtype != torch.float32:
        return F.gelu(y)
    half = y / 2
    return torch.addcmul(half, half, torch.erf(math.sqrt(0.5) * y))
