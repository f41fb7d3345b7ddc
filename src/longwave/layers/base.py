"""The contract of every sequence mixer, and of the linear time-invariant ones among them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import nn

from longwave.errors import UnsupportedError
from longwave.layers.cache import SystemCache
from longwave.layers.checks import check_input, check_positive, check_rate, check_sequence, check_state
from longwave.layers.readout import Readout
from longwave.math import StateSpace
from longwave.shapes import Bool, Float, Int, Tensor

State = tuple[Any, ...]  # a NamedTuple or tuple of tensors, possibly nested, every tensor batch-first


def map_state(fn: Callable[[Tensor], Tensor], state: Any) -> Any:
    """Apply ``fn`` to every tensor of a state: to move it, cut a row out of it, or detach it.

    Args:
        fn: what to do with one tensor; its first axis is the batch.
        state: a state, or part of one.

    Returns:
        The state with the same structure.

    Example:
        >>> map_state(lambda x: x[:1], LTIState(torch.zeros(3, 2))).x.shape
        torch.Size([1, 2])
    """
    if isinstance(state, Tensor):
        return fn(state)
    parts = [map_state(fn, part) for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)


class Mixer(nn.Module, ABC):
    """A map of sequences, (batch, time, d_model) to the same, that can also run from a state to a state.

    ``forward``, any chunking of ``prefill``, and ``step`` position by position give the same outputs, and row b
    depends on its own first ``lengths[b]`` positions only; outputs beyond them mean nothing.
    A subclass writes ``initial_state``, ``_run`` and ``_step``; the inputs are checked here.

    Attributes:
        d_model: channels of input and output.
        causal: whether y[t] depends on x[0..t] alone. A mixer that is not causal refuses ``prefill`` and ``step``.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        check_positive("d_model", d_model)
        self.d_model = d_model
        self.causal = True

    def forward(
        self,
        x: Float[Tensor, "batch time d_model"],
        *,
        lengths: Int[Tensor, " batch"] | None = None,
        reset: Bool[Tensor, "batch time"] | None = None,
        rate: float = 1.0,
    ) -> Float[Tensor, "batch time d_model"]:
        """Map whole sequences, from the zero state.

        Args:
            x: the input, in the dtype and on the device of the parameters.
            lengths: each row's length in a right-padded batch; None means that every row is full.
            reset: True where a packed sequence begins: the state is zero before that position.
            rate: the sampling interval of x in units of that of training; 2 is half the sampling frequency.

        Returns:
            y, in the dtype of x.

        Raises:
            ShapeError: x, lengths or reset has the wrong shape, dtype, device or range.
            ConfigError: rate is not positive.
        """
        self._check(x, lengths, reset, rate)
        return self._map(x, lengths, reset, rate)

    def prefill(
        self,
        x: Float[Tensor, "batch time d_model"],
        state: State | None = None,
        *,
        lengths: Int[Tensor, " batch"] | None = None,
        reset: Bool[Tensor, "batch time"] | None = None,
        rate: float = 1.0,
    ) -> tuple[Float[Tensor, "batch time d_model"], State]:
        """Map a chunk of each sequence, from a state to the state at each row's own end.

        Args:
            x: the chunk; ``lengths``, ``reset`` and ``rate`` are those of ``forward``, for this chunk.
            state: the state before the chunk, from ``initial_state``, ``prefill`` or ``step``; None is the initial one.

        Returns:
            y, and the state after the last position of each row.

        Raises:
            ShapeError, ConfigError: as ``forward``; also for a state that does not fit.
            UnsupportedError: the mixer is not causal.
        """
        self._check_causal("prefill")
        self._check(x, lengths, reset, rate)
        return self._run(x, state, lengths, reset, rate)

    def step(
        self, x_t: Float[Tensor, "batch d_model"], state: State, *, rate: float = 1.0
    ) -> tuple[Float[Tensor, "batch d_model"], State]:
        """Map one position; ``state`` is read, never written to.

        Args:
            x_t: the input at this position.
            state: the state before it.
            rate: as in ``forward``.

        Returns:
            y_t, and the state after it.

        Raises:
            ShapeError, ConfigError, UnsupportedError: as ``prefill``.
        """
        self._check_step(x_t, rate)
        return self._step(x_t, state, rate)

    @abstractmethod
    def initial_state(
        self, batch_size: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> State:
        """Return the state before the first position.

        Args:
            batch_size: number of sequences.
            dtype: dtype of the inputs to come; None is that of the parameters. States are at least 32-bit.
            device: where the state shall be; None is where the parameters are.
        """

    def slow_parameters(self) -> tuple[str, ...]:
        """Name the parameters that want a small learning rate and no weight decay."""
        return ()

    def _map(self, x: Tensor, lengths: Tensor | None, reset: Tensor | None, rate: float) -> Tensor:
        """Map checked sequences from the zero state; overridden where it is less work without the state after."""
        return self._run(x, None, lengths, reset, rate)[0]

    @abstractmethod
    def _run(
        self, x: Tensor, state: State | None, lengths: Tensor | None, reset: Tensor | None, rate: float
    ) -> tuple[Tensor, State]:
        """Map checked sequences."""

    @abstractmethod
    def _step(self, x_t: Tensor, state: State, rate: float) -> tuple[Tensor, State]:
        """Map one checked position."""

    def _reference(self) -> Tensor:
        """A parameter whose dtype and device the inputs must have."""
        own = next(iter(self._parameters.values()), None)  # parameters() would begin a walk over every module
        return next(self.parameters()) if own is None else own

    def _check(self, x: Tensor, lengths: Tensor | None, reset: Tensor | None, rate: float) -> None:
        check_sequence(x, self.d_model, self._reference(), lengths, reset)
        check_rate(rate)

    def _check_step(self, x_t: Tensor, rate: float) -> None:
        self._check_causal("step")
        check_input(x_t, ("batch",), self.d_model, self._reference())
        check_rate(rate)

    def _check_causal(self, method: str) -> None:
        if not self.causal:
            raise UnsupportedError(f"{method}: a bidirectional model needs the whole sequence; call it with forward")


class LTIState(NamedTuple):
    """The state of a linear time-invariant mixer: x[t−1], (batch, …), complex or real as the system, in the precision
    of the system: float32 at least, float64 for float64 inputs."""

    x: Tensor


class LTIMixer(Mixer):
    """A linear time-invariant system with D u, followed by a `Readout`: convolution, recurrence and matrices in one.

    y = readout(k ∗ u), with the same discrete system in every view: ``forward`` and ``prefill`` scan it, ``step``
    advances it, ``kernel`` is its impulse response, ``to_state_space`` its matrices. It is computed in float64, rounded
    once to the dtype of the state, and kept while gradients are off and no parameter changes.
    A subclass writes ``discretize``, ``_scan``, ``_advance``, ``kernel`` and ``to_state_space``.

    Numerics: the linear system runs in float32 at least, whatever the dtype of x and under autocast.
    """

    def __init__(self, d_model: int, state_shape: tuple[int, ...], output: str | None, dropout: float) -> None:
        super().__init__(d_model)
        self.state_shape = state_shape
        self.readout = Readout(d_model, output, dropout)
        self._cache = SystemCache()

    def initial_state(
        self, batch_size: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> LTIState:
        like = self._reference()
        dtype = self._state_dtype(dtype or like.dtype)
        return LTIState(torch.zeros(batch_size, *self.state_shape, dtype=dtype, device=device or like.device))

    def system(self, rate: float = 1.0) -> Any:
        """The discretised system: as ``discretize`` returns it, from the cache if gradients are off."""
        return self._cache.get(lambda: self.discretize(rate), self._sources(), rate)

    @abstractmethod
    def discretize(self, rate: float = 1.0) -> Any:
        """Compute the discrete system of the parameters in float64 and round it to the state's dtype."""

    @abstractmethod
    def kernel(self, length: int, rate: float = 1.0) -> Tensor:
        """Return the impulse response k of the linear system, D u included, in the state's precision."""

    @abstractmethod
    def to_state_space(self, rate: float = 1.0) -> StateSpace:
        """Return the linear system, D u included, as dense float64 matrices."""

    @abstractmethod
    def _scan(
        self, system: Any, u: Tensor, state: Tensor | None, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Run the system over u (batch, time, d_model) from a state to (y, the state at each row's end)."""

    @abstractmethod
    def _advance(self, system: Any, u_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run the system over one position, u_t (batch, d_model), from a state to (y_t, the state after)."""

    def _sources(self) -> list[Tensor]:
        """The parameters that the system is made of: all but the readout's."""
        sources: list[Tensor] = [own for own in self._parameters.values() if own is not None]
        for name, module in self._modules.items():  # parametrizations, if there are any
            if name != "readout" and module is not None:
                sources += module.parameters()
        return sources

    def _run(
        self, x: Tensor, state: State | None, lengths: Tensor | None, reset: Tensor | None, rate: float
    ) -> tuple[Tensor, LTIState]:
        return self._run_system(self.system(rate), x, state, lengths, reset)

    def _step(self, x_t: Tensor, state: State, rate: float) -> tuple[Tensor, LTIState]:
        return self._step_system(self.system(rate), x_t, state)

    def _run_system(
        self, system: Any, x: Tensor, state: State | None, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, LTIState]:
        """Map checked sequences with this discrete system."""
        before = None if state is None else self._state(state, x)
        with without_autocast(x.device.type):
            y, after = self._scan(system, x, before, lengths, reset)
        return self.readout(y.to(x.dtype)).to(x.dtype), LTIState(after)

    def _step_system(self, system: Any, x_t: Tensor, state: State) -> tuple[Tensor, LTIState]:
        """Map one checked position with this discrete system."""
        before = self._state(state, x_t)
        with without_autocast(x_t.device.type):
            y, after = self._advance(system, x_t.to(real_dtype(x_t.dtype)), before)
        return self.readout(y.to(x_t.dtype)).to(x_t.dtype), LTIState(after)

    def _state_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """The dtype of the states for inputs of this dtype; a mixer with real states overrides it."""
        return complex_dtype(dtype)

    def _state(self, state: State, x: Tensor) -> Tensor:
        """The tensor inside a state, checked against the inputs."""
        (tensor,) = state
        check_state(tensor, (x.shape[0], *self.state_shape), self._state_dtype(x.dtype), x)
        return tensor


def without_autocast(device: str) -> AbstractContextManager[Any]:
    """Turn autocast off, if it is on: entering torch's own context costs a step as much as a product of its own."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def real_dtype(dtype: torch.dtype) -> torch.dtype:
    """The precision in which a linear system runs on inputs of this dtype: 16-bit inputs are widened."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def complex_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of the states for inputs of this dtype."""
    return torch.complex128 if dtype == torch.float64 else torch.complex64


def rounded(like: Tensor, *system: Tensor) -> list[Tensor]:
    """Round the float64 tensors of a system, once, to the precision of a layer with parameters ``like``; they share no
    memory with the parameters afterwards."""
    real, complex_ = real_dtype(like.dtype), complex_dtype(like.dtype)
    return [x.to(complex_ if x.is_complex() else real, copy=True) for x in system]
