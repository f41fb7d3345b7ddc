"""Each likely mistake, made as a new user would: one line that says what to do, a status, and nothing half-written."""

import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from longwave.cli import main
from longwave.data import digits

TINY = "--model.d_model 4 --model.n_layers 1 --trainer.epochs 1 --trainer.accelerator cpu"

# What is typed, where HERE is the folder below -> the exit status, and what the one line has in it.
MISTAKES = {
    # names
    "": (2, "longwave --help"),
    "trian smnist": (2, "did you mean train?"),
    "train": (2, "recipe.*longwave train --help"),
    "train smnits": (2, "did you mean smnist?"),
    "train smnist --optim.lrr 1": (2, "did you mean --optim.lr?"),
    "train smnist --modle.n_layers 2": (2, "did you mean --model.n_layers?"),
    "train smnist --model.mixer LRUU": (2, "unknown mixer 'LRUU' .did you mean 'LRU'"),
    "train smnist --model.mixer LRU --model.mixer.rmin 0.5": (2, "option of LRU 'rmin' .did you mean 'r_min'"),
    "train smnist --model.mixer.r_min 0.5": (2, "unknown option of S4D 'r_min'"),
    "train smnist --model.mixer.d_state many": (2, "model.mixer.d_state.*int.*many"),
    "train smnist --model.mixer.help LR": (2, "did you mean 'LRU'"),
    "train smnist --trainer.epochs many": (2, "trainer.epochs.*many"),
    "train smnist --data.source mnits": (2, "mnits"),
    "train files": (2, "required: --data.path"),
    "train delay --config HERE/run/config.yaml": (2, "recipe.*files.*delay"),
    "train smnist --config HERE/none.yaml": (2, "none.yaml"),
    "plot kernel HERE/run": (2, "did you mean kernels?"),
    "evaluate HERE/run --data.test_shar 1": (2, "did you mean --data.test_share?"),
    "evaluate": (2, "run"),
    "predict HERE/run": (2, "file"),
    # values
    "train smnist --optim.lr 0": (1, "lr must be positive"),
    "train smnist --data.held_out 7": (1, "multiple of 10"),
    "train copying --model.mixer.d_state 3 --run HERE/new": (1, "d_state=3 must be even"),
    "train copying --model.norm layr --run HERE/new": (1, "did you mean 'layer'"),
    "train delay --data.lag 5000 --run HERE/new": (1, "0 < lag < length"),
    "train ucr --data.problem ../x --run HERE/new": (1, "a problem's name has letters"),
    "train copying --seed -1 --run HERE/new": (1, "seed.*-1"),
    "evaluate HERE/run --part held_out": (1, "no held-out part"),
    "evaluate HERE/run --rate 0": (1, "rate"),
    "train smnist --preset s5-mnist": (1, "did you mean 's5-smnist'"),
    "train smnist --preset rtf-copying": (1, "for the recipe copying, not for smnist"),
    "recipes --preset s5-mnist": (1, "did you mean 's5-smnist'"),
    # the user's files
    "predict HERE/run HERE/none.npy": (1, "none.npy.*No such file"),
    "predict HERE/run HERE/x.txt": (1, r"not an .npy or .npz file"),
    "predict HERE/run HERE/empty.npy": (1, "empty"),
    "predict HERE/run HERE/cut.npy": (1, "cut.npy cannot be read"),
    "predict HERE/run HERE/flat.npy": (1, r"\(samples, length.*\(5,\)"),
    "predict HERE/run HERE/three.npy": (1, "has 3 channels, but the model reads 2"),
    "predict HERE/run HERE/nan.npy": (1, "nan.npy.*NaN|nan.npy.*finite"),
    "predict HERE/run HERE/objects.npy": (1, "objects.npy.*(pickle|object)"),
    "predict HERE/run HERE/x.npy --out HERE/none/x.csv": (1, "none/x.csv cannot be written"),
    "train files --data.path HERE/none.npz --run HERE/new": (1, "none.npz"),
    "train files --data.path HERE/x.npy --run HERE/new": (1, "x.npy.*no y"),
    "train files --data.path HERE/nan.npz --run HERE/new": (1, "nan.npz.*(NaN|finite)"),
    "train files --data.path HERE/short.npz --run HERE/new": (1, "short.npz.*3.*4|short.npz.*4.*3"),
    "train files --data.path HERE/wavs --run HERE/new": (1, "noise.wav"),
    # data sets
    "train smnist --data.source mnist --data-root HERE/none --run HERE/new": (1, "--data_root.*not a folder"),
    "train smnist --data.source mnist --run HERE/new": (1, "mnist.*LONGWAVE_OFFLINE"),
    "train smnist --data.source mnist --data-root HERE/cut --run HERE/new": (1, "train-images.*damaged"),
    "train ucr --data.problem GunPoint --data-root HERE/cut --run HERE/new": (1, "GunPoint_TRAIN.ts.*damaged"),
    # run folders
    "train copying --run HERE/x.txt/run": (1, "HERE/x.txt/run cannot be written"),
    f"train files --data.path HERE/own.npz --run HERE/run --optim.lr 1 {TINY}": (1, "optim.lr 0.004 → 1.0"),
    "evaluate HERE/none": (1, "none is not a run folder"),
    "evaluate HERE/unfinished": (1, "unfinished has no model/"),
    "predict HERE/unfinished HERE/x.npy": (1, "unfinished has no model/"),
    "predict HERE/none HERE/x.npy": (1, "none is not a folder"),
    "predict HERE/damaged HERE/x.npy": (1, "model.safetensors is damaged"),
    "plot curves HERE/unfinished": (1, "no metrics.csv yet"),
    "plot kernels HERE/run --out HERE/picture.doc": (1, "doc.*not supported"),
    "results HERE/unfinished": (1, "not finished"),
    # pictures of a signal
    "plot hipo": (2, "did you mean hippo?"),
    "plot hippo --ordr 3": (2, "did you mean --order?"),
    "plot hippo --measures legs,fuorier": (1, "unknown measure .fuorier. .did you mean .fourier."),
    "plot hippo --order 0": (1, "order=0 must be a positive integer"),
    "plot hippo --order 5": (1, "fourier: N is 5, .*give an even N"),
    "plot hippo --theta -1": (1, "theta=-1.0 must be positive"),
    "plot hippo --length 2": (1, "3 samples or more"),
    "plot hippo --length 0": (1, "length=0 must be positive"),
    "plot hippo HERE/none.npy": (1, "none.npy.*No such file"),
    "plot hippo HERE/none.wav": (1, "none.wav.*No such file"),
    "plot hippo HERE/x.txt": (1, "not an .npy, .npz or .wav file"),
    "plot hippo HERE/x.npy": (1, r"one signal of real numbers, \(time,\), got float32 \(12, 9, 2\)"),
    "plot hippo HERE/empty.npy": (1, "empty"),
    "plot hippo HERE/gap.npy": (1, "u is nan at sample 4"),
    "plot hippo HERE/wavs/noise/noise.wav": (1, "noise.wav: it is not PCM"),
}


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with a finished run, an unfinished one, a damaged one, and files of every wrong kind."""
    here = tmp_path_factory.mktemp("here")
    x = np.random.default_rng(0).normal(size=(12, 9, 2)).astype(np.float32)
    np.savez(here / "own.npz", x=x, y=np.array([0, 1] * 6))
    assert main(["train", "files", "--data.path", f"{here}/own.npz", *TINY.split(), "--run", f"{here}/run"]) == 0
    for name in ("unfinished", "damaged"):
        shutil.copytree(here / "run", here / name)
    shutil.rmtree(here / "unfinished/model")
    for name in ("metrics.csv", "results.json"):
        (here / "unfinished" / name).unlink()
    weights = here / "damaged/model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    wrong = x.copy()
    wrong[7, 3, 1] = np.nan
    arrays = {
        "x": x,
        "flat": x[0, :5, 0],
        "gap": np.array([0, 1, 2, 3, np.nan]),
        "three": np.zeros((2, 9, 3)),
        "nan": wrong,
        "objects": np.array([{}, {}]),
    }
    for name, array in arrays.items():
        np.save(here / f"{name}.npy", array)
    np.savez(here / "nan.npz", x=wrong, y=np.arange(12.0))
    np.savez(here / "short.npz", x=x[:4], y=np.arange(3.0))
    (here / "x.txt").write_text("1 2 3")
    (here / "empty.npy").touch()
    (here / "cut.npy").write_bytes((here / "x.npy").read_bytes()[:-9])
    (here / "wavs/noise").mkdir(parents=True)
    (here / "wavs/noise/noise.wav").write_bytes(b"noise")
    (here / "cut/mnist").mkdir(parents=True)
    for name in digits._FILES:
        (here / "cut/mnist" / (name if isinstance(name, str) else name.name)).write_bytes(b"\x1f\x8b")
    (here / "cut/ucr-uea/GunPoint").mkdir(parents=True)
    for part in ("TRAIN", "TEST"):
        (here / f"cut/ucr-uea/GunPoint/GunPoint_{part}.ts").write_text("@classLabel true 1 2\n@data\n1,2,3:1\n")
    return here


def contents(folder) -> dict[str, bytes]:
    """What lies in a folder; the lock and the log of a run may be touched by who looks."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in (".lock", "log.txt"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("words", MISTAKES)
