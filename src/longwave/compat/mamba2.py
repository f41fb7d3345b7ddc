"""mamba_ssm.modules.mamba2.Mamba2 and mamba_ssm.modules.mamba2_simple.Mamba2Simple."""

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import nn

from longwave import layers
from longwave.compat.cached import ConvolutionCached, Params, placed
from longwave.errors import UnsupportedError
from longwave.layers.base import real_dtype
from longwave.layers.mamba2 import Mamba2State
from longwave.layers.options import choose
from longwave.shapes import Float, Int, Tensor

_ACTIVATIONS = {"silu": None, "swish": None}


@final
class Mamba2(layers.Mamba2, ConvolutionCached):
    """`longwave.Mamba2` as mamba_ssm has it: its constructor, its calls, its cache, its state dict.

    Args:
        d_model, d_state, d_conv, expand, headdim, d_ssm, ngroups, A_init_range, D_has_hdim, rmsnorm, norm_before_gate,
            dt_min, dt_max, dt_init_floor, dt_limit, bias, conv_bias, chunk_size: as in `longwave.Mamba2`.
        conv_init: the taps are drawn uniformly from ± conv_init.
        use_mem_eff_path: without meaning: there is one path.
        layer_idx: the number of the layer, under which `InferenceParams` has its cache.
        process_group: None: a layer is not spread over processes.
        sequence_parallel: without meaning.
        device: where the parameters are.
        dtype: of the parameters, but for ``D``, which stays float32.

    Raises:
        ConfigError: an option is out of its range, or sizes do not divide one another.
        UnsupportedError: there is a process_group.

    Source: mamba_ssm 2.3.2, modules.mamba2. There ``step`` is wrong with ``D_has_hdim``; here it is not.

    Example:
        >>> layer = Mamba2(16, d_state=8, headdim=8)
        >>> layer(torch.zeros(1, 5, 16), seq_idx=torch.tensor([[0, 0, 1, 1, 1]])).shape
        torch.Size([1, 5, 16])
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 128,
        d_conv: int = 4,
        conv_init: float | None = None,
        expand: int = 2,
        headdim: int = 64,
        d_ssm: int | None = None,
        ngroups: int = 1,
        A_init_range: Sequence[float] = (1, 16),
        D_has_hdim: bool = False,
        rmsnorm: bool = True,
        norm_before_gate: bool = False,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_init_floor: float = 1e-4,
        dt_limit: Sequence[float] = (0.0, float("inf")),
        bias: bool = False,
        conv_bias: bool = True,
        chunk_size: int = 256,
        use_mem_eff_path: bool = True,
        layer_idx: int | None = None,
        process_group: Any = None,
        sequence_parallel: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if process_group is not None:
            raise UnsupportedError("longwave does not spread a layer over processes: leave out process_group")
        with placed(device):
            super().__init__(
                d_model, d_state, d_conv, expand, headdim, ngroups, d_ssm=d_ssm, A_init_range=_pair(A_init_range),
                D_has_hdim=D_has_hdim, rmsnorm=rmsnorm, norm_before_gate=norm_before_gate, dt_min=dt_min,
                dt_max=dt_max, dt_init_floor=dt_init_floor, dt_limit=_pair(dt_limit), bias=bias, conv_bias=conv_bias,
                chunk_size=chunk_size,
            )  # fmt: skip
        _init_taps(self.conv1d, conv_init)
        self.d_conv, self.expand, self.D_has_hdim, self.rmsnorm = d_conv, expand, D_has_hdim, rmsnorm
        self.norm_before_gate, self.use_mem_eff_path = norm_before_gate, use_mem_eff_path
        self._finish(layer_idx, dtype, wide=("D",))

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  (the original's)
        self,
        u: Float[Tensor, "*batch_time d_model"],
        seqlen: int | None = None,
        seq_idx: Int[Tensor, "batch time"] | None = None,
        cu_seqlens: Int[Tensor, " ends"] | None = None,
        inference_params: Params | None = None,
    ) -> Float[Tensor, "*batch_time d_model"]:
        """Map sequences.

        Args:
            u: the input, (batch, time, d_model), or (batch · seqlen, d_model).
            seqlen: positions of a row, where u has no axis of rows.
            seq_idx: the sequence that a position belongs to, −1 for padding, whose output is zero.
            cu_seqlens: where the sequences in the one row begin, and the end of the last; with a cache, it has a row
                for each of them.
            inference_params: with a cache, what it says came before, of any length; the cache is moved on.
        """
        x = u if seqlen is None else u.unflatten(0, (-1, seqlen))
        return self._through(x, inference_params, seq_idx, cu_seqlens).reshape(u.shape)

    def step(  # pyright: ignore[reportIncompatibleMethodOverride]  (the original's)
        self, hidden_states: Float[Tensor, "batch 1 d_model"], conv_state: Tensor, ssm_state: Tensor
    ) -> tuple[Tensor, ...]:
        """Map one position; the cache is moved on in place.

        Args:
            hidden_states: the input at this position.
            conv_state: (batch, channels, d_conv), the last inputs of the convolution.
            ssm_state: (batch, heads, headdim, d_state), h.

        Returns:
            The output, and the two tensors of the cache.
        """
        return self._advance(hidden_states, (conv_state, ssm_state))


@final
class Mamba2Simple(layers.Mamba2, ConvolutionCached):
    """`longwave.Mamba2` as mamba_ssm's short form has it: whole sequences, and perhaps a learned initial state.

    Args:
        d_model, d_state, d_conv, conv_init, expand, headdim, ngroups, A_init_range, dt_min, dt_max, dt_init_floor,
            dt_limit, bias, conv_bias, chunk_size, use_mem_eff_path, layer_idx, device, dtype: as in `Mamba2`.
        learnable_init_states: the states before the first position are parameters, ``init_states``.
        activation: "swish" or "silu", which is the same.

    Raises:
        ConfigError: an option is out of its range, or sizes do not divide one another.

    Source: mamba_ssm 2.3.2, modules.mamba2_simple, its fused path: the norm is over ngroups groups of channels.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        d_conv: int = 4,
        conv_init: float | None = None,
        expand: int = 2,
        headdim: int = 128,
        ngroups: int = 1,
        A_init_range: Sequence[float] = (1, 16),
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_init_floor: float = 1e-4,
        dt_limit: Sequence[float] = (0.0, float("inf")),
        learnable_init_states: bool = False,
        activation: str = "swish",
        bias: bool = False,
        conv_bias: bool = True,
        chunk_size: int = 256,
        use_mem_eff_path: bool = True,
        layer_idx: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        choose("activation", activation, _ACTIVATIONS)
        with placed(device):
            super().__init__(
                d_model, d_state, d_conv, expand, headdim, ngroups, A_init_range=_pair(A_init_range), dt_min=dt_min,
                dt_max=dt_max, dt_init_floor=dt_init_floor, dt_limit=_pair(dt_limit), bias=bias, conv_bias=conv_bias,
                chunk_size=chunk_size,
            )  # fmt: skip
            states = self.nheads, self.headdim, d_state
            self.init_states = nn.Parameter(torch.zeros(states)) if learnable_init_states else None
        _init_taps(self.conv1d, conv_init)
        self.d_conv, self.expand, self.use_mem_eff_path = d_conv, expand, use_mem_eff_path
        self._finish(layer_idx, dtype, wide=("D",))

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  (the original's)
        self, u: Float[Tensor, "batch time d_model"], seq_idx: Int[Tensor, "batch time"] | None = None
    ) -> Float[Tensor, "batch time d_model"]:
        """Map sequences.

        Args:
            u: the input.
            seq_idx: the sequence that a position belongs to, −1 for padding, whose output is zero; the first of a row
                goes on from the learned state.
        """
        return self._through(u, None, seq_idx)

    def slow_parameters(self) -> tuple[str, ...]:
        learned = () if self.init_states is None else ("init_states",)
        return (*super().slow_parameters(), *learned)

    def _before(self, x: Tensor) -> Mamba2State | None:
        if self.init_states is None:
            return None
        conv, ssm = self.initial_state(len(x), dtype=x.dtype, device=x.device)
        return Mamba2State(conv, self.init_states.to(real_dtype(x.dtype)).expand_as(ssm))


def _pair(limits: Sequence[float | int]) -> tuple[float, float]:
    """Two numbers, as config.json may have them."""
    low, high = limits
    return float(low), float(high)


def _init_taps(conv: nn.Conv1d, bound: float | None) -> None:
    if bound is not None:
        nn.init.uniform_(conv.weight, -bound, bound)
