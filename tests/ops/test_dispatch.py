"""Which implementation runs, and what a user's mistakes meet."""

import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from longwave.errors import ConfigError, ShapeError, UnsupportedError
from longwave.ops import (
    cauchy,
    dense_step,
    diagonal_ssm,
    explain,
    gated_norm,
    hodlr_step,
    linear,
    linear_scan,
    long_conv,
    selective_scan,
    short_conv,
    ssd,
    vandermonde,
    wkv,
)

U, A, D = torch.zeros(2, 5, 3), torch.zeros(3, 4, dtype=torch.complex64), torch.zeros(3)
K, RATE, BC = torch.zeros(3, 7), torch.zeros(3, 4), torch.zeros(2, 5, 1, 4)
N, SQUARE, TREE = torch.zeros(2, 3, 4), torch.zeros(3, 4, 4), torch.zeros(2, 2, 2)
X, DT, B = torch.zeros(2, 5, 3, 4), torch.zeros(2, 5, 3), torch.zeros(2, 5, 1, 6)  # of ssd, whose A is D


def test_auto_takes_the_native_kernel_on_the_cpu() -> None:
    choice = explain("diagonal_ssm", U, A)
    assert choice.impl == "cpu"
    assert choice.refused == {"triton": "diagonal_ssm has no triton kernel yet"}


def test_auto_takes_the_reference_elsewhere_and_says_why() -> None:
    choice = explain("linear_scan", torch.zeros(3, device="meta"), U.to("meta"))
    assert choice.impl == "reference"
    assert "meta" in choice.refused["cpu"]


