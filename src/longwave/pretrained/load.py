"""Published models, read and written: folders, and what the hub has, as values of our configuration and tensors."""

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from longwave.errors import CheckpointError, ConfigError, MissingExtraError, UnsupportedError
from longwave.pretrained.files import CONFIG, WEIGHTS, Stored, read_json, read_tensors, write_files
from longwave.pretrained.formats import mamba_ssm, transformers
from longwave.pretrained.formats.keys import KeyMap
from longwave.shapes import Tensor

_WANTED = (CONFIG, "tokenizer.json")


class Published(NamedTuple):
    """A published language model.

    Args:
        config: the values of a `LanguageModelConfig`, as JSON has them.
        tensors: the parameters by our names.
        spell: our name of a parameter -> the published one.
    """

    config: dict[str, Any]
    tensors: dict[str, Stored]
    spell: Callable[[str], str]


def locate(name: str | os.PathLike[str], revision: str | None = None) -> Path:
    """Return the folder of that name, or of what the Hugging Face hub has under it, downloaded once.

    Args:
        name: a folder, or "owner/name" on the hub.
        revision: a branch, tag or commit on the hub; None is the newest.

    Raises:
        CheckpointError: there is no such folder, or the hub cannot give it; ``$LONGWAVE_OFFLINE`` keeps to what has
            been downloaded.
        MissingExtraError: huggingface_hub is not installed.
    """
    folder = Path(name)
    if folder.is_dir():
        return folder
    if not isinstance(name, str) or not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name):
        raise CheckpointError(f"{folder} is not a folder: give one, or owner/name as the Hugging Face hub has it")
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{name} is no folder, and the hub needs {error.name}: pip install 'longwave[hub]'"
        ) from error
    offline = os.environ.get("LONGWAVE_OFFLINE", "") not in ("", "0")

    def fetch(*patterns: str) -> Path:
        return Path(
            huggingface_hub.snapshot_download(
                name, revision=revision, allow_patterns=[*_WANTED, *patterns], local_files_only=offline
            )
        )

    try:
        folder = fetch("*.safetensors", "*.safetensors.index.json")
        return folder if any(folder.glob("*.safetensors*")) else fetch("*.bin", "*.bin.index.json")
    except Exception as error:  # the hub's own errors, those of its HTTP library and of the system have no common base
        why = " ".join(str(error).split())
        raise CheckpointError(f"{name} is no folder, and the hub does not give it: {why}") from error


def read(folder: Path) -> Published:
    """Read a folder that mamba_ssm or transformers wrote; the tensors stay where they are until they are asked for.

    Args:
        folder: config.json and the weights.

    Raises:
        CheckpointError: a file is missing or damaged, the format is unknown, or the weights have names that it has not.
    """
    file = folder / CONFIG
    config = read_json(file)
    try:
        values, keys = _translated(config)
    except (ConfigError, UnsupportedError, CheckpointError, TypeError, AttributeError, KeyError) as error:
        raise CheckpointError(f"{file}: {error}") from error  # plain errors: a value of the wrong type
    tensors = _renamed(read_tensors(folder), keys, folder)
    if values["tied"]:
        _untie(tensors, folder)
    return Published(values, tensors, lambda name: keys.theirs(name) or name)


def write(folder: str | os.PathLike[str], config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    """Write a model as transformers reads it, each file whole or not at all.

    Args:
        folder: made if it is not there.
        config: the values of a `LanguageModelConfig`.
        tensors: the parameters by our names.

    Raises:
        UnsupportedError: transformers has no such language model.
        CheckpointError: the folder cannot be written.
    """
    described = transformers.write_config(config, tensors)
    keys = transformers.family_of(described).keys
    renamed = {keys.theirs(name) or name: tensor for name, tensor in tensors.items()}
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_files(folder, {WEIGHTS: renamed, CONFIG: json.dumps(described, indent=2) + "\n"})
    except OSError as error:
        raise CheckpointError(f"cannot write the model to {folder}: {error}") from error
    return folder


def _translated(config: Mapping[str, Any]) -> tuple[dict[str, Any], KeyMap]:
    """The values of our configuration, and the names of the tensors."""
    if "model_type" in config:
        return transformers.read_config(config), transformers.family_of(config).keys
    if mamba_ssm.recognises(config):
        return mamba_ssm.read_config(config), mamba_ssm.KEYS
    raise CheckpointError("neither mamba_ssm, transformers nor longwave describes a model so")


def _renamed(tensors: Mapping[str, Stored], keys: KeyMap, folder: Path) -> dict[str, Stored]:
    """The tensors by our names; an unknown one stands under its own, for the model to refuse."""
    renamed: dict[str, Stored] = {}
    for name, stored in tensors.items():
        ours = keys.ours(name) or f"{name} (unknown)"
        if ours in renamed:
            raise CheckpointError(f"{folder} holds the same parameter as {renamed[ours].name} and as {name}")
        renamed[ours] = stored
    return renamed


def _untie(tensors: dict[str, Stored], folder: Path) -> None:
    """Drop a head that repeats the embedding, as files of tied models may have it."""
    head, embedding = tensors.pop("head.weight", None), tensors.get("embedding.weight")
    if head is None or embedding is None:
        return
    if not torch.equal(head.read(head.like.dtype), embedding.read(embedding.like.dtype)):
        raise CheckpointError(
            f"{folder}: {head.name} differs from {embedding.name}, but {CONFIG} says that they are tied"
        )
