"""A killed training that is started again ends bit by bit where an uninterrupted one does; damage is named."""

import itertools
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import small_run
import torch
from small_run import BATCHES, Killed, train

import longwave
from longwave.errors import ConfigError, RunError
from longwave.train import Run, TrainerConfig, resume

OFTEN = 1e-9  # minutes: after every batch
SETTINGS = {
    "cosine": {},
    "plateau, best": {"schedule": "plateau", "plateau_patience": 0, "best": True},
    "constant, accumulated": {"schedule": "constant", "gradient_accumulation": 3},
    "best accuracy, early stop": {"monitor": "accuracy", "best": True, "early_stopping": 2, "epochs": 6},
}


def die():
    raise Killed


def outcome(folder: Path) -> dict[str, object]:
    """All that a run must end with, however often it was interrupted: bytes, and metrics but for the seconds."""
    rows = [{**row, "seconds": 0} for row in Run.read(folder).metrics]
    files = ("config.yaml", "results.json", "model/model.safetensors", "model/config.json")
    return {"metrics.csv": rows, **{name: (folder / name).read_bytes() for name in files}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The outcome of an uninterrupted run, by settings and minutes."""
    found = {}

    def run(name: str, minutes: float):
        if (name, minutes) not in found:
            folder = tmp_path_factory.mktemp("whole")
            train(folder, minutes=minutes, **SETTINGS[name])
            found[name, minutes] = outcome(folder)
        return found[name, minutes]

    return run


def test_sigkill_in_the_middle_of_an_epoch(tmp_path, whole):
    folders = {minutes: tmp_path / str(minutes) for minutes in (0.0, OFTEN)}
    killed = [
        subprocess.Popen([sys.executable, small_run.__file__, str(folder), str(BATCHES + 4), str(minutes)])
        for minutes, folder in folders.items()
    ]
    assert [process.wait(timeout=120) for process in killed] == [-signal.SIGKILL, -signal.SIGKILL]
    for minutes, folder in folders.items():
        assert len(Run.read(folder).metrics) == 1
        train(folder, minutes=minutes)
        assert outcome(folder) == whole("cosine", minutes)


@pytest.mark.parametrize(
    ("name", "minutes", "batch"),
    [("cosine", OFTEN, batch) for batch in (3, BATCHES, BATCHES + 1, 3 * BATCHES)]
    + [(name, minutes, BATCHES + 6) for name in SETTINGS for minutes in (0.0, OFTEN)],
)
def test_a_run_that_died_at_any_batch(tmp_path, whole, name, minutes, batch):
    with pytest.raises(Killed):
        train(tmp_path, at_batch=batch, die=die, minutes=minutes, **SETTINGS[name])
    train(tmp_path, minutes=minutes, **SETTINGS[name])
    assert outcome(tmp_path) == whole(name, minutes)


def test_a_run_that_died_again_and_again(tmp_path, whole):
    for batch in (2, 4, 9, 3):
        with pytest.raises(Killed):
            train(tmp_path, at_batch=batch, die=die, minutes=OFTEN)
    train(tmp_path, minutes=OFTEN)
    assert outcome(tmp_path) == whole("cosine", OFTEN)


@pytest.mark.parametrize("name", ["plateau, best", "best accuracy, early stop"])
def test_a_run_that_died_after_its_last_epoch(tmp_path, whole, name, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(longwave.Classifier, "save", lambda model, folder: die())
        with pytest.raises(Killed):
            train(tmp_path, **SETTINGS[name])
    train(tmp_path, at_batch=1, die=die, **SETTINGS[name])
    assert outcome(tmp_path) == whole(name, 0.0)


def test_settings_without_a_state_begin_anew(tmp_path, whole):
    with pytest.raises(Killed):
        train(tmp_path, at_batch=1, die=die)
    assert not Run(tmp_path).state.exists()
    train(tmp_path)
    assert outcome(tmp_path) == whole("cosine", 0.0)


def test_a_finished_run_is_not_trained_again(tmp_path):
    model, history = train(tmp_path)
    before = outcome(tmp_path)
    again, same = train(tmp_path, at_batch=1, die=die)
    assert same == history
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in model.state_dict().items())
    assert not again.training
    assert outcome(tmp_path) == before
    assert "is finished: its model and its history are taken as they are" in (tmp_path / "log.txt").read_text()
    with pytest.raises(ConfigError, match=r"other settings: trainer\.epochs 3 → 4;"):
        train(tmp_path, epochs=4)


def test_the_log_and_the_curves_go_on(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with pytest.raises(Killed):
        train(tmp_path, at_batch=2 * BATCHES + 2, die=die)
    train(tmp_path)
    log = (tmp_path / "log.txt").read_text()
    assert [f"epoch  {epoch}/3" in log for epoch in (1, 2, 3)] == [True] * 3
    assert f"going on from {Run(tmp_path).state}" in log
    curves = EventAccumulator(str(Run(tmp_path).tensorboard)).Reload()
    rows = Run.read(tmp_path).metrics
    for name in ("train_loss", "held_out_accuracy", "lr"):
        assert [point.step for point in curves.Scalars(name)] == [row["step"] for row in rows]
        assert [point.value for point in curves.Scalars(name)] == pytest.approx([row[name] for row in rows])


@pytest.fixture
def interrupted(tmp_path) -> Run:
    """A run that died in its second epoch."""
    with pytest.raises(Killed):
        train(tmp_path, at_batch=BATCHES + 2, die=die)
    return Run(tmp_path)


REMEDY = r"last\.ckpt .*: delete it, and the same command starts from the beginning$"


@pytest.mark.parametrize("kept", [0, 1, 1000, -1])
def test_a_truncated_state_is_named(interrupted, kept):
    interrupted.state.write_bytes(interrupted.state.read_bytes()[:kept])
    with pytest.raises(RunError, match=REMEDY) as caught:
        train(interrupted.folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"garbage" * 100, pickle.dumps({"a": 1})])
def test_what_is_no_state_is_named(interrupted, content):
    interrupted.state.write_bytes(content)
    with pytest.raises(RunError, match=REMEDY):
        train(interrupted.folder)


def test_another_dictionary_is_no_state(interrupted):
    torch.save({"state_dict": {}}, interrupted.state)
    with pytest.raises(RunError, match=r"is not the state of a training, it lacks \['callbacks'"):
        train(interrupted.folder)


class Malicious:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_code_in_a_state_is_not_run(interrupted):
    trace = interrupted.folder / "trace"
    state = torch.load(interrupted.state, weights_only=True)
    torch.save({**state, "extra": Malicious(trace)}, interrupted.state)
    with pytest.raises(RunError, match=REMEDY):
        train(interrupted.folder)
    interrupted.state.write_bytes(pickle.dumps(Malicious(trace)))
    with pytest.raises(RunError, match=REMEDY):
        train(interrupted.folder)
    assert not trace.exists()


def test_a_full_disk_leaves_the_last_state(interrupted, monkeypatch, whole):
    before = interrupted.state.read_bytes()
    replace = os.replace

    def full(source, target):
        if "last.ckpt" in str(target):
            raise OSError(28, "No space left on device")
        return replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(RunError, match=r"No space left on device\); make room there"):
            train(interrupted.folder)
    assert interrupted.state.read_bytes() == before
    assert [file.name for file in interrupted.state.parent.iterdir()] == ["last.ckpt"]
    train(interrupted.folder)
    assert outcome(interrupted.folder) == whole("cosine", 0.0)


def test_ctrl_c_and_on(tmp_path, whole):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, at_batch=BATCHES + 3, die=interrupt)
    train(tmp_path)
    assert outcome(tmp_path) == whole("cosine", 0.0)


def test_minutes_are_minutes(tmp_path, monkeypatch):
    assert TrainerConfig().checkpoint_minutes == 10
    # Each look at the clock is a minute after the last: at the start, after each batch but an epoch's last, and after
    # writing. So 2.5 minutes have passed at the third and at the sixth batch; the third time is the epoch's end.
    clock = itertools.count(step=60)
    monkeypatch.setattr(resume, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    written = []
    monkeypatch.setattr(resume, "write_whole", lambda path, content: written.append(path))
    train(tmp_path, minutes=2.5, epochs=1)
    assert written == 3 * [Run(tmp_path).state]
