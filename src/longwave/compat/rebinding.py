"""Attributes of modules and classes that give way to others, and come back; and modules that are yet to be imported."""

import re
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, final


@final
class Rebinding:
    """What stands in the place of what."""

    def __init__(self) -> None:
        self._originals: list[tuple[Any, str, object]] = []

    def put(self, owner: ModuleType | type, name: str, replacement: object) -> None:
        """Let ``owner.name`` be another object."""
        self._originals.append((owner, name, vars(owner)[name]))
        setattr(owner, name, replacement)

    def undo(self) -> None:
        """Let everything be what it was, the last first."""
        while self._originals:
            setattr(*self._originals.pop())


@final
class Watch(MetaPathFinder):
    """Calls a function with every module of matching name once it is imported, while this is on ``sys.meta_path``."""

    def __init__(self, pattern: re.Pattern[str], imported: Callable[[ModuleType], None]) -> None:
        self._pattern, self._imported = pattern, imported

    def find_spec(
        self,
        fullname: str,
        path: Any,  # of a namespace package no sequence, whatever the protocol says
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if not self._pattern.fullmatch(fullname):
            return None
        others = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        spec = next(filter(None, (finder.find_spec(fullname, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            # the loader is this module's own
            setattr(spec.loader, "exec_module", self._then_call(spec.loader.exec_module))  # noqa: B010
        return spec

    def _then_call(self, execute: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
        def exec_module(module: ModuleType) -> None:
            execute(module)
            self._imported(module)

        return exec_module
