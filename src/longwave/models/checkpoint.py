"""A model on disk: config.json says what it is, model.safetensors holds its parameters; nothing is pickled."""

import json
import os
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import safetensors
import safetensors.torch
from torch import nn

import longwave
from longwave.errors import CheckpointError, ConfigError
from longwave.shapes import Tensor

FORMAT = 2
CONFIG = "config.json"
WEIGHTS = "model.safetensors"

Config = TypeVar("Config")
Model = TypeVar("Model", bound=nn.Module)
Folder = str | os.PathLike[str]


def save(model: nn.Module, config: Any, folder: Folder) -> Path:
    """Write a model's class name, configuration and parameters, each file whole or not at all.

    Args:
        model: the model; its class name is what `load` asks for.
        config: the dataclass it was built from.
        folder: made if it is not there.

    Returns:
        The folder.

    Raises:
        CheckpointError: the folder cannot be written, or the configuration has no form in JSON.
    """
    folder = Path(folder)
    header = {"format": FORMAT, "longwave": longwave.__version__, "model": type(model).__name__}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    try:
        text = json.dumps({**header, "config": asdict(config)}, indent=2, allow_nan=False) + "\n"
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / WEIGHTS, safetensors.torch.save(tensors))
        write_whole(folder / CONFIG, text)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the configuration cannot be written as JSON: {error}") from error
    except OSError as error:
        raise CheckpointError(f"cannot write the model to {folder}: {error}") from error
    return folder


def load(cls: type[Model], config_type: type[Any], folder: Folder) -> Model:
    """Build a model of class ``cls`` from a folder, in the dtype in which it was saved.

    Args:
        cls: a model class; its argument is a ``config_type``.
        config_type: the dataclass of its configuration.
        folder: what `save` wrote.

    Raises:
        CheckpointError: a file is missing or damaged, it is another model, or a key is missing, unknown or misshapen.
    """
    file = Path(folder) / CONFIG
    name, values = read_config(folder)
    if name != cls.__name__:
        raise CheckpointError(f"{file} describes a {name}, not a {cls.__name__}: load it with longwave.load")
    try:
        model = cls(_parse(config_type, values, "config"))
    except ConfigError as error:
        raise CheckpointError(f"{file}: {error}") from error
    _restore(model, Path(folder) / WEIGHTS)
    return model


def read_config(folder: Folder) -> tuple[str, Any]:
    """Return the name of the model class in a folder, and its configuration as JSON has it.

    Raises:
        CheckpointError: config.json is missing, damaged, or of another format.
    """
    file = Path(folder) / CONFIG
    try:
        header = json.loads(_read(file))
    except ValueError as error:
        raise CheckpointError(f"{file} is not valid JSON ({error}): save the model again") from error
    if not isinstance(header, dict) or not {"format", "model", "config"} <= header.keys():
        raise CheckpointError(f"{file} lacks format, model or config: it is not a model of longwave's")
    if header["format"] not in (1, FORMAT):
        raise CheckpointError(
            f"{file} has format {header['format']!r}, written by longwave {header.get('longwave')}; this is longwave "
            f"{longwave.__version__}, which reads formats 1 and {FORMAT}: install the version that wrote it"
        )
    config = header["config"]
    if header["format"] == 1 and isinstance(config, dict):  # which did not say what the data were
        unknown = ("input_mean", "input_std", "output_mean", "output_std", "classes")
        config = {"data": {name: [] for name in unknown}, **config}
    return str(header["model"]), config


def _restore(model: nn.Module, file: Path) -> None:
    """Put the tensors of a file into a model, if they are exactly those that it has."""
    try:
        found = safetensors.torch.load(_read(file))
    except (safetensors.SafetensorError, ValueError) as error:
        raise CheckpointError(f"{file} is damaged ({error}): copy or save the model again") from error
    expected = model.state_dict()
    faults = [f"{name} is missing" for name in expected if name not in found]
    faults += [f"{name} is unknown" for name in found if name not in expected]
    faults += [
        f"{name} has {_kind(found[name])} instead of {_kind(tensor)}"
        for name, tensor in expected.items()
        if name in found and _kind(found[name]) != _kind(tensor)
    ]
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise CheckpointError(f"{file} does not fit {CONFIG} beside it: {'; '.join(faults[:5])}{more}")
    model.load_state_dict(found, assign=True)


def _kind(tensor: Tensor) -> str:
    """What must be the same for a tensor to fit; its precision need not be."""
    return f"{'floats' if tensor.is_floating_point() else tensor.dtype} of shape {tuple(tensor.shape)}"


def _parse(config_type: type[Config], values: Any, where: str) -> Config:
    """A dataclass from JSON; every field must be there, known, and of its type."""
    if not isinstance(values, dict):
        raise ConfigError(f"{where} is {values!r} instead of an object")
    hints = get_type_hints(config_type)
    known = {field.name for field in fields(config_type)}  # pyright: ignore[reportArgumentType]
    if known != values.keys():
        raise ConfigError(f"{where}: missing {sorted(known - values.keys())}, unknown {sorted(values.keys() - known)}")
    return config_type(**{name: _value(hints[name], value, f"{where}.{name}") for name, value in values.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    """A field's value, if it is of the type that the annotation says."""
    if is_dataclass(hint):
        return _parse(hint, value, where)  # pyright: ignore[reportArgumentType]
    if not _fits(hint, value):
        raise ConfigError(f"{where} is {value!r} instead of {_name(hint)}")
    return value


def _name(hint: Any) -> str:
    """A type in words."""
    return str(hint) if get_origin(hint) else getattr(hint, "__name__", str(hint))


def _fits(hint: Any, value: Any) -> bool:
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(option, value) for option in get_args(hint))
    if get_origin(hint) is list:
        return isinstance(value, list) and all(_fits(get_args(hint)[0], item) for item in value)
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else get_origin(hint) or hint)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {file} ({error.strerror}): give a folder that save() wrote") from error


def write_whole(file: Path, content: str | bytes) -> None:
    """Write a file so that it is there whole or not at all: under another name first, then moved to its place."""
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        with partial.open("rb+") as written:
            os.fsync(written.fileno())  # else a loss of power could leave the name on an empty file
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)
