"""``longwave generate FOLDER --prompt TEXT``: what a language model says next, token by token."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from longwave import pretrained
from longwave.cli.parser import Parser
from longwave.errors import CheckpointError, MissingExtraError
from longwave.models import LanguageModel, Sampling

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["run"]

_DESCRIPTION = """Continue a text. What is printed is what comes after the prompt, as it comes: words for a --prompt,
numbers of tokens for --ids. It ends with a token that the model's configuration names, or with --max_new_tokens."""
_DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}


def run(words: list[str]) -> None:
    """Print what the model in a folder, or on the hub, makes of a prompt."""
    parser = _parser()
    asked = parser.parse_args(words)
    if (asked.prompt is None) == (asked.ids is None):
        parser.error("one of --prompt and --ids is required")
    sampling = Sampling(asked.temperature, asked.top_k, asked.top_p, asked.seed)
    folder = pretrained.locate(asked.folder, asked.revision)
    ids, say = (asked.ids, _say_numbers()) if asked.prompt is None else _encoded(_tokenizer(folder), asked.prompt)
    model = LanguageModel.from_pretrained(folder, dtype=None if asked.dtype is None else _DTYPES[asked.dtype])
    prompt = torch.tensor([ids], dtype=torch.int64)
    for token in model.stream(prompt, max_new_tokens=asked.max_new_tokens, sampling=sampling):
        print(say(int(token)), end="", flush=True)
    print()


def _parser() -> Parser:
    parser = Parser(
        prog="longwave generate",
        usage="longwave generate FOLDER --prompt TEXT [options]",
        description=" ".join(_DESCRIPTION.split()),
    )
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        help="a model folder of longwave, mamba_ssm or transformers; or owner/name on the Hugging Face hub, "
        "which is downloaded once",
    )
    parser.add_argument("--prompt", type=str | None, help="the text; the folder's tokenizer.json makes tokens of it")
    parser.add_argument("--ids", type=list[int] | None, help="the prompt as numbers of tokens: [1, 2, 3]")
    parser.add_argument("--max_new_tokens", type=int, default=100, help="at most so many tokens")
    parser.add_argument("--temperature", type=float, default=1.0, help="0 takes the likeliest token, always")
    parser.add_argument("--top_k", type=int | None, help="draw among the so many likeliest tokens")
    parser.add_argument(
        "--top_p", type=float, default=1.0, help="draw among the likeliest tokens that together have this probability"
    )
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same text")
    parser.add_argument("--dtype", choices=list(_DTYPES), help="of the parameters; else that of the files")
    parser.add_argument("--revision", type=str | None, help="a branch, tag or commit on the hub")
    return parser


def _tokenizer(folder: Path) -> Tokenizer:
    """What makes tokens of text, as the folder has it."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise CheckpointError(
            f"{folder} has no tokenizer.json: copy it from where the model was published, or give the prompt as --ids"
        )
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"--prompt needs {error.name}: pip install 'longwave[hub]', or give --ids") from error
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises no narrower class
        raise CheckpointError(f"{file} is damaged ({error}): copy it anew") from error


def _encoded(tokenizer: Tokenizer, prompt: str) -> tuple[list[int], Callable[[int], str]]:
    """The tokens of a text, and what says new ones: a character may need several of them."""
    from tokenizers.decoders import DecodeStream

    pieces = DecodeStream(skip_special_tokens=True)
    return tokenizer.encode(prompt).ids, lambda token: pieces.step(tokenizer, token) or ""


def _say_numbers() -> Callable[[int], str]:
    """What says tokens as numbers, with blanks between them."""
    first = iter(("",))
    return lambda token: f"{next(first, ' ')}{token}"
