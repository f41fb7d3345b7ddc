"""What the modules of mamba_ssm share: packed sequences, a cache that is written in place, and where parameters are."""

from abc import abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import torch
from torch.nn.utils.rnn import pad_sequence

from longwave.compat.packing import beginnings, sequences
from longwave.errors import ConfigError
from longwave.layers.base import Mixer, State, real_dtype
from longwave.shapes import Tensor

Cache = tuple[Tensor, ...]


@runtime_checkable
class Params(Protocol):
    """What a mixer reads of `InferenceParams`: positions before these, and the caches by number of the layer."""

    seqlen_offset: int
    key_value_memory_dict: dict[Any, Any]


class Cached(Mixer):
    """A mixer under the signatures of mamba_ssm.

    Attributes:
        layer_idx: the number under which `InferenceParams` has its cache.
    """

    layer_idx: int | None

    def allocate_inference_cache(
        self, batch_size: int, max_seqlen: int, dtype: torch.dtype | None = None, **kwargs: Any
    ) -> Cache:
        """Make the cache of so many sequences, all zeros; its size does not depend on their length.

        Args:
            batch_size: sequences.
            max_seqlen: without meaning.
            dtype: of what is cached; None is that of the parameters.
            kwargs: of the originals' other layers; without meaning.
        """
        like = self._reference()
        dtypes = self._cache_dtypes(dtype or like.dtype)
        shapes = self._cache_shapes(batch_size)
        return tuple(torch.zeros(s, dtype=d, device=like.device) for s, d in zip(shapes, dtypes, strict=True))

    def _get_states_from_cache(
        self, inference_params: Params, batch_size: int, initialize_states: bool = False
    ) -> Cache:
        """This layer's cache, made if it is not there."""
        caches = inference_params.key_value_memory_dict
        if self.layer_idx is None:
            raise ConfigError("a layer needs its layer_idx to find its cache in inference_params: give it one")
        if self.layer_idx not in caches:
            caches[self.layer_idx] = self.allocate_inference_cache(batch_size, 0)
        elif initialize_states:
            for tensor in caches[self.layer_idx]:
                tensor.zero_()
        return caches[self.layer_idx]

    def _through(
        self,
        x: Tensor,
        inference_params: Params | None = None,
        seq_idx: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
    ) -> Tensor:
        """Map sequences; with a cache, from what it has to what it has then."""
        self._check(x, None, None, 1.0)
        if inference_params is None:
            y = self._run(x, self._before(x), None, beginnings(x, seq_idx, cu_seqlens), 1.0)[0]
            return y if seq_idx is None else y.masked_fill((seq_idx < 0)[..., None], 0)
        rows = len(x) if cu_seqlens is None else len(cu_seqlens) - 1
        cache = self._get_states_from_cache(inference_params, rows)
        goes_on = inference_params.seqlen_offset > 0
        if goes_on and x.shape[1] == 1 and cu_seqlens is None:
            return self._advance(x, cache)[0]
        before = self._read(cache, x) if goes_on else None
        if cu_seqlens is None:
            y, after = self._run(x, before, None, beginnings(x, seq_idx, None), 1.0)
        else:
            parts = [x[0, part] for part in sequences(cu_seqlens, x)]
            lengths = cu_seqlens.diff()
            padded, after = self._run(pad_sequence(parts, batch_first=True), before, lengths, None, 1.0)
            y = torch.cat([row[: len(part)] for row, part in zip(padded, parts, strict=True)])[None]
        self._write(cache, after)
        return y

    def _advance(self, x: Tensor, cache: Cache) -> tuple[Tensor, ...]:
        """Map one position, (batch, 1, d_model) or (batch, d_model); the cache is moved on, and returned too."""
        x_t = x[:, 0] if x.ndim == 3 else x
        self._check_step(x_t, 1.0)
        y, after = self._step(x_t, self._read(cache, x_t), 1.0)
        self._write(cache, after)
        return y.reshape(x.shape), *cache

    def _before(self, x: Tensor) -> State | None:
        """The state before whole sequences."""
        return None

    @abstractmethod
    def _cache_shapes(self, batch: int) -> Iterable[tuple[int, ...]]:
        """The shapes of a cache's tensors."""

    def _cache_dtypes(self, dtype: torch.dtype) -> Iterable[torch.dtype]:
        """Their dtypes, of what is cached in this one."""
        return (dtype, dtype)

    def _read(self, cache: Cache, x: Tensor) -> State:
        """The state in a cache, in the precision that x needs; what autograd keeps of it is no part of the cache."""
        return tuple(tensor.to(real_dtype(x.dtype), copy=torch.is_grad_enabled()) for tensor in cache)

    @torch.no_grad()
    def _write(self, cache: Cache, state: State) -> None:
        for tensor, new in zip(cache, state, strict=True):
            tensor.copy_(new)

    def _finish(self, layer_idx: int | None, dtype: torch.dtype | None, wide: Iterable[str]) -> None:
        """Give the parameters that are not kept wide their dtype, and mark those that shall not decay."""
        self.layer_idx = layer_idx
        for name, parameter in self.named_parameters():
            if dtype is not None and name not in wide:
                parameter.data = parameter.data.to(dtype)
        self.mark()

    def mark(self) -> None:
        """Mark the parameters that want no weight decay, as the originals' optimisers look for it."""
        for name in self.slow_parameters():
            self.get_parameter(name)._no_weight_decay = True  # pyright: ignore[reportAttributeAccessIssue]


class ConvolutionCached(Cached):
    """One whose state is the last inputs of a convolution, and h; the cache has room for the present input too."""

    def _cache_shapes(self, batch: int) -> Iterable[tuple[int, ...]]:
        conv, ssm = self._state_shapes(batch)
        return (*conv[:-1], conv[-1] + 1), ssm

    def _read(self, cache: Cache, x: Tensor) -> State:
        conv, ssm = super()._read(cache, x)
        return conv[..., 1:], ssm

    @torch.no_grad()
    def _write(self, cache: Cache, state: State) -> None:
        conv, ssm = cache
        after, h = state
        conv.copy_(torch.cat([conv[..., 1:2], after.to(conv.dtype)], -1) if after.shape[-1] else conv)
        ssm.copy_(h)

    @abstractmethod
    def _state_shapes(self, batch: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shapes of the mixer's own state."""


def placed(device: torch.device | str | None) -> AbstractContextManager[Any]:
    """Where new parameters shall be."""
    return torch.device(torch.get_default_device() if device is None else device)
