"""Diagonal forms of dense systems: the same impulse response, within the error that they report, or none."""

import pytest
import torch

from longwave.errors import ConfigError, UnsupportedError
from longwave.layers import DSS, LRU, LSSL, RTF, S4, S4D, S5, LTIMixer
from longwave.math import StateSpace, legs_nplr, to_diagonal

EPS = torch.finfo(torch.float64).eps


def system_of(mixer: type[LTIMixer], d_state: int, **options) -> StateSpace:
    torch.manual_seed(0)
    return mixer(3, d_state, **options).double().to_state_space()


def powers(system: StateSpace, length: int) -> torch.Tensor:
    """k[l] = C Aˡ B + D δ[l], by dense powers."""
    k = [system.C @ torch.linalg.matrix_power(system.A, l) @ system.B for l in range(length)]
    return torch.stack([k[0] + system.D, *k[1:]], -1)


@pytest.mark.parametrize(
    ("mixer", "options", "normal"),
    [
        (S4D, {"d_state": 16}, True),
        (DSS, {"d_state": 6}, True),
        (LRU, {"d_state": 6}, True),
        (S5, {"d_state": 8}, True),
        (S4, {"d_state": 4}, False),
        (S4, {"d_state": 8}, False),
        (S4, {"d_state": 64, "measure": "fourier"}, False),
        (LSSL, {"d_state": 8}, False),
        (RTF, {"d_state": 6, "init": "montel"}, False),
    ],
)
def test_the_diagonal_system_is_the_dense_one_within_the_error_that_it_reports(mixer, options, normal):
    system = system_of(mixer, **options)
    diagonal = to_diagonal(system, 200)
    truth, k = powers(system, 200), StateSpace.from_diagonal(*diagonal[:4], conjugate_pairs=False).impulse_response(200)
    assert diagonal.error.shape == diagonal.condition.shape == system.A.shape[:-2]
    found = (k - truth).abs().flatten(-3).amax(-1) / truth.abs().flatten(-3).amax(-1)
    # Either impulse response has roundings of its own, in each of its steps.
    assert bool((found <= diagonal.error + 400 * EPS).all())
    assert bool((diagonal.error <= 1e-10).all())
    if normal:
        torch.testing.assert_close(diagonal.condition, torch.ones_like(diagonal.condition))


def test_s4_without_its_low_rank_term_has_the_poles_of_s4d():
    torch.manual_seed(0)
    layer = S4(3, 16).double()
    torch.nn.init.zeros_(layer.P)
    diagonal = to_diagonal(layer.to_state_space(), 300)
    bank = S4D(3, 16, discretization="bilinear").double()
    bank.load_state_dict({name: value for name, value in layer.state_dict().items() if name != "P"})
    pair = torch.cat([bank.discretize().A, bank.discretize().A.conj()], 1)
    apart = (diagonal.a[:, :, None] - pair[:, None]).abs()
    assert max(apart.amin(1).max(), apart.amin(2).max()) <= 100 * EPS  # each is one of the others
    k = StateSpace.from_diagonal(*diagonal[:4], conjugate_pairs=False).impulse_response(300)[:, 0, 0]
    torch.testing.assert_close(k, bank.kernel(300))


@pytest.mark.parametrize(
    ("mixer", "options"),
    [(LSSL, {"d_state": 32}), (S4, {"d_state": 64}), (S4, {"d_state": 32, "measure": "lagt"})],
)
def test_eigenvectors_that_are_nearly_parallel_are_refused_by_their_condition(mixer, options):
    system = system_of(mixer, **options)
    with pytest.raises(UnsupportedError, match=r"condition of its eigenvectors is \S+, above 6.7e\+07"):
        to_diagonal(system, 100)


def test_a_block_of_jordan_is_refused_whatever_the_tolerance():
    one = torch.ones(2, 1, dtype=torch.float64)
    system = StateSpace(torch.tensor([[0.5, 1.0], [0.0, 0.5]], dtype=torch.float64), one, one.mT, 0 * one[:1])
    with pytest.raises(UnsupportedError, match="condition"):
        to_diagonal(system, 10)
    with pytest.raises(UnsupportedError, match=r"condition|relative error over 10 positions"):
        to_diagonal(system, 10, tolerance=1e-3)


def test_a_tolerance_below_the_error_refuses_by_the_error():
    turn = torch.linalg.matrix_exp(torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64))
    one = torch.ones(2, 1, dtype=torch.float64)
    system = StateSpace(turn, one, one.mT, 0 * one[:1])
    assert to_diagonal(system, 5000).error < 1e-11
    with pytest.raises(UnsupportedError, match="relative error over 5000 positions"):
        to_diagonal(system, 5000, tolerance=1.5 * EPS)


def test_a_system_of_no_output_has_no_error():
    zero = torch.zeros(2, 2, 2, dtype=torch.float64)
    diagonal = to_diagonal(StateSpace(zero, zero, zero, zero), 5)
    assert not diagonal.error.any()
    assert bool((diagonal.condition == 1).all())


def test_the_normal_part_of_legs_is_diagonal_as_its_name_says():
    Lambda, _, B, V = legs_nplr(16, half=False)
    normal = (V @ torch.diag(Lambda) @ V.mH).real
    A = torch.linalg.matrix_exp(0.1 * normal)
    system = StateSpace(A, (V @ B[:, None]).real, torch.ones(1, 16, dtype=torch.float64), torch.zeros(1, 1).double())
    a = to_diagonal(system, 50).a
    apart = (a[:, None] - (0.1 * Lambda).exp()).abs()
    assert max(apart.amin(0).max(), apart.amin(1).max()) <= 1e-13


def test_mistakes_are_named():
    system = system_of(S4D, 4)
    for options in ({"length": 0}, {"length": 5, "tolerance": 0.0}):
        with pytest.raises(ConfigError, match="must be positive"):
            to_diagonal(system, **options)
