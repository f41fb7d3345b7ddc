"""The position-wise network between mixers."""

from typing import final

import torch.nn.functional as F
from torch import nn

from longwave.layers.options import choose
from longwave.shapes import Float, Tensor

# Hidden width in units of d_model: the gated form has three matrices, and as many parameters at two thirds of it.
_EXPANSIONS = {"mlp": 4.0, "glu": 8 / 3}


@final
class FeedForward(nn.Module):
    """Two linear maps with a nonlinearity between them, position by position.

    ``"mlp"``: W₂ GELU(W₁ x + b₁) + b₂ with hidden width 4 d_model; ``"glu"``: W₂ ((V x + c) ⊙ σ(W₁ x + b₁)) + b₂ with
    8/3 d_model, rounded, for as many parameters.

    Args:
        d_model: channels of input and output.
        kind: ``"mlp"`` or ``"glu"``.

    Raises:
        ConfigError: the kind is unknown.

    Source: Shazeer, 2020, GLU Variants Improve Transformer, arXiv:2002.05202, equations 1 and 6.
    """

    def __init__(self, d_model: int, kind: str = "mlp") -> None:
        super().__init__()
        hidden = round(choose("feedforward", kind, _EXPANSIONS) * d_model)
        self.gated = kind == "glu"
        self.widen = nn.Linear(d_model, 2 * hidden if self.gated else hidden)
        self.narrow = nn.Linear(hidden, d_model)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        h = self.widen(x)
        return self.narrow(F.glu(h) if self.gated else F.gelu(h)).to(x.dtype)
