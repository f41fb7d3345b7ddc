"""Options by name: a misspelt name is answered with the nearest one."""

import difflib
from collections.abc import Mapping
from typing import TypeVar

from longwave.errors import ConfigError

T = TypeVar("T")


def choose(what: str, name: object, choices: Mapping[str, T]) -> T:
    """Return ``choices[name]``, or say which names there are and which of them is nearest.

    Args:
        what: the option in words, for the message, such as ``"mixer"``.
        name: the name that the user gave.
        choices: the values by name.

    Raises:
        ConfigError: there is no such name.

    Example:
        >>> choose("norm", "layr", {"layer": 1, "batch": 2})
        Traceback (most recent call last):
        longwave.errors.ConfigError: unknown norm 'layr' (did you mean 'layer'?): choose from 'layer', 'batch'
    """
    if isinstance(name, str) and name in choices:
        return choices[name]
    near = difflib.get_close_matches(str(name), choices, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise ConfigError(f"unknown {what} {name!r}{hint}: choose from {', '.join(map(repr, choices))}")
