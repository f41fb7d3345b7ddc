"""LSSL: a bank of state space models with a dense matrix A, the ancestor of S4, without its shortcuts."""

from typing import final

import torch
from torch import nn

from longwave.errors import ConfigError
from longwave.layers.checks import check_positive
from longwave.layers.dense import DenseBank, DenseSystem, dense_system
from longwave.math import dense_gbt, legs, log_uniform


@final
class LSSL(DenseBank):
    """The linear state space layer LSSL: a bank of d_model systems that share one dense A, each with its own step.

    In continuous time, for each channel,  x' = A x + B u,  y = C x + D u,  with A and B of HiPPO-LegS, discretised by
    the generalised bilinear rule with dt = rate · exp(``log_dt``):
    Ā = (I − α dt A)⁻¹ (I + (1−α) dt A),  B̄ = (I − α dt A)⁻¹ dt B. Then GELU and ``output``.

    It costs what S4 and S4D were invented to save: d_state³ for each channel and update of the parameters, and
    d_state² for each channel and step. It is the layer to compare them with, not one to train at length.

    Args:
        d_model: channels of input and output.
        d_state: real states of each channel.
        learned: whether A and B are trained, as one dense matrix and vector (``A``, ``B``), or stay those of LegS.
            Nothing keeps a trained A stable.
        alpha: α, from 0 (forward Euler) over 1/2 (bilinear) to 1 (backward Euler). Below 1/2 a stable A may become an
            unstable Ā: forward Euler needs dt · d_state < 2.
        dt_min: smallest initial step; a channel remembers about 1/dt positions.
        dt_max: largest initial step. The steps are log-uniform between the two.
        output: ``"glu"``, ``"linear"`` or None: what follows the GELU.
        dropout: probability that a channel is zeroed after the GELU, one mask for the whole sequence.

    Raises:
        ConfigError: an option is out of its range.

    Numerics: Ā and B̄ are computed in float64 and rounded once; Krylov vectors of that rounded system are made in
        float64. Padding is free; a sequence with ``reset`` is run position by position.

    Source: Gu et al., 2021, Combining Recurrent, Convolutional, and Continuous-time Models with Linear State-Space
        Layers, arXiv:2110.13985. The paper trains A within a family of structured matrices; here, if at all, A is
        trained as it is.

    Not to be confused with `S4D`, the bank whose A is diagonal.

    Example:
        >>> layer = LSSL(d_model=8, d_state=16)
        >>> y, state = layer.prefill(torch.zeros(2, 100, 8))
        >>> state.x.shape
        torch.Size([2, 8, 16])
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        learned: bool = False,
        alpha: float = 0.5,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        output: str | None = "glu",
        dropout: float = 0.0,
    ) -> None:
        check_positive("d_state", d_state)
        if not 0 <= alpha <= 1:
            raise ConfigError(f"alpha={alpha} must lie between 0, forward Euler, and 1, backward Euler")
        super().__init__(d_model, (d_model, d_state), output, dropout)
        self.learned, self.alpha = learned, alpha
        dtype = torch.get_default_dtype()
        self.log_dt = nn.Parameter(log_uniform((d_model,), dt_min, dt_max).log().to(dtype))
        if learned:
            self.A, self.B = (nn.Parameter(matrix.to(dtype)) for matrix in legs(d_state))
        self.C = nn.Parameter(torch.randn(d_model, d_state))
        self.D = nn.Parameter(torch.randn(d_model))

    def discretize(self, rate: float = 1.0) -> DenseSystem:
        """Compute Ā, B̄, C and D for data sampled at ``rate``."""
        A, B = (self.A, self.B) if self.learned else legs(self.C.shape[-1])
        dt = self.log_dt.double().exp()
        systems = (len(dt), *A.shape)  # every channel's A and B are the same, its step is its own
        A, B = dense_gbt(
            rate * dt, A.to(dt).expand(systems), B.to(dt)[:, None].expand(*systems[:2], 1), alpha=self.alpha
        )
        return dense_system(self.D, A, B[..., 0], self.C, self.D)

    def slow_parameters(self) -> tuple[str, ...]:
        """Name dt and, if they are trained, A and B, which set time scales."""
        return ("log_dt", "A", "B") if self.learned else ("log_dt",)
