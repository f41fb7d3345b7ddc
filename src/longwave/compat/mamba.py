"""mamba_ssm.modules.mamba_simple.Mamba."""

from typing import final

import torch

from longwave import layers
from longwave.compat.cached import ConvolutionCached, Params, placed
from longwave.shapes import Float, Tensor


@final
class Mamba(layers.Mamba, ConvolutionCached):
    """`longwave.Mamba` as mamba_ssm has it: its constructor, its calls, its cache, its state dict.

    Args:
        d_model, d_state, d_conv, expand, dt_rank, dt_min, dt_max, dt_init, dt_scale, dt_init_floor, conv_bias, bias: as
            in `longwave.Mamba`.
        use_fast_path: without meaning: there is one path.
        layer_idx: the number of the layer, under which `InferenceParams` has its cache.
        device: where the parameters are.
        dtype: of the parameters, but for ``A_log`` and ``D``, which stay float32.

    Raises:
        ConfigError: an option is unknown or out of its range.

    Source: mamba_ssm 2.3.2, modules.mamba_simple.

    Example:
        >>> layer = Mamba(8)
        >>> layer(torch.zeros(2, 5, 8)).shape
        torch.Size([2, 5, 8])
        >>> conv_state, ssm_state = layer.allocate_inference_cache(2, max_seqlen=5)
        >>> y, conv_state, ssm_state = layer.step(torch.zeros(2, 1, 8), conv_state, ssm_state)
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_rank: int | str = "auto",
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_init: str = "random",
        dt_scale: float = 1.0,
        dt_init_floor: float = 1e-4,
        conv_bias: bool = True,
        bias: bool = False,
        use_fast_path: bool = True,
        layer_idx: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        with placed(device):
            super().__init__(
                d_model, d_state, d_conv, expand, dt_rank, dt_min=dt_min, dt_max=dt_max, dt_init=dt_init,
                dt_scale=dt_scale, dt_init_floor=dt_init_floor, conv_bias=conv_bias, bias=bias,
            )  # fmt: skip
        self.d_conv, self.expand, self.use_fast_path = d_conv, expand, use_fast_path
        self._finish(layer_idx, dtype, wide=("A_log", "D"))

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  (the original's)
        self, hidden_states: Float[Tensor, "batch time d_model"], inference_params: Params | None = None
    ) -> Float[Tensor, "batch time d_model"]:
        """Map sequences.

        Args:
            hidden_states: the input.
            inference_params: with a cache, what it says came before, of any length; the cache is moved on.
        """
        return self._through(hidden_states, inference_params)

    def step(  # pyright: ignore[reportIncompatibleMethodOverride]  (the original's)
        self, hidden_states: Float[Tensor, "batch 1 d_model"], conv_state: Tensor, ssm_state: Tensor
    ) -> tuple[Tensor, ...]:
        """Map one position; the cache is moved on in place.

        Args:
            hidden_states: the input at this position.
            conv_state: (batch, dim, d_conv), the last inputs of the convolution.
            ssm_state: (batch, dim, d_state), h.

        Returns:
            The output, and the two tensors of the cache.
        """
        return self._advance(hidden_states, (conv_state, ssm_state))

    def mark(self) -> None:
        super().mark()
        # It holds dt, which no initialisation of biases may undo.
        self.dt_proj.bias._no_reinit = True  # pyright: ignore[reportAttributeAccessIssue]
