"""Files that are truncated, mixed up or hostile are refused with the reason, and nothing in them is executed."""

import json
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from longwave.errors import CheckpointError, MissingExtraError
from longwave.models import BackboneConfig, LanguageModel, LanguageModelConfig

CONFIG = {"d_model": 16, "n_layer": 2, "vocab_size": 9, "pad_vocab_size_multiple": 1, "ssm_cfg": {"d_state": 4}}


def tensors() -> dict[str, torch.Tensor]:
    """Those of a Mamba, by mamba_ssm's names."""
    torch.manual_seed(0)
    backbone = BackboneConfig(d_model=16, n_layers=2, mixer="Mamba", mixer_options={"d_state": 4}, norm="rms")
    found = LanguageModel(LanguageModelConfig(vocab_size=9, backbone=backbone)).state_dict()
    names = {
        "backbone.blocks": "backbone.layers",
        "backbone.norm": "backbone.norm_f",
        "embedding": "backbone.embedding",
    }
    return {next(name.replace(a, b, 1) for a, b in names.items() if name.startswith(a)): t for name, t in found.items()}


def whole(folder: Path) -> None:
    safetensors.torch.save_file(tensors(), folder / "model.safetensors")


def pickled(folder: Path) -> None:
    torch.save(tensors(), folder / "pytorch_model.bin")


def sharded(folder: Path, suffix: str = "safetensors") -> None:
    """Two shards and their index."""
    base = "model" if suffix == "safetensors" else "pytorch_model"
    places, shards = {}, ({}, {})
    for i, (name, tensor) in enumerate(sorted(tensors().items())):
        shards[i % 2][name] = tensor
        places[name] = f"{base}-{i % 2 + 1:05}-of-00002.{suffix}"
    for i, shard in enumerate(shards):
        file = folder / f"{base}-{i + 1:05}-of-00002.{suffix}"
        torch.save(shard, file) if suffix == "bin" else safetensors.torch.save_file(shard, file)
    (folder / f"{base}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def load(folder: Path) -> LanguageModel:
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return LanguageModel.from_pretrained(folder)


@pytest.mark.parametrize("write", [whole, pickled, sharded, lambda folder: sharded(folder, "bin")])
def test_every_form_gives_the_same_tensors(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path)
    found = load(tmp_path)
    assert not found.training
    assert torch.equal(found.embedding.weight, tensors()["backbone.embedding.weight"])
    assert torch.equal(found.backbone.blocks[1].mixer.A_log, tensors()["backbone.layers.1.mixer.A_log"])
    assert all(parameter.requires_grad and parameter.device.type == "cpu" for parameter in found.parameters())


def test_tensors_of_one_file_share_no_memory(tmp_path: Path) -> None:
    shared = tensors()
    shared["backbone.layers.1.mixer.D"] = shared["backbone.layers.0.mixer.D"]
    torch.save(shared, tmp_path / "pytorch_model.bin")
    first, second = (block.mixer.D for block in load(tmp_path).backbone.blocks)
    assert torch.equal(first, second)
    assert first.data_ptr() != second.data_ptr()


def cut(name: str, length: float = 0.6) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(length * len(content))])

    return change