@pytest.mark.usefixtures("unchecked")
def test_a_mistake_is_one_line(here, capsys, monkeypatch, words):
    monkeypatch.setenv("LONGWAVE_OFFLINE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    monkeypatch.delenv("LONGWAVE_DATA", raising=False)
    before = contents(here)
    try:
        status = main([word.replace("HERE", str(here)) for word in words.split()])
    except SystemExit as left:
        status = left.code
    expected, said = MISTAKES[words]
    error = capsys.readouterr().err
    assert status == expected, error
    assert error.count("\n") == 1, error
    assert re.search(said.replace("HERE", re.escape(str(here))), error), error
    assert contents(here) == before


def test_ctrl_c_is_130_and_leaves_what_a_training_goes_on_from(tmp_path):
    words = f"train copying --run {tmp_path}/run --data.train_samples 20 {TINY} --trainer.epochs 100000"
    # A shell's background job ignores Ctrl-C, and so would what it starts.
    listening = "import signal, runpy; signal.signal(signal.SIGINT, signal.default_int_handler); "
    command = [sys.executable, "-c", listening + "runpy.run_module('longwave', run_name='__main__')", *words.split()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 100
        while not (tmp_path / "run/metrics.csv").exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert error.splitlines()[-1] == "longwave: interrupted"
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names >= {"config.yaml", "metrics.csv", "checkpoints"}
    assert not names & {"model", "results.json"}
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("room", [100, 3000, 20000])
def test_a_full_disk_leaves_nothing_half_written(here, tmp_path, capsys, room):
    """A limit on the size of files stands for the disk: the settings, the state, or the model does not fit any more."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        status = main(["train", "files", "--data.path", f"{here}/own.npz", *TINY.split(), "--run", f"{tmp_path}/run"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        signal.signal(signal.SIGXFSZ, before)
    error = capsys.readouterr().err
    assert status == 1, error
    assert "cannot be written" in error or "cannot write" in error
    assert error.count("\n") == 1
    assert not list(tmp_path.rglob("*.partial"))
    assert not (tmp_path / "run/model/config.json").exists()


def test_a_place_where_not_even_root_may_write(here, capsys):
    assert main(["train", "files", "--data.path", f"{here}/own.npz", *TINY.split(), "--run", "/sys/longwave"]) == 1
    assert "cannot be written" in capsys.readouterr().err
