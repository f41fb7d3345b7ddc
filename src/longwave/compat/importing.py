"""How `import mamba_ssm` finds this folder: a finder of modules, first in Python's list."""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, final

from longwave.compat.originals import CONTENTS, UNSUPPORTED, VERSIONS
from longwave.errors import ConfigError, UnsupportedError


class UnsupportedImport(ModuleNotFoundError, UnsupportedError):
    """A module of the originals that is not offered here."""


class UnsupportedName(AttributeError, UnsupportedError):
    """A name of a module of the originals that is not offered here."""


@final
class _Originals(MetaPathFinder, Loader):
    """Finds and fills the modules of `CONTENTS`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in CONTENTS:
            return ModuleSpec(fullname, self, origin="longwave.compat", is_package=bool(_children(fullname)))
        package = fullname.partition(".")[0]
        if package not in VERSIONS:
            return None
        why = next((why for name, why in UNSUPPORTED.items() if f"{fullname}.".startswith(f"{name}.")), None)
        raise UnsupportedImport(
            f"{fullname} is not in longwave.compat: {why or f'it has {_listed(_beside(fullname))}'}", name=fullname
        )

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        if name in VERSIONS:
            module.__dict__["__version__"] = VERSIONS[name]
        for file, names in CONTENTS[name].items():
            source = importlib.import_module(f"longwave.compat.{file}")
            module.__dict__.update({public: getattr(source, public) for public in names})
            module.__dict__.setdefault("__file__", source.__file__)  # which "cannot import name" then says
        module.__dict__["__getattr__"] = _refusal(name)
        for child in _children(name):
            importlib.import_module(child)


_FINDER = _Originals()
_replaced: dict[str, ModuleType] = {}


def install(*, replace: bool = False) -> None:
    """Make `import mamba_ssm` and `import causal_conv1d` give longwave's, on every device, from now on.

    What has been imported of them already stays what it is where it was imported. Installing twice does no harm.

    Args:
        replace: take the place of the real packages, if they are there.

    Raises:
        ConfigError: a real package can be imported, and `replace` is False.

    Example:
        >>> install()
        >>> import mamba_ssm
        >>> mamba_ssm.__version__
        '2.3.2.post1+longwave'
        >>> uninstall()
    """
    if _FINDER in sys.meta_path:
        return
    real = [name for name in VERSIONS if _importable(name)]
    if real and not replace:
        raise ConfigError(
            f"{_listed(real)} can be imported, so longwave does not stand in: give install(replace=True), or "
            "python -m longwave.compat --replace, to use longwave's all the same"
        )
    _replaced.update(_forget())
    sys.meta_path.insert(0, _FINDER)


def uninstall() -> None:
    """Undo `install`: what it replaced is imported again. Modules that hold longwave's names keep them.

    Example:
        >>> uninstall()  # where nothing was installed, nothing happens
    """
    if _FINDER not in sys.meta_path:
        return
    sys.meta_path.remove(_FINDER)
    _forget()
    sys.modules.update(_replaced)
    _replaced.clear()


def _importable(name: str) -> bool:
    """Whether a real package of that name is there."""
    return name in sys.modules or any(finder.find_spec(name, None) is not None for finder in sys.meta_path)


def _forget() -> dict[str, ModuleType]:
    """Take the modules of both packages out of Python's table."""
    found = [name for name in sys.modules if name.partition(".")[0] in VERSIONS]
    return {name: sys.modules.pop(name) for name in found}


def _refusal(module: str) -> Any:
    """What a module answers where it has no such name."""

    def __getattr__(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise UnsupportedName(f"longwave.compat has no {module}.{name}; {module} has {_listed(_public(module))}")

    return __getattr__


def _children(name: str) -> list[str]:
    return [path for path in CONTENTS if path.rpartition(".")[0] == name]


def _beside(name: str) -> list[str]:
    """The modules of the nearest package above a name that is there."""
    above = name.rpartition(".")[0]
    while above not in CONTENTS:
        above = above.rpartition(".")[0]
    return _children(above) or [above]


def _public(module: str) -> list[str]:
    return [public for names in CONTENTS[module].values() for public in names] + _children(module)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
