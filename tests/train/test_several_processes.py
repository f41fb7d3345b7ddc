"""Two processes train as one does on the whole batch: gradients, figures, weights; one of them writes and speaks."""

import subprocess
import sys

import pytest
import several_processes
import torch

import longwave
from longwave.train import Run


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return several_processes.train(1, tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder of a training by two processes, and what both printed."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, several_processes.__file__, "2", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout + done.stderr


def test_gradients_are_those_of_one_process(one, two):
    steps = torch.load(two[0] / "record.pt")["gradients"]
    assert len(steps) == len(one["gradients"]) == 6
    for step, expected in zip(steps, one["gradients"], strict=True):
        for gradient, exact in zip(step, expected, strict=True):
            assert (gradient - exact).abs().max() <= 1e-6 * max(1.0, exact.abs().max().item())


def test_all_processes_end_with_the_same_weights(one, two):
    first, other = (torch.load(two[0] / name)["weights"] for name in ("record.pt", "other.pt"))
    assert all(torch.equal(weight, other[name]) for name, weight in first.items())
    saved = longwave.load(two[0] / "run" / "model").state_dict()
    assert all(torch.equal(weight, saved[name]) for name, weight in first.items())


def test_figures_are_those_of_one_process(one, two):
    rows = Run.read(two[0] / "run").metrics
    assert torch.load(two[0] / "record.pt")["history"] == rows
    assert len(rows) == len(one["history"]) == 2
    for row, expected in zip(rows, one["history"], strict=True):
        assert {**row, "seconds": 0} == pytest.approx({**expected, "seconds": 0}, rel=2e-5)


def test_the_first_process_alone_is_heard(two):
    folder, printed = two
    heard = printed.splitlines()
    logged = (folder / "run" / "log.txt").read_text().splitlines()
    assert len(heard) == len(logged) == 3
    assert [line.split(":  ")[0].split()[-1] for line in heard] == [line.split(":  ")[0].split()[-1] for line in logged]
    assert heard[-1] == "heard: after the training"
    assert len(list((folder / "run" / "tensorboard").iterdir())) == 1
