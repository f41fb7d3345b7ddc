"""The run folder: settings in plain YAML, one run per folder, files whole or not at all."""

import json
import logging
import os
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from longwave.errors import ConfigError, RunError
from longwave.pretrained.files import write_whole
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
    settings = {"seed": 0, "optim": OptimConfig(lr=0.5), "names": ("a", "b"), "options": {"init": "legs", "n": 1}}
    Run(tmp_path).open(settings)
    Run(tmp_path).open(settings)
    before = (tmp_path / "config.yaml").read_text()
    with pytest.raises(
        ConfigError, match=r"other settings: optim\.lr 0\.5 → 0\.25, options\.init legs → random; .*--run"
    ):
        Run(tmp_path).open({**settings, "optim": OptimConfig(lr=0.25), "options": {"init": "random", "n": 1}})
    with pytest.raises(ConfigError, match=r"seed 0 → \(none\), names \['a', 'b'\] → \(none\), .* and 1 more"):
        Run(tmp_path).open({"optim": OptimConfig(lr=0.5)})
    assert (tmp_path / "config.yaml").read_text() == before


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        Run(tmp_path / "file" / "run").open({})


def test_a_folder_whose_settings_are_gone_or_damaged(tmp_path):
    run = Run(tmp_path)
    run.open({"seed": 0})
    (tmp_path / "config.yaml").write_text("seed: [")
    with pytest.raises(RunError, match=r"config\.yaml cannot be read .*; restore it"):
        run.open({"seed": 0})
    (tmp_path / "config.yaml").unlink()
    run.state.write_bytes(b"")
    with pytest.raises(RunError, match=r"without its config\.yaml"):
        run.open({"seed": 0})


def test_reading_gives_back_what_was_written(tmp_path):
    run = Run(tmp_path)
    run.open({"seed": 0, "optim": OptimConfig()})
    assert Run.read(tmp_path) == ({"seed": 0, "optim": asdict(OptimConfig())}, [], {})
    rows = [{"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": 1e-30}]
    run.write_metrics(rows)
    run.write_results({"accuracy": 0.5})
    assert Run.read(tmp_path)[1:] == (rows, {"accuracy": 0.5})


@pytest.mark.parametrize(("name", "content"), [("metrics.csv", "epoch,loss\n1,x\n"), ("results.json", "{")])
def test_reading_what_is_no_run_or_damaged(tmp_path, name, content):
    with pytest.raises(RunError, match="is not a run folder"):
        Run.read(tmp_path)
    Run(tmp_path).open({})
    (tmp_path / name).write_text(content)
    with pytest.raises(RunError, match="is damaged"):
        Run.read(tmp_path)


def test_two_processes_do_not_train_in_one_folder(tmp_path):
    run = Run(tmp_path)
    with pytest.raises(RunError, match="open the run with its settings first"), run.lock():
        pass
    run.open({})
    with run.lock(), pytest.raises(RunError, match="another process is training in"), Run(tmp_path).lock():
        pass
    with run.lock():
        pass


def test_what_a_killed_process_left_half_written_is_swept_up(tmp_path):
    run = Run(tmp_path)
    run.open({})
    left = [tmp_path / "metrics.csv.1.partial", run.state.with_name("last.ckpt.1.partial")]
    for file in left:
        file.write_text("half")
    with run.lock():
        assert not any(file.exists() for file in left)


def test_log_is_continued(tmp_path):
    run = Run(tmp_path)
    run.open({})
    for line in ("one", "two"):
        with run.logging():
            logging.getLogger("longwave.test").info(line)
    assert [line.rsplit("  ", 1)[1] for line in (tmp_path / "log.txt").read_text().splitlines()] == ["one", "two"]


def test_of_several_processes_the_first_alone_writes(tmp_path, monkeypatch):
    for number in ("RANK", "NODE_RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.setenv(number, "1")
        run = Run(tmp_path / number)
        run.open({"seed": 0})
        with run.lock(), run.logging():
            logging.getLogger("longwave.test").info("not heard")
        run.write_metrics([{"epoch": 1}])
        run.write_results({})
        assert not run.folder.exists()
        monkeypatch.setenv(number, "0")


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    run = Run(tmp_path)
    run.open({})

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RunError, match=r"cannot be written \(No space left on device\); make room there"):
        run.write_results({})
    with pytest.raises(RunError, match="No space left"):
        run.write_metrics([{"epoch": 1}])


def test_a_log_that_cannot_be_written_is_not_passed_over(tmp_path, monkeypatch):
    run = Run(tmp_path)
    run.open({})

    def full(self, record):
        try:
            raise OSError(28, "No space left on device")
        except OSError:
            self.handleError(record)

    monkeypatch.setattr(logging.FileHandler, "emit", full)
    with pytest.raises(RunError, match="No space left"), run.logging():
        logging.getLogger("longwave.test").info("lost")


def test_results_and_metrics(tmp_path):
    run = Run(tmp_path)
    run.open({})
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
