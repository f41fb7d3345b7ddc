"""The files of a model: what tensors are there is known before they are read, each is read by itself, none executes."""

import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch

from longwave.errors import CheckpointError
from longwave.shapes import Tensor

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
_PICKLED = "pytorch_model.bin"
_LARGEST_JSON = 64 << 20  # bytes: an index of a million tensors

# how safetensors spells a dtype
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class Stored(NamedTuple):
    """A tensor in a file: its name there, its shape and dtype on the meta device, and what reads it in a dtype; what is
    read of a .bin file may share memory."""

    name: str
    like: Tensor
    read: Callable[[torch.dtype], Tensor]


def read_tensors(folder: Path) -> dict[str, Stored]:
    """Find the tensors of a model folder, in one file or in shards that an index lists.

    Args:
        folder: holds model.safetensors or pytorch_model.bin, or the .index.json of one of them; the first is preferred.

    Returns:
        The tensors by name.

    Raises:
        CheckpointError: a file is missing or damaged, holds anything but tensors, or the index and its shards differ.

    Numerics: a tensor of a .safetensors file is in memory once ``read`` returns it, and the file is closed by then. A
        .bin file is read whole, by torch's reader of tensors and plain containers; no code in it runs.
    """
    for name in (WEIGHTS, _PICKLED):
        if (folder / name).exists():
            return read_file(folder / name)
        if (folder / f"{name}.index.json").exists():
            return _sharded(folder / f"{name}.index.json")
    raise CheckpointError(f"{folder} has neither {WEIGHTS} nor {_PICKLED}, whole or with an .index.json: copy it anew")


def read_file(file: Path) -> dict[str, Stored]:
    """Find the tensors of one file; the arguments and errors are those of `read_tensors`."""
    try:
        return _pickled(file) if file.suffix == ".bin" else _plain(file)
    except OSError as error:
        why = error.strerror or "No such file"
        raise CheckpointError(f"cannot read {file} ({why}): give a folder that save() wrote") from error


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        CheckpointError: the file is missing, too large, not JSON, or not an object.
    """
    try:
        if file.stat().st_size > _LARGEST_JSON:
            raise CheckpointError(f"{file} has {file.stat().st_size} bytes: that is no model's description")
        found = json.loads(file.read_bytes())
    except OSError as error:
        raise CheckpointError(f"cannot read {file} ({error.strerror}): give a folder that save() wrote") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not valid JSON ({error}): save the model again") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{file} holds a {type(found).__name__} instead of an object: it is not a model's")
    return found


def write_files(folder: Path, contents: Mapping[str, str | bytes | Mapping[str, Tensor]]) -> None:
    """Write files so that they are all there whole or not at all: under other names first, then moved to their places.

    Args:
        folder: where; it exists.
        contents: text, bytes, or tensors, by the name of the file.
    """
    partials = {folder / name: folder / f"{name}.{os.getpid()}.partial" for name in contents}
    try:
        for partial_, content in zip(partials.values(), contents.values(), strict=True):
            if isinstance(content, Mapping):
                safetensors.torch.save_file(dict(content), partial_, metadata={"format": "pt"})
            else:
                partial_.write_bytes(content.encode() if isinstance(content, str) else content)
            with partial_.open("rb+") as written:
                os.fsync(written.fileno())  # else a loss of power could leave the name on an empty file
        for file, partial_ in partials.items():
            os.replace(partial_, file)
    finally:
        for partial_ in partials.values():
            partial_.unlink(missing_ok=True)


def write_whole(file: Path, content: str | bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    write_files(file.parent, {file.name: content})


def _plain(file: Path) -> dict[str, Stored]:
    """The tensors of a .safetensors file."""
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 (no mapping)
            kinds = {name: (part.get_shape(), part.get_dtype()) for name, part in slices.items()}
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{file} is damaged ({error}): copy or save the model again") from error
    unknown = sorted({dtype for _, dtype in kinds.values()} - _DTYPES.keys())
    if unknown:
        raise CheckpointError(f"{file} holds {', '.join(unknown)}, of which longwave knows nothing: convert the model")
    return {
        name: Stored(name, torch.empty(shape, dtype=_DTYPES[dtype], device="meta"), partial(_read_one, file, name))
        for name, (shape, dtype) in kinds.items()
    }


def _read_one(file: Path, name: str, dtype: torch.dtype) -> Tensor:
    """One tensor: the mapping of the file, whose pages count as ours, ends with this call."""
    with safetensors.safe_open(file, framework="pt") as opened:
        return opened.get_tensor(name).to(dtype, copy=True)


def _pickled(file: Path) -> dict[str, Stored]:
    """The tensors of a .bin file."""
    file.open("rb").close()  # what keeps it from being read is an OSError here, and damage below
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file can make torch's reader raise anything
        why = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"{file} is damaged or holds more than tensors, which is not read ({why})") from error
    tensors = found if isinstance(found, dict) else {}
    if not tensors or not all(isinstance(n, str) and _is_dense(tensor) for n, tensor in tensors.items()):
        raise CheckpointError(f"{file} is no dictionary of dense tensors by name: it is not a model's")
    return {name: Stored(name, tensor.to("meta"), tensor.to) for name, tensor in tensors.items()}


def _is_dense(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized


def _sharded(index: Path) -> dict[str, Stored]:
    """The tensors of the files that an index lists, which must hold what it says and nothing else."""
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise CheckpointError(f"{index} has no weight_map from names of tensors to files: copy it anew")
    suffix = Path(index.name.removesuffix(".index.json")).suffix
    files = sorted(set(places.values()))
    for file in files:
        if Path(file).name != file or Path(file).suffix != suffix:
            raise CheckpointError(f"{index} names the file {file!r}: shards are {suffix} files of the same folder")
    shards = {file: read_file(index.parent / file) for file in files}
    for file, tensors in shards.items():
        listed = {name for name, place in places.items() if place == file}
        faults = [f"{name} is missing" for name in sorted(listed - tensors.keys())]
        faults += [f"{name} is unknown" for name in sorted(tensors.keys() - listed)]
        if faults:
            raise CheckpointError(f"{index.parent / file} does not fit {index.name} beside it: {and_more(faults)}")
    return {name: stored for tensors in shards.values() for name, stored in tensors.items()}


def and_more(faults: list[str]) -> str:
    """The first faults of a list, and how many there are beyond them."""
    more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
    return f"{'; '.join(faults[:5])}{more}"
