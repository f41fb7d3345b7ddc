"""A model on disk: config.json says what it is, model.safetensors holds its parameters; nothing is pickled."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from torch import nn

import longwave
from longwave.errors import CheckpointError, ConfigError
from longwave.pretrained.files import CONFIG, WEIGHTS, Stored, and_more, read_file, read_json, write_files
from longwave.shapes import Tensor

FORMAT = 3
# What older formats did not say, and what it was.
_ADDED = {"feedforward_options": {}, "norm_eps": 1e-5, "residual_in_float32": False}

Config = TypeVar("Config")
Model = TypeVar("Model", bound=nn.Module)
Folder = str | os.PathLike[str]


def save(model: nn.Module, config: Any, folder: Folder) -> Path:
    """Write a model's class name, configuration and parameters, the files whole or not at all.

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
    try:
        text = json.dumps({**header, "config": asdict(config)}, indent=2, allow_nan=False) + "\n"
        folder.mkdir(parents=True, exist_ok=True)
        write_files(folder, {WEIGHTS: plain_tensors(model), CONFIG: text})
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
    config, tensors = read(cls, config_type, folder)
    try:
        model = cls(config)
    except ConfigError as error:
        raise CheckpointError(f"{Path(folder) / CONFIG}: {error}") from error
    restore(model, tensors, Path(folder) / WEIGHTS)
    return model


def read(cls: type[nn.Module], config_type: type[Config], folder: Folder) -> tuple[Config, dict[str, Stored]]:
    """Return the configuration and the tensors in a folder; the arguments and errors are those of `load`."""
    file = Path(folder) / CONFIG
    name, values = read_config(folder)
    if name != cls.__name__:
        raise CheckpointError(f"{file} describes a {name}, not a {cls.__name__}: load it with longwave.load")
    try:
        config = parse(config_type, values)
    except ConfigError as error:
        raise CheckpointError(f"{file}: {error}") from error
    return config, read_file(Path(folder) / WEIGHTS)


def is_ours(folder: Folder) -> bool:
    """Whether `save` wrote the config.json in a folder, and not somebody else."""
    return {"format", "model", "config"} <= read_json(Path(folder) / CONFIG).keys()


def read_config(folder: Folder) -> tuple[str, Any]:
    """Return the name of the model class in a folder, and its configuration as JSON has it.

    Raises:
        CheckpointError: config.json is missing, damaged, or of another format.
    """
    file = Path(folder) / CONFIG
    header = read_json(file)
    if not is_ours(folder):
        raise CheckpointError(
            f"{file} lacks format, model or config: longwave did not save it; LanguageModel.from_pretrained reads the "
            "language models of others"
        )
    if header["format"] not in range(1, FORMAT + 1):
        raise CheckpointError(
            f"{file} has format {header['format']!r}, written by longwave {header.get('longwave')}; this is longwave "
            f"{longwave.__version__}, which reads formats 1 to {FORMAT}: install the version that wrote it"
        )
    config = header["config"]
    if isinstance(config, dict):
        config = _upgraded(config, header["format"])
    return str(header["model"]), config


def _as_stored(name: str, dtype: torch.dtype) -> torch.dtype:
    """The dtype of a tensor as its file has it."""
    return dtype


def restore(
    model: nn.Module,
    tensors: dict[str, Stored],
    where: Path,
    *,
    spell: Callable[[str], str] = str,
    dtype: Callable[[str, torch.dtype], torch.dtype] = _as_stored,
) -> None:
    """Read tensors into a model, if they are exactly those that it has, one after the other.

    Args:
        model: may be on the meta device; it is on the CPU afterwards.
        tensors: by the model's names; emptied, so that none is there twice.
        where: what they come from, for messages.
        spell: the model's name of a tensor -> the name that it should have there.
        dtype: name and dtype of a floating-point tensor -> the dtype to have it in.

    Raises:
        CheckpointError: a tensor is missing, unknown or misshapen.
    """
    expected = model.state_dict()
    faults = [f"{spell(name)} is missing" for name in expected if name not in tensors]
    faults += [f"{stored.name} is unknown" for name, stored in tensors.items() if name not in expected]
    faults += [
        f"{tensors[name].name} has {_kind(tensors[name].like)} instead of {_kind(tensor)}"
        for name, tensor in expected.items()
        if name in tensors and _kind(tensors[name].like) != _kind(tensor)
    ]
    if faults:
        raise CheckpointError(f"{where} does not fit {CONFIG} beside it: {and_more(faults)}")
    owned: set[int] = set()
    for name in expected:
        stored = tensors.pop(name)
        kind = stored.like.dtype
        new = _alone(stored.read(dtype(name, kind) if kind.is_floating_point else kind), owned)
        owner, _, leaf = name.rpartition(".")
        module = model.get_submodule(owner)
        old = getattr(module, leaf)
        setattr(module, leaf, nn.Parameter(new, old.requires_grad) if leaf in module._parameters else new)


def _alone(tensor: Tensor, owned: set[int]) -> Tensor:
    """A tensor that has all of its storage, and that no other has: a copy, if it must be."""
    tensor = tensor.contiguous()
    storage = tensor.untyped_storage()
    if storage.nbytes() != tensor.nbytes or storage.data_ptr() in owned:
        return tensor.clone()
    owned.add(storage.data_ptr())
    return tensor


def plain_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of a model by name, as files hold them."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}


def _upgraded(config: dict[str, Any], format: int) -> dict[str, Any]:
    """A configuration of an older format, with what it did not say."""
    if format < 2:  # which did not say what the data were
        unknown = ("input_mean", "input_std", "output_mean", "output_std", "classes")
        config = {"data": {name: [] for name in unknown}, **config}
    if format < 3 and isinstance(config.get("backbone"), dict):
        config = {**config, "backbone": {**_ADDED, **config["backbone"]}}
    return config


def _kind(tensor: Tensor) -> str:
    """What must be the same for a tensor to fit; its precision need not be."""
    return f"{'floats' if tensor.is_floating_point() else tensor.dtype} of shape {tuple(tensor.shape)}"


def parse(config_type: type[Config], values: Any, *, defaults: bool = False, where: str = "config") -> Config:
    """Make a dataclass of what JSON has.

    Args:
        config_type: the dataclass; its fields may be dataclasses.
        values: an object with exactly its fields, each of its type.
        defaults: whether fields may be absent that have a default.
        where: what is read, for messages.

    Raises:
        ConfigError: a field is missing, unknown, or of another type.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{where} is {values!r} instead of an object")
    hints = get_type_hints(config_type)
    known = {field.name for field in fields(config_type)}  # pyright: ignore[reportArgumentType]
    missing, unknown = known - values.keys(), values.keys() - known
    if unknown or (missing and not defaults):
        raise ConfigError(f"{where}: missing {sorted(missing)}, unknown {sorted(unknown)}")
    read = {name: _value(hints[name], value, defaults, f"{where}.{name}") for name, value in values.items()}
    return config_type(**read)


def _value(hint: Any, value: Any, defaults: bool, where: str) -> Any:
    """A field's value, if it is of the type that the annotation says."""
    if is_dataclass(hint):
        return parse(hint, value, defaults=defaults, where=where)  # pyright: ignore[reportArgumentType]
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
