"""A Sphinx extension: the docstrings of the library, plain text with a few conventions, as reStructuredText.

Indented lines after a paragraph are formulas, and become literal blocks; `name` is a link where the name is public and
code where it is not; "Numerics:", "Source:" and the like begin a paragraph. Characters that mean something to
reStructuredText and nothing in a formula, such as the bars of |x|, are escaped. Napoleon does the rest.
"""

import importlib
import inspect
import re
from types import ModuleType

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

PACKAGES = tuple(
    f"longwave.{name}"
    for name in (
        "errors",
        "math",
        "ops",
        "layers",
        "pretrained",
        "models",
        "data",
        "train",
        "recipes",
        "plots",
        "testing",
    )
)

LABEL = re.compile(r"(Numerics|Source|Not to be confused with):\s*(.*)")
SECTION = re.compile(r"(Args|Returns|Raises|Warns|Attributes|Example|Examples):$")
RAISED = re.compile(r"(\s+)((?:[\w.]+(?:Error|Warning), )*[\w.]+(?:Error|Warning)): (.*)")
# What is left as it is, and single backticks.
MARKUP = re.compile(r"(``.+?``|:[\w:]+:`[^`]+`|(?<!`)`[^`]+`)")


def translate(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Rewrite the lines of one docstring in place."""
    out: list[str] = []
    section = label = literal = example = False
    for line in lines:
        text, indent = line.strip(), len(line) - len(line.lstrip())
        if not text:
            label = example = False
            out.append("")
            continue
        if not indent:
            section, label, literal = bool(SECTION.match(text)), False, False
        example = example or text.startswith(">>>")
        if found := LABEL.match(text) if not indent else None:
            label = True
            colon = "" if found[1].endswith("with") else ":"
            out += ["", f"**{found[1]}{colon}** {_inline(found[2], name)}".rstrip()]
        elif example or literal:
            out.append(line)
        elif label:
            out.append(_inline(text, name))
        elif section and (found := RAISED.match(line)):
            errors = [_public(error, name) or error for error in found[2].split(", ")]
            out += [f"{found[1]}~{error}: {_inline(found[3], name)}" for error in errors]
        elif indent and not section and out and not out[-1]:
            literal = True
            out += ["::", "", line]
        else:
            out.append(_inline(line, name))
    lines[:] = out


def _inline(text: str, name: str) -> str:
    """One line, with links and escapes."""
    parts = MARKUP.split(text)
    for i, part in enumerate(parts):
        if i % 2 == 0:
            parts[i] = re.sub(r"([|*\\])|(?<=\w)(_)(?!\w)", r"\\\g<0>", part)
        else:
            # Markup begins after a space and ends before one, which may be an escaped one, of no width.
            before = "\\ " if parts[i - 1][-1:].strip() else ""
            after = "\\ " if parts[i + 1][:1].strip() else ""
            parts[i] = f"{before}{_linked(part, name)}{after}"
    return "".join(parts)


def _linked(markup: str, name: str) -> str:
    """A name in single backticks as a link or as code; other markup as it is."""
    if not re.fullmatch(r"`[^`]+`", markup):
        return markup
    target = _public(markup.strip("`"), name)
    return f":py:obj:`~{target}`" if target else f"`{markup}`"


def _public(text: str, name: str) -> str | None:
    """The full public name that is meant by `text` in the docstring of `name`."""
    names = _public_names()
    scope = name.split(".")
    for depth in range(len(scope), 0, -1):
        candidate = ".".join([*scope[:depth], text])
        if candidate in names:
            return names[candidate]
    return names.get(text)


def _public_names() -> dict[str, str]:
    """Public names, by every way to write them."""
    if not _names:
        for package in PACKAGES:
            module = importlib.import_module(package)
            for name in _exported(module):
                full = f"{package}.{name}"
                _names.setdefault(name, full)
                _names[full] = full
                value = getattr(module, name)
                if inspect.isclass(value):
                    _names.update(_methods(value, name, full))
    return _names


_names: dict[str, str] = {}


def _exported(module: ModuleType) -> list[str]:
    return getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")])


def _methods(cls: type, short: str, full: str) -> dict[str, str]:
    """The methods that a class defines, and those that it inherits from another public one."""
    found = {}
    for base in cls.__mro__:
        home = _names.get(base.__name__, "") if base is not cls else full
        for method, value in vars(base).items():
            if home and not method.startswith("_") and inspect.isfunction(value) and value.__doc__:
                for written in (f"{short}.{method}", f"{full}.{method}"):
                    found.setdefault(written, f"{home}.{method}")
    return found


def check_complete(app: Sphinx, env: BuildEnvironment) -> None:
    """Every public name must stand in the API reference."""
    documented = env.domains.python_domain.objects
    for package in PACKAGES:
        for name in _exported(importlib.import_module(package)):
            if f"{package}.{name}" not in documented:
                logging.getLogger(__name__).warning("%s.%s is public and not in docs/api", package, name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Translate before Napoleon reads."""
    app.connect("autodoc-process-docstring", translate, priority=400)
    app.connect("env-check-consistency", check_complete)
    return {"parallel_read_safe": True}
