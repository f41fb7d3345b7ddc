"""``longwave plot KIND ...``: pictures of runs and of memories."""

from __future__ import annotations

import importlib

from longwave.cli.parser import Parser

__all__ = ["run"]

# kind -> the module that draws it, imported when the kind is named, and what it draws
_KINDS = {
    "kernels": ("plot_run", "the convolution kernels of each layer of a run"),
    "spectrum": ("plot_run", "the eigenvalues of each layer of a run: how long they remember, how fast they oscillate"),
    "curves": ("plot_run", "loss, metrics and learning rate of a run by epoch"),
    "hippo": ("plot_hippo", "a signal, and what HiPPO memories hold of it under each measure"),
}


def run(words: list[str]) -> None:
    """Draw one picture, and print the name of its file."""
    if words and words[0] in _KINDS:
        module, described = _KINDS[words[0]]
        importlib.import_module(f"longwave.cli.{module}").run(words[0], described, words[1:])
        return
    parser = Parser(prog="longwave plot", description="Draw a picture of a run, or of what a memory holds.")
    parser.add_choices("kind", {kind: described for kind, (_, described) in _KINDS.items()})
    parser.parse_args(words)
