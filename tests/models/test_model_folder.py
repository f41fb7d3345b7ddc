"""A model folder: written whole, read back exactly, and refused with the reason when it is damaged."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

import longwave
from longwave.errors import CheckpointError
from longwave.models import (
    BackboneConfig,
    Classifier,
    ClassifierConfig,
    DataConfig,
    Head,
    Regressor,
    RegressorConfig,
    SequenceModel,
    SequenceModelConfig,
    load,
)

BACKBONE = BackboneConfig(d_model=4, n_layers=2, mixer_options={"d_state": 4}, norm="batch")
DATA = DataConfig(input_mean=[0.5, -3.0], input_std=[2.0, 1e-3], classes=["yes", "no", "pêut-être"])
HEADS = (
    Classifier(ClassifierConfig(d_input=2, n_classes=3, backbone=BACKBONE, data=DATA)),
    Regressor(RegressorConfig(d_input=2, n_outputs=3, pooling="last", backbone=BACKBONE)),
    SequenceModel(SequenceModelConfig(d_input=2, d_output=3, backbone=BACKBONE, data=DATA)),
)
# What longwave 0.1.0 wrote before config.json said what the data were.
FORMAT_1 = """{"format": 1, "longwave": "0.1.0", "model": "Classifier", "config": {"d_input": 2, "n_classes": 3,
    "pooling": "mean", "backbone": {"d_model": 4, "n_layers": 2, "mixer": "S4D", "mixer_options": {"d_state": 4},
    "norm": "batch", "prenorm": true, "dropout": 0.0, "feedforward": null, "bidirectional": false}}}"""


def model(backbone: BackboneConfig = BACKBONE) -> Classifier:
    torch.manual_seed(0)
    model = Classifier(ClassifierConfig(d_input=2, n_classes=3, backbone=backbone))
    model(torch.randn(2, 9, 2))
    return model.eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_round_trip_is_exact(tmp_path: Path, dtype: torch.dtype) -> None:
    saved, x = model().to(dtype), torch.randn(2, 20, 2, dtype=dtype)
    folder = saved.save(tmp_path / "new" / "folder")
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "model.safetensors"]
    for loaded in (load(folder), longwave.load(str(folder)), Classifier.load(folder)):
        assert loaded.config == saved.config
        assert loaded.training
        assert all(p.requires_grad for p in loaded.parameters())
        assert torch.equal(loaded.eval()(x), saved(x))


@pytest.mark.parametrize("saved", HEADS, ids=lambda head: type(head).__name__)
def test_every_model_and_what_its_data_were_survive(tmp_path: Path, saved: Head) -> None:
    folder, x = saved.eval().save(tmp_path), torch.randn(2, 20, 2)
    for loaded in (load(folder), type(saved).load(folder)):
        assert type(loaded) is type(saved)
        assert loaded.config == saved.config
        assert torch.equal(loaded.eval()(x), saved(x))
    other = next(head for head in HEADS if type(head) is not type(saved))
    with pytest.raises(CheckpointError, match=f"describes a {type(saved).__name__}, not a {type(other).__name__}"):
        type(other).load(folder)


def test_a_folder_of_format_1_is_read(tmp_path: Path) -> None:
    saved, x = model(), torch.randn(2, 20, 2)
    saved.save(tmp_path)
    (tmp_path / "config.json").write_text(FORMAT_1)
    loaded = load(tmp_path)
    assert loaded.config == saved.config
    assert loaded.config.data == DataConfig()
    assert torch.equal(loaded.eval()(x), saved(x))


def test_a_folder_of_format_2_is_read(tmp_path: Path) -> None:
    saved = model()
    saved.save(tmp_path)

    def as_before(header: dict) -> None:
        header["format"] = 2
        for name in ("feedforward_options", "norm_eps", "residual_in_float32"):
            del header["config"]["backbone"][name]

    edit_config(as_before)(tmp_path)
    assert load(tmp_path).config == saved.config


def test_every_option_of_a_backbone_survives(tmp_path: Path) -> None:
    backbone = BackboneConfig(
        6,
        1,
        "LRU",
        {"d_state": 3, "r_min": 0.5, "output": None},
        "rms",
        False,
        0.25,
        "glu",
        True,
        {"d_hidden": 5},
        1e-3,
    )
    assert load(model(backbone).save(tmp_path)).config.backbone == backbone


def test_saving_again_replaces(tmp_path: Path) -> None:
    files = [model().save(tmp_path) / name for name in ("config.json", "model.safetensors")]
    before = [file.stat().st_ino for file in files]
    second = model(BackboneConfig(d_model=6, n_layers=1)).save(tmp_path)
    assert load(second).config.backbone.d_model == 6
    # New files in the place of the old ones: whoever is reading those reads them to the end.
    assert not any(file.stat().st_ino == inode for file, inode in zip(files, before, strict=True))


def test_loaded_models_train_on(tmp_path: Path) -> None:
    loaded = load(model().save(tmp_path))
    optimizer = torch.optim.AdamW(loaded.parameters())
    loaded(torch.randn(2, 9, 2)).sum().backward()
    optimizer.step()
    (tmp_path / "model.safetensors").write_bytes(b"")  # nothing of the model is still in the file
    assert loaded(torch.randn(2, 9, 2)).isfinite().all()


def edit_config(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        header = json.loads((folder / "config.json").read_text())
        change(header)
        (folder / "config.json").write_text(json.dumps(header))

    return damage


def edit_weights(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tensors = safetensors.torch.load_file(folder / "model.safetensors")
        change(tensors)
        safetensors.torch.save_file(tensors, folder / "model.safetensors")

    return damage


def truncate(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return damage


D = "backbone.blocks.0.mixer.D"
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda folder: (folder / "config.json").unlink(), r"cannot read .*config.json .No such file"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), r"cannot read .*model.safetensors"),
    "half a config": (truncate("config.json"), r"config.json is not valid JSON"),
    "half the weights": (truncate("model.safetensors"), r"model.safetensors is damaged"),
    "no weights in it": (lambda folder: (folder / "model.safetensors").write_bytes(b""), r"is damaged"),
    "binary config": (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe"), r"is not valid JSON"),
    "other JSON": (lambda folder: (folder / "config.json").write_text("[1]"), r"holds a list instead of an object"),
    "other object": (edit_config(lambda c: c.pop("model")), r"lacks format, model or config"),
    "newer format": (edit_config(lambda c: c.update(format=4)), r"has format 4, .*reads formats 1 to 3"),
    "no format": (edit_config(lambda c: c.update(format=None)), r"has format None"),
    "unknown model": (edit_config(lambda c: c.update(model="Clasifier")), r"did you mean 'Classifier'"),
    "unknown mixer": (edit_config(lambda c: c["config"]["backbone"].update(mixer="LRUU")), r"did you mean 'LRU'"),
    "unknown option": (
        edit_config(lambda c: c["config"]["backbone"]["mixer_options"].update(dstate=3)),
        r"config.json: unknown option of S4D 'dstate' .did you mean 'd_state'",
    ),
    "unknown field": (
        edit_config(lambda c: c["config"].update(colour=1)),
        r"config: missing \[\], unknown \['colour'\]",
    ),
    "missing field": (
        edit_config(lambda c: c["config"]["backbone"].pop("norm")),
        r"config.backbone: missing \['norm'\]",
    ),
    "wrong type": (edit_config(lambda c: c["config"].update(n_classes="3")), r"config.n_classes is '3' instead of int"),
    "bool for int": (edit_config(lambda c: c["config"].update(n_classes=True)), r"n_classes is True instead of int"),
    "wrong item": (
        edit_config(lambda c: c["config"]["data"].update(input_mean=[0.5, "1"])),
        r"config.data.input_mean is \[0.5, '1'\] instead of list\[float\]",
    ),
    "wrong count": (
        edit_config(lambda c: c["config"]["data"].update(classes=["a"])),
        r"config.json: data.classes has 1 names, but the model has 3 classes",
    ),
    "no object": (edit_config(lambda c: c["config"].update(backbone=3)), r"config.backbone is 3 instead of an object"),
    "missing key": (edit_weights(lambda t: t.pop(D)), rf"does not fit config.json beside it: {D} is missing"),
    "unknown key": (edit_weights(lambda t: t.update(extra=t[D].clone())), r"extra is unknown"),
    "misshapen key": (
        edit_weights(lambda t: t.update({D: torch.zeros(5)})),
        rf"{D} has floats of shape \(5,\) instead of floats of shape \(4,\)",
    ),
    "integers for floats": (
        edit_weights(lambda t: t.update({D: torch.zeros(4, dtype=torch.int64)})),
        rf"{D} has torch.int64 of shape \(4,\) instead of floats",
    ),
    "many keys": (edit_weights(lambda t: t.clear() or t.update(x=torch.zeros(1))), r"is missing; .* and \d+ more"),
    "another size": (edit_config(lambda c: c["config"]["backbone"].update(d_model=5)), r"encoder.weight has floats"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_refused_with_the_reason(tmp_path: Path, damage: str) -> None:
    folder = model().save(tmp_path)
    change, message = DAMAGES[damage]
    change(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write the model to"):
        model().save(tmp_path / "file")


def test_a_failed_save_leaves_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, x = model().save(tmp_path), torch.randn(2, 20, 2)
    expected = load(folder).eval()(x)

    def interrupted(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(CheckpointError, match="No space left"):
        model(BackboneConfig(d_model=8)).save(folder)
    monkeypatch.undo()
    assert torch.equal(load(folder).eval()(x), expected)
    assert len(list(folder.iterdir())) == 2


def test_a_configuration_without_a_form_in_json_is_refused(tmp_path: Path) -> None:
    unusual = model(BackboneConfig(d_model=4, mixer_options={"dt_max": 1.0}))
    unusual.config.backbone.mixer_options["dt_max"] = torch.tensor(1.0)
    with pytest.raises(CheckpointError, match="cannot be written as JSON"):
        unusual.save(tmp_path)
    assert not list(tmp_path.iterdir())
