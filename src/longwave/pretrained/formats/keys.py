"""Names of tensors, in a published format and here: one table read in both directions."""

import re
from collections.abc import Mapping
from typing import final


@final
class KeyMap:
    """Pairs of patterns, published → ours, in which {i} is the number of a layer and a last * the rest of the name.

    Args:
        pairs: the patterns. Of several published names for the same one of ours, the first is that which is written.

    Example:
        >>> keys = KeyMap({"layers.{i}.mixer.*": "backbone.blocks.{i}.mixer.*"})
        >>> keys.ours("layers.3.mixer.D"), keys.theirs("backbone.blocks.3.mixer.D")
        ('backbone.blocks.3.mixer.D', 'layers.3.mixer.D')
    """

    def __init__(self, pairs: Mapping[str, str]) -> None:
        self._ours = [(_expression(theirs), ours) for theirs, ours in pairs.items()]
        self._theirs = [(_expression(ours), theirs) for theirs, ours in pairs.items()]

    def ours(self, name: str) -> str | None:
        """Return our name for a published one; None: the format has no such tensor."""
        return _translated(name, self._ours)

    def theirs(self, name: str) -> str | None:
        """Return the published name for one of ours; None: the format has no such tensor."""
        return _translated(name, self._theirs)


def _expression(pattern: str) -> re.Pattern[str]:
    """The regular expression of a pattern."""
    return re.compile(re.escape(pattern).replace(r"\{i\}", r"(?P<i>0|[1-9]\d*)").replace(r"\*", r"(?P<rest>.+)"))


def _translated(name: str, pairs: list[tuple[re.Pattern[str], str]]) -> str | None:
    for expression, other in pairs:
        if match := expression.fullmatch(name):
            found = match.groupdict()
            return other.replace("{i}", found.get("i", "")).replace("*", found.get("rest", ""))
    return None
