"""The command line: exit statuses, one clear line for each mistake, and nothing heavy before it is needed."""

import subprocess
import sys

import pytest

import longwave
from longwave.cli import main, train
from longwave.cli.commands import COMMANDS
from longwave.errors import DataError


def in_new_process(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)


def usage_error(capsys, words: str) -> str:
    """The one line that a wrong command line is answered with."""
    with pytest.raises(SystemExit) as caught:
        main(words.split())
    assert caught.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def runs(monkeypatch, recipe) -> None:
    """Let every recipe be this function, without defaults that depend on the data."""
    monkeypatch.setattr(train, "load_recipe", lambda name: recipe)
    monkeypatch.setattr(train, "load_presets", lambda name: None)


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert all(command in printed for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_is_for(capsys, command):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: longwave {command}")


def test_the_options_of_a_mixer_have_a_help_of_their_own(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["train", "smnist", "--model.mixer.help", "LRU"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert "--model.mixer.r_min R_MIN" in printed
    assert "--model.mixer.d_model" not in printed


def test_help_imports_neither_torch_nor_lightning():
    code = (
        "import sys; from longwave.cli import main; main(['recipes']); print({'torch', 'lightning'} & {*sys.modules})"
    )
    finished = in_new_process(code)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines()[-1] == "set()"


def test_python_m_longwave():
    finished = in_new_process("import runpy, sys; sys.argv[1:] = ['--version']; runpy.run_module('longwave')")
    assert (finished.returncode, finished.stdout) == (0, f"longwave {longwave.__version__}\n")


def test_recipes_are_listed(capsys):
    assert main(["recipes"]) == 0
    assert "smnist" in capsys.readouterr().out


def test_a_recipe_shows_every_setting(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["train", "smnist", "--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    for option in ("--data.source", "--model.mixer", "--optim.lr", "--trainer.epochs", "--seed", "--run"):
        assert option in printed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "longwave --help"),
        ("trian smnist", "did you mean train?"),
        ("train smnsit", "did you mean smnist?"),
        ("train smnist --optim.lrr 1", "did you mean --optim.lr?"),
        ("train smnist --modle.n_layers 2", "did you mean --model.n_layers?"),
        ("train smnist --trainer.epochs many", "many"),
        ("train smnist --data.source mnits", "mnits"),
        ("recipes --verbose", "--verbose"),
    ],
)
def test_wrong_usage_is_one_line_with_the_nearest_name(capsys, words, said):
    line = usage_error(capsys, words)
    assert line.startswith("longwave")
    assert said in line


def test_settings_reach_the_recipe(monkeypatch):
    seen = {}

    def recipe(*, data_root: str = "", seed: int = 0, rate: float = 1.0) -> None:
        seen.update(data_root=data_root, seed=seed, rate=rate)

    runs(monkeypatch, recipe)
    assert main(["train", "smnist", "--data-root=a-b", "--seed", "3", "--rate", "1e-3"]) == 0
    assert seen == {"data_root": "a-b", "seed": 3, "rate": 1e-3}


def test_settings_can_come_from_a_file(monkeypatch, tmp_path):
    seen = []

    def recipe(*, seed: int = 0, epochs: int = 1) -> None:
        seen.append((seed, epochs))

    runs(monkeypatch, recipe)
    config = tmp_path / "config.yaml"
    config.write_text("seed: 5\nepochs: 7\n")
    assert main(["train", "smnist", "--config", str(config), "--epochs", "2"]) == 0
    assert seen == [(5, 2)]


@pytest.mark.parametrize(
    ("raised", "status", "line"),
    [
        (DataError("images\nare missing"), 1, "longwave: error: images are missing"),
        (KeyError("x"), 1, "longwave: error: KeyError: 'x' (--debug shows where)"),
        (KeyboardInterrupt(), 130, "longwave: interrupted"),
    ],
)
def test_an_error_is_one_line_and_a_status(monkeypatch, capsys, raised, status, line):
    def recipe() -> None:
        raise raised

    runs(monkeypatch, recipe)
    assert main(["train", "smnist"]) == status
    assert capsys.readouterr().err == line + "\n"


def test_debug_shows_where(monkeypatch):
    def recipe() -> None:
        raise DataError("images are missing")

    runs(monkeypatch, recipe)
    with pytest.raises(DataError):
        main(["train", "smnist", "--debug"])
