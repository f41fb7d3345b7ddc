"""The examples run as a reader runs them, and show what they say they show."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str, *options: str) -> str:
    """What an example prints; its warnings are errors."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def figures(pattern: str, text: str) -> list[float]:
    """Every number that follows `pattern`."""
    return [float(found) for found in re.findall(rf"{pattern}.*?([\d.]+(?:e[-+]\d+)?)$", text, re.MULTILINE)]


def test_streaming_gives_the_same_numbers() -> None:
    (difference,) = figures("largest difference", run("stream_s4d", "--length=700", "--chunk=90", "--steps=40"))
    assert difference <= 1e-5


def test_scipy_gives_the_same_numbers() -> None:
    differences = figures("relative difference", run("compare_with_scipy", "--length=300", "--channel=2"))
    assert len(differences) == 2
    assert max(differences) <= 1e-5


def test_a_classifier_learns_and_streams(tmp_path: Path) -> None:
    said = run("train_classifier", "--steps=60", "--length=128", f"--folder={tmp_path / 'chirps'}")
    (accuracy,) = figures("accuracy", said)
    assert accuracy >= 0.9
    assert said.endswith("position by position: True\n")
    assert {file.name for file in (tmp_path / "chirps").iterdir()} == {"config.json", "model.safetensors"}


def test_a_regressor_learns_and_is_read_back(tmp_path: Path) -> None:
    said = run("train_regressor", "--epochs=4", "--longest=100", f"--run={tmp_path / 'run'}")
    assert figures("epochs", said) == [4]
    (r2,) = figures("R²", said)
    assert r2 >= 0.8
    assert (tmp_path / "run" / "metrics.csv").is_file()


def test_every_example_is_run_here() -> None:
    here = Path(__file__).read_text()
    assert {f'run("{file.stem}"' in here for file in EXAMPLES.glob("*.py")} == {True}


def test_a_mistake_in_an_option_is_not_swallowed() -> None:
    with pytest.raises(AssertionError, match="lenght"):
        run("stream_s4d", "--lenght=5")
