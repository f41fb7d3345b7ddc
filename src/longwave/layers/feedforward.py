"""The position-wise network between mixers."""

from typing import final

import torch.nn.functional as F
from torch import nn

from longwave.layers.checks import check_positive
from longwave.layers.options import choose
from longwave.shapes import Float, Tensor


def _swiglu(h: Tensor) -> Tensor:
    """The first half of the channels, gated by silu of the second."""
    value, gate = h.chunk(2, -1)
    return value * F.silu(gate)


# kind -> the nonlinearity, its inputs for each hidden channel, and hidden channels in units of d_model: the gated forms
# have three matrices, and as many parameters at two thirds of the width.
_KINDS = {"mlp": (F.gelu, 1, 4.0), "glu": (F.glu, 2, 8 / 3), "swiglu": (_swiglu, 2, 8 / 3)}


@final
class FeedForward(nn.Module):
    """Two linear maps with a nonlinearity between them, position by position.

    ``"mlp"``: W₂ GELU(W₁ x + b₁) + b₂ with hidden width 4 d_model; ``"glu"``: W₂ ((V x + c) ⊙ σ(W₁ x + b₁)) + b₂ with
    8/3 d_model, rounded, for as many parameters; ``"swiglu"``: the same with silu for σ.

    Args:
        d_model: channels of input and output.
        kind: ``"mlp"``, ``"glu"`` or ``"swiglu"``.
        d_hidden: the hidden width; None is that of the kind.
        bias: whether the linear maps have one.

    Raises:
        ConfigError: the kind is unknown, or the width not positive.

    Source: Shazeer, 2020, GLU Variants Improve Transformer, arXiv:2002.05202, equations 1, 5 and 6.
    """

    def __init__(self, d_model: int, kind: str = "mlp", d_hidden: int | None = None, bias: bool = True) -> None:
        super().__init__()
        self._nonlinearity, inputs, expansion = choose("feedforward", kind, _KINDS)
        d_hidden = round(expansion * d_model) if d_hidden is None else d_hidden
        check_positive("d_hidden", d_hidden)
        self.widen = nn.Linear(d_model, inputs * d_hidden, bias=bias)
        self.narrow = nn.Linear(d_hidden, d_model, bias=bias)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.narrow(self._nonlinearity(self.widen(x))).to(x.dtype)
