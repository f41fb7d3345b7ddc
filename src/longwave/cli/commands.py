"""The commands, each a module with a function ``run(words)``, which is imported when the command is named."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType

from longwave import __version__
from longwave.cli.parser import Parser, underscored

__all__ = ["COMMANDS", "run"]

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "train": "train a model by a recipe, or go on with a training that was stopped",
        "recipes": "list the recipes",
        "evaluate": "measure the model of a run folder",
        "predict": "write what a trained model says of sequences in a file, as CSV",
        "generate": "continue a text with a language model, of a folder or of the Hugging Face hub",
        "plot": "draw the kernels, the spectrum or the learning curves of a run, or what a HiPPO memory holds",
        "results": "tabulate finished runs as Markdown",
        "demo": "train S4D on sequential MNIST and stream it, beside a random A, with pictures (about 6 minutes)",
        "doctor": "show what this installation can do and check every operation against its reference",
    }
)


def run(words: list[str]) -> None:
    """Run the command that the words of a command line name.

    Args:
        words: what stands after ``longwave``; options are spelt with underscores or dashes.
    """
    words = [underscored(word) for word in words]
    if words and words[0] in COMMANDS:
        importlib.import_module(f"longwave.cli.{words[0]}").run(words[1:])
        return
    parser = Parser(prog="longwave", description="Deep state space sequence models.")
    parser.add_argument("--version", action="version", version=f"longwave {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_choices("command", COMMANDS)
    parser.parse_args(words)