def test_explicit_implementations_never_fall_back() -> None:
    with pytest.raises(UnsupportedError, match="no triton kernel"):
        linear_scan(D, U, impl="triton")
    with pytest.raises(UnsupportedError, match="'auto', 'reference', 'cpu'"):
        linear_scan(D, U, impl="cuda")
    with pytest.raises(UnsupportedError, match="there are block_scan, block_tables, cauchy, dense_step"):
        explain("linear_scam")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("function", "args", "options", "message"),
    [
        (linear_scan, (D, U[0]), {}, r"b has shape \(5, 3\)"),
        (linear_scan, (D[:2], U), {}, "broadcasts"),
        (linear_scan, (D, U.long()), {}, "floating point"),
        (linear_scan, (D.long(), U.long()), {}, "floating point"),
        (linear_scan, (D, U, torch.zeros(3, 3)), {}, r"initial_state has shape \(3, 3\)"),
        (linear_scan, (D, U, torch.zeros(2, 3, dtype=torch.complex64)), {}, "recurrence is real"),
        (linear_scan, (D, U), {"reset": torch.zeros(2, 5)}, "torch.bool"),
        (linear_scan, (D, U), {"reset": torch.zeros(2, 4, dtype=torch.bool)}, r"\(2, 4\)"),
        (linear_scan, (D, U), {"lengths": torch.tensor([1, 6])}, r"1\.\.6; expected 0\.\.5"),
        (linear_scan, (D, U), {"lengths": torch.tensor([1.0, 2.0])}, "integer"),
        (linear_scan, (D.to("meta"), U), {}, "different devices"),
        (diagonal_ssm, (U[0], None, A, A, A), {}, r"u has shape \(5, 3\)"),
        (diagonal_ssm, (U.to(torch.complex64), None, A, A, A), {}, "is real"),
        (diagonal_ssm, (U, None, A[:2], A, A), {}, "dim = 3"),
        (diagonal_ssm, (U, None, A, A[:, :2], A), {}, r"B has shape \(3, 2\)"),
        (diagonal_ssm, (U, None, A, A, A[:, :2]), {}, r"C has shape \(3, 2\)"),
        (diagonal_ssm, (U, torch.ones(2), A, A, A), {}, r"dt has shape \(2,\)"),
        (diagonal_ssm, (U, None, A, A, A, D[:2]), {}, r"D has shape \(2,\)"),
        (diagonal_ssm, (U, None, A, A, A, D, A[None]), {}, "initial_state"),
        (diagonal_ssm, (U, None, A.real, A.real, A.real, D, torch.stack([A, A])), {}, "real system"),
        (cauchy, (A, D, A), {}, r"v has shape \(3, 4\)"),
        (cauchy, (A[None], D, A[:1, :2]), {}, r"\(dim, rows, modes\) and \(dim, modes\)"),
        (cauchy, (A[None], U, A[:1]), {}, "one axis"),
        (cauchy, (A[None], D, A[:1].real), {}, "expected complex"),
        (cauchy, (A[None], D.to("meta"), A[:1]), {}, "different devices"),
        (vandermonde, (A, A[:2], 5), {}, r"w \(2, 4\)"),
        (vandermonde, (A, A, -1), {}, "length=-1"),
        (vandermonde, (A, A.real, 5), {}, "both real or both complex"),
        *(
            (selective_scan, args, options, message)
            for args, options, message in (
                ((U[0], U, RATE, BC, BC), {}, r"u has shape \(5, 3\)"),
                ((U.to(torch.complex64), U, RATE, BC, BC), {}, "is real"),
                ((U, U[:, :4], RATE, BC, BC), {}, r"delta has shape \(2, 4, 3\)"),
                ((U, U, RATE[:2], BC, BC), {}, "dim = 3"),
                ((U, U, RATE, BC[..., :3], BC), {}, r"B has shape \(2, 5, 1, 3\)"),
                ((U, U, RATE, BC, BC[:, :, 0]), {}, r"C has shape \(2, 5, 4\); expected \(dim, modes\) or"),
                ((U, U, RATE, RATE[:2], BC), {}, r"B has shape \(2, 4\)"),
                ((U, U, RATE, BC, BC.repeat(1, 1, 3, 1)), {}, "B has 1 groups and C 3"),
                ((U, U, RATE, *2 * [BC.repeat(1, 1, 2, 1)]), {}, "2 groups of B do not divide the 3 channels"),
                ((U, U, RATE, *2 * [BC[:, :, :0]]), {}, "0 groups of B do not divide"),
                ((U, U, RATE, BC, BC, D[:2]), {}, r"D has shape \(2,\)"),
                ((U, U, RATE, BC, BC, D, U[:1]), {}, r"z has shape \(1, 5, 3\)"),
                ((U, U, RATE, BC, BC, D, U, D[:1]), {}, r"delta_bias has shape \(1,\)"),
                ((U, U, RATE, BC, BC, D, U, D, RATE), {}, r"initial_state has shape \(3, 4\)"),
                ((U, U, RATE, BC, BC, D, U, D, torch.stack([A, A])), {}, "real system"),
            )
        ),
        (short_conv, (U[0], K), {}, r"x has shape \(5, 3\)"),
        (short_conv, (U, K[:2]), {}, r"weight has shape \(2, 7\)"),
        (short_conv, (U, K[:, :0]), {}, "at least one tap"),
        (short_conv, (U, K, D[:2]), {}, r"bias has shape \(2,\)"),
        (short_conv, (U, K, D, torch.zeros(2, 3, 7)), {}, r"\(batch, dim, width - 1\) = \(2, 3, 6\)"),
        *(
            (dense_step, args, {}, message)
            for args, message in (
                ((U[0], D, SQUARE, RATE, RATE, D), r"have shapes \(5, 3\), \(3,\), \(3, 4, 4\)"),
                ((N, N[:, :, 0], SQUARE[:2], RATE[:2], RATE, D), r"\(2, 4, 4\), .*; expected \(batch, dim, state\)"),
                ((N, N[:, :, 0], SQUARE, RATE[:1], RATE, D), r"\(1, 4\)"),
                ((N, N[:, :1, 0], SQUARE, RATE, RATE, D), r"\(2, 1\)"),
                ((N, N[:, :, 0], SQUARE, RATE, RATE[:1], D), r"\(1, 4\)"),
                ((N, N[:, :, 0], SQUARE, RATE, RATE, D[:1]), r"\(1,\)"),
                ((N, N[:, :, 0].double(), SQUARE, RATE, RATE, D), "torch.float64.*; expected one floating point dtype"),
                ((*(t.long() for t in (N, N[:, :, 0], SQUARE, RATE, RATE, D)),), "torch.int64"),
                ((N, N[:, :, 0], SQUARE.to("meta"), RATE, RATE, D), "different devices"),
            )
        ),
        *(
            (hodlr_step, (N, N[:, :, 0], *tree, RATE[0], RATE, D), {}, message)
            for tree, message in (
                ((TREE, TREE[:, :, :1], TREE), r"\(2, 2, 1\)"),
                ((TREE[:1], TREE[:1], TREE[:1]), "2, 4, 8, … leaves make up the state"),
                ((TREE, TREE, TREE[:, :1]), r"\(2, 1, 2\)"),
                ((TREE, TREE.double(), TREE), "torch.float64.*; expected one floating point dtype"),
                ((TREE, TREE, TREE.to("meta")), "different devices"),
            )
        ),
        (hodlr_step, (N[0], N[0], TREE, TREE, TREE, RATE[0], RATE, D), {}, r"have shapes \(3, 4\)"),
        (long_conv, (U, K[:2]), {}, r"k has shape \(2, 7\)"),
        (long_conv, (U, K.to(torch.complex64)), {}, "real"),
        (wkv, (U[0], U[0], D, D), {}, r"v has shape \(5, 3\)"),
        (wkv, (U[:, :4], U, D, D), {}, r"k has shape \(2, 4, 3\)"),
        (wkv, (U, U, D[:2], D), {}, r"w has shape \(2,\)"),
        (wkv, (U, U, D, D[:2]), {}, r"u has shape \(2,\)"),
        (wkv, (U, U, D, D, torch.zeros(2, 3)), {}, r"mean and log-weight, dim"),
        (linear, (U, K), {}, r"weight has shape \(3, 7\), x \(2, 5, 3\)"),
        (linear, (U, K.T, D), {}, r"bias has shape \(3,\); expected \(out,\) = \(7,\)"),
        (linear, (U, K.T.double()), {}, "x, weight are torch.float32, torch.float64"),
        (linear, (U, K.T.to("meta")), {}, "different devices"),
        (gated_norm, (U.to(torch.complex64), U, D), {}, "x is torch.complex64"),
        (gated_norm, (U, U[0], D), {}, r"z has shape \(5, 3\)"),
        (gated_norm, (U, U, D[:2]), {}, r"weight has shape \(2,\)"),
        (gated_norm, (U, U.long(), D), {}, "z is torch.int64"),
        (gated_norm, (U, U, D), {"group_size": 2}, "group_size=2 does not divide the 3 channels"),
        (gated_norm, (U, U, D.to("meta")), {}, "different devices"),
        (ssd, (X[0], DT, D, B, B), {}, r"x has shape \(5, 3, 4\)"),
        (ssd, (X, DT[:, :4], D, B, B), {}, r"dt has shape \(2, 4, 3\)"),
        (ssd, (X, DT, DT, B, B), {}, r"A has shape \(2, 5, 3\); expected \(heads,\)"),
        (ssd, (X, None, D, B, B), {}, "as dt is None"),
        (ssd, (X, None, DT, B, B), {"dt_softplus": True}, "nothing for dt_bias and dt_softplus"),
        (ssd, (X, DT, D, B[:, :4], B), {}, r"B has shape \(2, 4, 1, 6\)"),
        (ssd, (X, DT, D, B, B[..., :5]), {}, r"C has shape \(2, 5, 1, 5\)"),
        (ssd, (X, DT, D, X[:, :, :2], X[:, :, :2]), {}, "3 heads and B 2 groups"),
        (ssd, (X, DT, D, B, B, D[:2]), {}, r"D has shape \(2,\)"),
        (ssd, (X, DT, D, B, B, D, D[:2]), {}, "dt_bias"),
        (ssd, (X, DT, D, B, B, D, D, X), {}, "initial_state"),
        (ssd, (X, DT, D, B, B), {"chunk": 0}, "chunk=0"),
    ],
)
def test_bad_arguments(function: Any, args: tuple[Any, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        function(*args, **options)


def test_unknown_discretization() -> None:
    with pytest.raises(ConfigError, match="zoh, bilinear"):
        diagonal_ssm(U, torch.ones(3), A, A, A, discretization="tustin")


def test_unknown_activation() -> None:
    with pytest.raises(ConfigError, match="None, 'silu'"):
        short_conv(U, K, activation="relu")


@pytest.mark.parametrize("order", ("longwave.ops.linear_scan, longwave.ops", "longwave.ops, longwave.ops.linear_scan"))
def test_a_function_is_never_shadowed_by_its_folder(order: str) -> None:
    code = f"import {order}; from longwave import ops; assert callable(ops.linear_scan) and callable(ops.long_conv)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("environment", "message"), [({"LONGWAVE_ISA": "sse9"}, "LONGWAVE_ISA=sse9: this machine runs"), ({}, "")]
)
def test_instruction_set_from_the_environment(environment: dict[str, str], message: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", "import longwave.ops"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert message in run.stderr
    assert run.returncode == (1 if message else 0)