class Hostile:
    """A pickle that, where it is executed, leaves a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.target}",)


def plant(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"backbone.norm_f.weight": Hostile(folder / "owned")}))


def plant_in_archive(folder: Path) -> None:
    torch.save({"backbone.norm_f.weight": Hostile(folder / "owned")}, folder / "pytorch_model.bin")


def header(length: int, content: bytes = b"{}") -> Callable[[Path], None]:
    return lambda folder: (folder / "model.safetensors").write_bytes(struct.pack("<Q", length) + content) and None


INDEX = "model.safetensors.index.json"


def index(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        found = json.loads((folder / INDEX).read_text())
        change(found)
        (folder / INDEX).write_text(json.dumps(found))

    return damage


def place(where: str) -> Callable[[Path], None]:
    return index(lambda found: found["weight_map"].update({"backbone.norm_f.weight": where}))


SHARD = "model-00001-of-00002.safetensors"
OVERLAP = json.dumps(
    {name: {"dtype": "F32", "shape": [4], "data_offsets": at} for name, at in {"a": [0, 16], "b": [8, 24]}.items()}
).encode()
DAMAGES: dict[str, tuple[Callable[[Path], None], Callable[[Path], object], str]] = {
    "no weights": (lambda folder: None, lambda folder: None, "has neither model.safetensors nor pytorch_model.bin"),
    "cut": (whole, cut("model.safetensors"), "model.safetensors is damaged"),
    "cut in the header": (whole, cut("model.safetensors", 0.01), "model.safetensors is damaged"),
    "empty": (whole, cut("model.safetensors", 0), "model.safetensors is damaged"),
    "huge header": (whole, header(2**62), "model.safetensors is damaged"),
    "header beyond the end": (whole, header(10**6), "model.safetensors is damaged"),
    "no JSON in the header": (whole, header(4, b"\xff\xfe{}"), "model.safetensors is damaged"),
    "overlapping tensors": (whole, header(len(OVERLAP), OVERLAP + bytes(24)), "model.safetensors is damaged"),
    "a folder": (lambda folder: (folder / "model.safetensors").mkdir(), lambda folder: None, "cannot read|is damaged"),
    "unknown dtype": (
        lambda folder: safetensors.torch.save_file(
            {"x": torch.zeros(3, dtype=torch.complex64)}, folder / "model.safetensors"
        ),
        lambda folder: None,
        "longwave knows nothing",
    ),
    "cut pickle": (pickled, cut("pytorch_model.bin"), "pytorch_model.bin is damaged or holds more than tensors"),
    "empty pickle": (pickled, cut("pytorch_model.bin", 0), "is damaged or holds more than tensors"),
    "text": (pickled, lambda f: (f / "pytorch_model.bin").write_text("weights"), "is damaged or holds more"),
    "code": (lambda folder: None, plant, "holds more than tensors, which is not read"),
    "code in an archive": (lambda folder: None, plant_in_archive, "holds more than tensors, which is not read"),
    "no dictionary": (
        lambda folder: None,
        lambda f: torch.save([torch.zeros(2)], f / "pytorch_model.bin"),
        "no dictionary of dense tensors",
    ),
    "no tensors": (lambda folder: None, lambda f: torch.save({"a": 3}, f / "pytorch_model.bin"), "no dictionary of"),
    "sparse": (
        lambda folder: None,
        lambda f: torch.save({"a": torch.eye(3).to_sparse()}, f / "pytorch_model.bin"),
        "no dictionary of dense tensors",
    ),
    "path above": (sharded, place("../model.safetensors"), r"names the file '../model.safetensors'"),
    "path from the root": (sharded, place("/etc/model.safetensors"), r"names the file '/etc/model.safetensors'"),
    "path below": (sharded, place("a/model.safetensors"), r"names the file 'a/model.safetensors'"),
    "no file": (sharded, place(""), "names the file ''"),
    "pickle among the shards": (sharded, place("pytorch_model.bin"), "names the file 'pytorch_model.bin'"),
    "shard that is not there": (sharded, place("model-00003-of-00003.safetensors"), "cannot read .*model-00003"),
    "other shard": (sharded, place(SHARD), "does not fit model.safetensors.index.json"),
    "key that is nowhere": (sharded, index(lambda i: i["weight_map"].update(x=SHARD)), f"{SHARD} .* x is missing"),
    "unlisted key": (sharded, index(lambda i: i["weight_map"].popitem()), "does not fit .* is unknown"),
    "cut shard": (sharded, cut(SHARD), f"{SHARD} is damaged"),
    "no map": (sharded, index(lambda i: i.pop("weight_map")), "has no weight_map"),
    "map of numbers": (sharded, index(lambda i: i["weight_map"].update(x=3)), "has no weight_map"),
    "cut index": (sharded, cut(INDEX), "is not valid JSON"),
    "index of index": (sharded, lambda f: (f / INDEX).write_text("[" * 200_000), "is not valid JSON"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_and_hostile_files_are_refused(tmp_path: Path, damage: str) -> None:
    write, change, message = DAMAGES[damage]
    write(tmp_path)
    change(tmp_path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "owned").exists()


CONFIGS = {
    "missing": (None, "cannot read .*config.json"),
    "no JSON": ("{", "not valid JSON"),
    "a list": ("[]", "holds a list instead of an object"),
    "nested": ("[" * 200_000, "not valid JSON"),
    "unknown": ('{"hidden_size": 3}', "neither mamba_ssm, transformers nor longwave"),
    "other model": (
        '{"format": 3, "model": "Classifier", "config": {}}',
        "describes a Classifier, not a LanguageModel",
    ),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_configuration_that_is_none_is_refused(tmp_path: Path, case: str) -> None:
    content, message = CONFIGS[case]
    whole(tmp_path)
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        LanguageModel.from_pretrained(tmp_path)


def test_a_huge_configuration_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(CheckpointError, match="1099511627776 bytes"):
        LanguageModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "/nowhere/at-all", "a/b/c", "../a", "owner/na me"])
def test_a_name_that_is_no_folder_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match="is not a folder: give one, or owner/name"):
        LanguageModel.from_pretrained(name)
    with pytest.raises(CheckpointError, match="is not a folder"):
        LanguageModel.from_pretrained(Path("owner/name"))


@pytest.mark.parametrize("form", [whole, pickled])
def test_the_hub_gives_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Callable[[Path], None]) -> None:
    import huggingface_hub

    calls = []

    def download(name: str, **options: object) -> str:
        calls.append({"name": name, **options})
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    form(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    found = LanguageModel.from_pretrained("state-spaces/mamba-130m", revision="main")
    assert torch.equal(found.embedding.weight, tensors()["backbone.embedding.weight"])
    assert calls[0]["name"] == "state-spaces/mamba-130m"
    assert calls[0]["revision"] == "main"
    assert calls[0]["local_files_only"]  # LONGWAVE_OFFLINE
    assert "*.bin" not in calls[0]["allow_patterns"]  # pickles only where there is nothing else
    assert len(calls) == (1 if form is whole else 2)


def test_a_failing_hub_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def download(name: str, **options: object) -> str:
        raise ConnectionError("no\nnetwork")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(CheckpointError, match="owner/name is no folder, and the hub does not give it: no network"):
        LanguageModel.from_pretrained("owner/name")


def test_without_the_hub_s_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'longwave\[hub\]'"):
        LanguageModel.from_pretrained("owner/name")


MEASURE = """
import re, sys
import torch
from longwave.models import LanguageModel
def peak():  # of this program alone: getrusage would begin with that of the process that started it
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
LanguageModel.from_pretrained(sys.argv[1])  # a small one: what torch imports for its meta device is 70 MB
before = peak()
model = LanguageModel.from_pretrained(sys.argv[2])
print((peak() - before) / sum(p.nbytes for p in model.parameters()))
"""


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_loading_needs_little_more_memory_than_the_weights(tmp_path: Path, form: str) -> None:
    for name, d_model, n_layers in (("small", 8, 1), ("large", 512, 10)):
        backbone = BackboneConfig(d_model=d_model, n_layers=n_layers, mixer="Mamba", norm="rms")
        model = LanguageModel(LanguageModelConfig(vocab_size=5000, backbone=backbone))
        folder = model.save_pretrained(tmp_path / name, format="transformers")
        if form == "bin":
            torch.save(safetensors.torch.load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
            (folder / "model.safetensors").unlink()
    asked = [sys.executable, "-c", MEASURE, str(tmp_path / "small"), str(tmp_path / "large")]
    found = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert 0.9 <= float(found.stdout) <= 1.3
