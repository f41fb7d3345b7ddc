"""Which implementation of an operation runs: asked for by name, or the first that does not refuse.

`auto` never fails while the reference remains, and `explain` says what it takes and why the others refuse. An
implementation that is asked for by name runs or raises; it never falls back.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from longwave.errors import UnsupportedError

ORDER = ("triton", "cpu", "reference")


class Choice(NamedTuple):
    """What `auto` takes for given arguments, and why each implementation before it refuses."""

    impl: str
    refused: Mapping[str, str]


class Implementation(NamedTuple):
    """One implementation: `run(...)` computes, `refuses(...)` says why it cannot, or None."""

    run: Callable[..., Any]
    refuses: Callable[..., str | None] = lambda *_: None


class Op:
    """An operation's name and its implementations."""

    def __init__(self, name: str, **implementations: Implementation) -> None:
        self.name: Final = name
        self.implementations: Final[Mapping[str, Implementation]] = implementations
        OPS[name] = self

    def refusal(self, impl: str, args: tuple[Any, ...]) -> str | None:
        """Why `impl` cannot take these arguments, or None."""
        if impl not in self.implementations:
            return f"{self.name} has no {impl} kernel yet"
        return self.implementations[impl].refuses(*args)

    def choose(self, args: tuple[Any, ...]) -> Choice:
        """What `auto` takes."""
        refused: dict[str, str] = {}
        for impl in ORDER:
            why = self.refusal(impl, args)
            if why is None:
                return Choice(impl, refused)
            refused[impl] = why
        raise UnsupportedError(f"{self.name}: no implementation takes these arguments: {refused}")

    def __call__(self, impl: str, *args: Any) -> Any:
        """Run `impl`, or what `auto` takes."""
        if impl == "auto":
            for name in ORDER:  # as `choose`, but without the reasons, which take longer than a single position
                implementation = self.implementations.get(name)
                if implementation is not None and implementation.refuses(*args) is None:
                    return implementation.run(*args)
            impl = self.choose(args).impl
        if impl not in ORDER:
            raise UnsupportedError(f"impl={impl!r}: choose from 'auto', {', '.join(map(repr, reversed(ORDER)))}.")
        why = self.refusal(impl, args)
        if why is not None:
            raise UnsupportedError(f"impl={impl!r}: {why}. impl='auto' takes {self.choose(args).impl!r}.")
        return self.implementations[impl].run(*args)


OPS: Final[dict[str, Op]] = {}


def explain(name: str, *args: Any) -> Choice:
    """What ``impl="auto"`` takes for an operation, and why each faster implementation refuses.

    Args:
        name: the operation, as in ``longwave.ops``.
        args: tensors that stand for the arguments: their device and dtype decide.

    Returns:
        ``Choice(impl, refused)``; `refused` maps each implementation that was passed over to its reason.

    Raises:
        UnsupportedError: there is no operation of that name.

    Example:
        >>> import torch
        >>> from longwave.ops import explain
        >>> explain("linear_scan", torch.zeros(3), torch.zeros(1, 5, 3)).refused["triton"]
        'linear_scan has no triton kernel yet'
    """
    if name not in OPS:
        raise UnsupportedError(f"there is no operation {name!r}; there are {', '.join(sorted(OPS))}.")
    return OPS[name].choose(args)
