"""mamba_ssm.modules.mamba3.Mamba3."""

from collections.abc import Iterable
from typing import final

import torch

from longwave import layers
from longwave.compat.cached import Cached, Params, placed
from longwave.shapes import Float, Int, Tensor


@final
class Mamba3(layers.Mamba3, Cached):
    """`longwave.Mamba3` as mamba_ssm has it: its constructor, its calls, its cache, its state dict.

    Args:
        d_model, d_state, expand, headdim, ngroups, rope_fraction, dt_min, dt_max, dt_init_floor, A_floor,
            is_outproj_norm, is_mimo, mimo_rank, chunk_size: as in `longwave.Mamba3`.
        fuse_pregate_headwise_norm: without meaning: there is one path.
        dropout, n_layer: without meaning, as in the original.
        layer_idx: the number of the layer, under which `InferenceParams` has its cache.
        device: where the parameters are.
        dtype: of the projections and norms; the others stay float32.
        A_activation: as in `longwave.Mamba3`: the original's source and its checkpoints have ``"heavy_tail"``, the
            released 2.3.2 ``"softplus"``.

    Raises:
        ConfigError: an option is out of its range, or sizes do not divide one another.

    Source: mamba_ssm, modules.mamba3. There ``seq_idx`` is ignored; here it keeps sequences apart.

    Example:
        >>> layer = Mamba3(16, d_state=8, headdim=8, is_mimo=True, mimo_rank=2, layer_idx=0)
        >>> layer(torch.zeros(2, 5, 16)).shape
        torch.Size([2, 5, 16])
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 128,
        expand: int = 2,
        headdim: int = 64,
        ngroups: int = 1,
        rope_fraction: float = 0.5,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_init_floor: float = 1e-4,
        A_floor: float = 1e-4,
        is_outproj_norm: bool = False,
        is_mimo: bool = False,
        mimo_rank: int = 4,
        fuse_pregate_headwise_norm: bool = True,
        chunk_size: int = 64,
        dropout: float = 0.0,
        layer_idx: int | None = None,
        n_layer: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        A_activation: str = "heavy_tail",
    ) -> None:
        with placed(device):
            super().__init__(
                d_model, d_state, expand, headdim, ngroups, rope_fraction=rope_fraction, dt_min=dt_min, dt_max=dt_max,
                dt_init_floor=dt_init_floor, A_floor=A_floor, is_outproj_norm=is_outproj_norm, is_mimo=is_mimo,
                mimo_rank=mimo_rank, A_activation=A_activation, chunk_size=chunk_size,
            )  # fmt: skip
        self._finish(layer_idx, dtype, wide=("dt_bias", "B_bias", "C_bias", "mimo_x", "mimo_z", "mimo_o", "D"))

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  (the original's)
        self,
        u: Float[Tensor, "batch time d_model"],
        seq_idx: Int[Tensor, "batch time"] | None = None,
        cu_seqlens: Int[Tensor, " ends"] | None = None,
        inference_params: Params | None = None,
    ) -> Float[Tensor, "batch time d_model"]:
        """Map sequences; the arguments are those of `Mamba2`."""
        return self._through(u, inference_params, seq_idx, cu_seqlens)

    def step(  # pyright: ignore[reportIncompatibleMethodOverride]  (the original's)
        self,
        u: Float[Tensor, "batch *one d_model"],
        angle_state: Tensor,
        ssm_state: Tensor,
        k_state: Tensor,
        v_state: Tensor,
    ) -> tuple[Tensor, ...]:
        """Map one position; the cache is moved on in place.

        Args:
            u: the input at this position.
            angle_state: (batch, heads, angles), θ.
            ssm_state: (batch, heads, headdim, d_state), S.
            k_state: (batch, rank, heads, d_state), the last keys, turned.
            v_state: (batch, heads, headdim), the last x.

        Returns:
            The output, and the four tensors of the cache.
        """
        return self._advance(u, (angle_state, ssm_state, k_state, v_state))

    def _cache_shapes(self, batch: int) -> Iterable[tuple[int, ...]]:
        return self._state_shapes(batch)

    def _cache_dtypes(self, dtype: torch.dtype) -> Iterable[torch.dtype]:
        wide = torch.promote_types(dtype, torch.float32)
        return wide, wide, dtype, dtype
