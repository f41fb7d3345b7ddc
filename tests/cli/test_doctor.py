"""`longwave doctor` tells what is there, and finds a kernel that computes something else."""

import subprocess
import sys

import pytest
import torch

from cases import NATIVE
from longwave.cli import main
from longwave.cli.doctor import OPS
from longwave.ops import _native


def test_names_versions_instruction_set_and_choices(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert torch.__version__ in said
    assert "instruction set" in said
    assert said.count(" ok ") == len(OPS)


def test_a_wrong_kernel_is_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    right = _native.kernels().linear_scan

    def backwards(*args: object) -> None:
        *sizes, reverse = args[:6]
        right(*sizes, not reverse, *args[6:])

    monkeypatch.setattr(_native.kernels(), "linear_scan", backwards)
    assert main(["doctor"]) == 1
    assert "linear_scan on cpu" in capsys.readouterr().err


def test_without_native_kernels_it_says_so() -> None:
    code = (
        "import sys; sys.modules['longwave._native'] = None; "
        "from longwave.cli import main; import torch; from longwave import S4D; "
        "S4D(4)(torch.zeros(1, 9, 4)); sys.exit(main(['doctor']))"
    )
    environment = {"LONGWAVE_REQUIRE_NATIVE": "0", "PATH": "", "COLUMNS": "200"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "none: this installation has no native kernels" in run.stdout
    assert run.stdout.count(" reference ") == len(NATIVE)
    environment["LONGWAVE_REQUIRE_NATIVE"] = "1"
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "LONGWAVE_REQUIRE_NATIVE is set" in run.stderr
