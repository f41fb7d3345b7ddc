"""The commands on a run folder: figures, predictions and pictures of the model in it."""

import csv
import io
import json
import shlex
import shutil
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

import longwave
from longwave.cli import main
from longwave.cli.results import page
from longwave.cli.settings import settings_of
from longwave.cli.words import command_line
from longwave.layers import MIXERS, LTIMixer
from longwave.models import BackboneConfig, Classifier, ClassifierConfig
from longwave.recipes import load_presets, load_recipe
from longwave.train import Run

SMALL = "--model.d_model 4 --model.n_layers 1 --trainer.accelerator cpu"
PAGE = Path(__file__).parents[2] / "docs"


def train(run: Path, words: str) -> Path:
    assert main(["train", *words.split(), *SMALL.split(), "--run", str(run)]) == 0
    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with data files and runs on them: classes, numbers, numbers at every position."""
    folder = tmp_path_factory.mktemp("runs")
    x = np.random.default_rng(0).normal(size=(24, 30, 2)).astype(np.float32) * 3 + 5
    targets = {"classes": np.array(["no", "yes"] * 12), "numbers": x.mean(1), "positions": x[:, :, :1]}
    np.save(folder / "x.npy", x[:4])
    np.savez(folder / "ragged.npz", x=x[:3], lengths=np.array([30, 2, 5]))
    for name, y in targets.items():
        np.savez(folder / f"{name}.npz", x=x, y=y)
        train(folder / name, f"files --data.path {folder / name}.npz --data.held_out 0.2 --trainer.epochs 2")
    return folder


def table(capsys, *words: object) -> list[dict[str, str]]:
    """The lines of a CSV that a command prints."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 0
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def test_evaluate_repeats_the_results_of_the_run(folder, capsys):
    capsys.readouterr()
    assert main(["evaluate", str(folder / "classes"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    results = json.loads((folder / "classes/results.json").read_text())
    assert {f"{part}_{name}": value for part, figures in said.items() for name, value in figures.items()} == {
        name: value for name, value in results.items() if name.startswith(("test", "held_out"))
    }


@pytest.mark.parametrize("task", ("copying", "delay"))
def test_evaluate_repeats_the_results_of_a_synthetic_task(task, tmp_path, capsys):
    lengths = "--data.memory 4 --data.symbols 3" if task == "copying" else "--data.length 20 --data.lag 2"
    train(tmp_path / "run", f"{task} {lengths} --data.train_samples 4 --data.test_samples 3 --trainer.epochs 1")
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run"), "--json"]) == 0
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert json.loads(capsys.readouterr().out)["test"]["loss"] == results["test_loss"]


def test_evaluate_prints_a_table_of_one_part_at_another_rate(folder, capsys):
    assert main(["evaluate", str(folder / "numbers"), "--part", "train", "--rate", "2"]) == 0
    said = capsys.readouterr().out
    assert "train" in said
    assert "mse" in said
    assert "held out" not in said


def test_evaluate_takes_other_data(folder, capsys):
    assert main(["evaluate", str(folder / "classes"), "--json", "--data.test-share", "0.5"]) == 0
    assert json.loads(capsys.readouterr().out)["test"]["samples"] == 12


def test_predict_names_classes_and_their_probabilities(folder, capsys):
    rows = table(capsys, "predict", folder / "classes", folder / "x.npy")
    assert list(rows[0]) == ["sample", "prediction", "p(no)", "p(yes)"]
    model = longwave.load(folder / "classes/model").eval()
    x = torch.from_numpy(np.load(folder / "x.npy"))
    with torch.no_grad():
        p = model(model.config.data.standardise(x)).softmax(1)
    assert [row["prediction"] for row in rows] == [["no", "yes"][k] for k in p.argmax(1)]
    found = torch.tensor([[float(row["p(no)"]), float(row["p(yes)"])] for row in rows])
    assert (found - p).abs().max() <= 1e-5


def test_predict_needs_only_the_model(folder, capsys, tmp_path):
    expected = table(capsys, "predict", folder / "classes", folder / "x.npy")
    shutil.copytree(folder / "classes/model", tmp_path / "model")
    assert table(capsys, "predict", tmp_path, folder / "x.npy") == expected


def test_predict_writes_numbers_to_a_file(folder, capsys, tmp_path):
    out = tmp_path / "numbers.csv"
    assert table(capsys, "predict", folder / "numbers", folder / "x.npy", "--out", out) == []
    rows = list(csv.reader(io.StringIO(out.read_text())))
    assert rows[0] == ["sample", "output 0", "output 1"]
    assert len(rows) == 5


def test_predict_has_a_line_for_each_position_of_each_sequence(folder, capsys):
    rows = table(capsys, "predict", folder / "positions", folder / "ragged.npz")
    assert [int(row["sample"]) for row in rows] == [0] * 30 + [1] * 2 + [2] * 5
    assert [int(row["position"]) for row in rows] == [*range(30), *range(2), *range(5)]
    assert all(np.isfinite(float(row["output 0"])) for row in rows)


@pytest.mark.parametrize("kind", ["kernels", "spectrum", "curves"])
def test_plot_leaves_a_picture(folder, capsys, tmp_path, kind):
    run = folder / "classes"
    assert main(["plot", kind, str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / f"{kind}.png")
    assert (run / f"{kind}.png").read_bytes().startswith(b"\x89PNG")
    assert main(["plot", kind, str(run), "--out", str(tmp_path / "picture.svg")]) == 0
    assert "<svg" in (tmp_path / "picture.svg").read_text()


@pytest.mark.parametrize("kind", ["kernels", "spectrum"])
@pytest.mark.parametrize("mixer", [name for name, mixer in MIXERS.items() if issubclass(mixer, LTIMixer)])
def test_plot_draws_the_layers_of_every_time_invariant_mixer(tmp_path, mixer, kind):
    backbone = BackboneConfig(d_model=4, n_layers=2, mixer=mixer, mixer_options={"d_state": 4})
    Classifier(ClassifierConfig(d_input=1, n_classes=2, backbone=backbone)).save(tmp_path / "model")
    assert main(["plot", kind, str(tmp_path), "--length", "50"]) == 0
    assert (tmp_path / f"{kind}.png").read_bytes().startswith(b"\x89PNG")


def test_plot_hippo_draws_a_tone_without_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["plot", "hippo", "--measures", "legs,lagt", "--order", "5", "--length", "200"]) == 0
    assert capsys.readouterr().out == "hippo.png\n"
    assert Path("hippo.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("kind", ["npy", "npz", "wav"])
def test_plot_hippo_reads_a_signal(tmp_path, kind):
    file, samples = tmp_path / f"signal.{kind}", np.sin(np.arange(100) / 5)
    if kind == "wav":
        with wave.open(str(file), "wb") as recording:
            recording.setparams((1, 2, 10, 100, "NONE", ""))
            recording.writeframes((samples * 30000).astype("<i2").tobytes())
    elif kind == "npz":
        np.savez(file, x=samples)
    else:
        np.save(file, samples)
    out = tmp_path / "out.svg"
    assert main(["plot", "hippo", str(file), "--measures", "legt", "--theta", "4", "--out", str(out)]) == 0
    drawn = out.read_text()
    assert f"signal.{kind}" in drawn
    assert "the last 4 " in drawn
    assert ("t = 10 s" if kind == "wav" else "t = 100 samples") in drawn


def record(folder: Path, seed: int, accuracy: float, **changed) -> Path:
    """The records of a finished run, as they would be in docs/runs."""
    settings = {
        "recipe": "smnist",
        "data": {"source": "mnist", "permuted": False, "held_out": 0, "test": True, "shift": 1},
        "model": {"mixer": "S4D", "mixer_options": {}, "n_layers": 2, "d_model": 64, "bidirectional": False, **changed},
        "seed": seed,
    }
    results = {"recipe": "smnist", "task": "sequential MNIST", "parameters": 1234, "epochs": 20, "seconds": 6000.0}
    run = Run(folder)
    run.open(settings)
    run.write_results({**results, "held_out_loss": 0.1, "test_loss": 0.1, "test_accuracy": accuracy})
    return folder


def test_results_puts_seeds_together_and_settings_apart(tmp_path):
    runs = [record(tmp_path / f"s4d-{seed}", seed, accuracy) for seed, accuracy in ((0, 0.98), (1, 0.99))]
    runs.append(record(tmp_path / "other", 0, 0.5, mixer_options={"init": "random"}))
    lines = [line for line in page(runs).splitlines() if line.startswith("| sequential MNIST")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[2:6] for row in cells] == [
        ["S4D 2 × 64", "1,234", "98.50 ± 0.71", "0, 1"],
        ["S4D 2 × 64, init=random", "1,234", "50.00", "0"],
    ]
    assert cells[0][6] == "S4 99.63, S5 99.65"
    assert cells[0][7:9] == ["20", "100"]
    assert cells[1][9] == "`longwave train smnist --data.source mnist --model.mixer.init random`"


def test_the_command_of_a_run_gives_its_settings(folder):
    settings = Run.read(folder / "classes").settings
    words = command_line(settings).split()
    assert words[:3] == ["longwave", "train", "files"]
    found = settings_of(load_recipe("files"), words[3:], prog="longwave train files", presets=load_presets("files"))
    assert found["data"].held_out == 0.2
    assert found["trainer"].epochs == 2
    assert found["model"].d_model == 4
    assert "--optim.lr" not in words


@pytest.mark.parametrize("run", sorted((PAGE / "runs").iterdir()), ids=lambda run: run.name)
def test_the_command_of_every_result_is_understood(run):
    settings = Run.read(run).settings
    name, words = settings["recipe"], shlex.split(command_line(settings))[3:]
    found = settings_of(load_recipe(name), words, prog=f"longwave train {name}", presets=load_presets(name))
    assert found["trainer"].epochs == settings["trainer"]["epochs"]
    assert found["model"].mixer_options == settings["model"]["mixer_options"]


def test_longer_parts_come_later(tmp_path):
    run = tmp_path / "run"
    shutil.copytree(PAGE / "runs" / "induction_heads-0", run)
    parts = [line.split(" | ")[1] for line in page([run]).splitlines() if line.startswith("| induction")]
    assert parts == [*(f"length {length}" for length in (64, 1024, 4096, 16384, 65536)), "test"]


def test_the_results_page_is_what_the_records_say():
    runs = sorted(path for path in (PAGE / "runs").glob("*") if path.is_dir())
    assert (PAGE / "results.md").read_text() == page(runs)
