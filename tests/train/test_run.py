"""The run folder: settings in plain YAML, one run per folder, files whole or not at all."""

import json
from pathlib import Path

import pytest
import yaml

from longwave.errors import RunError
from longwave.models.checkpoint import write_whole
from longwave.train import OptimConfig, Run


def test_settings_are_written_as_plain_yaml(tmp_path):
    run = Run(tmp_path / "a" / "b")
    run.open({"optim": OptimConfig(lr=0.5), "seed": 3, "data_root": Path("x"), "options": {"d_state": 4}})
    written = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert written["optim"]["lr"] == 0.5
    assert {name: written[name] for name in ("seed", "data_root", "options")} == {
        "seed": 3,
        "data_root": "x",
        "options": {"d_state": 4},
    }


def test_the_same_settings_open_the_folder_again_and_others_do_not(tmp_path):
    Run(tmp_path).open({"seed": 0})
    Run(tmp_path).open({"seed": 0})
    with pytest.raises(RunError, match="holds a run with other settings; name another folder with --run"):
        Run(tmp_path).open({"seed": 1})


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        Run(tmp_path / "file" / "run").open({})


def test_results_and_metrics(tmp_path):
    run = Run(tmp_path)
    run.write_results({"accuracy": 0.5, "optim": OptimConfig()})
    assert json.loads((tmp_path / "results.json").read_text())["optim"]["lr"] == OptimConfig().lr
    run.write_metrics([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])
    assert (tmp_path / "metrics.csv").read_text() == "epoch,loss\n1,0.5\n2,0.25\n"


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, "old")

    def full(self, content):
        with self.open("wb") as file:
            file.write(content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "new")
    assert path.read_text() == "old"
