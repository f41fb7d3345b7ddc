"""`StateSpace` against SciPy, dense powers and complex recurrences, in its own convention."""

import sys

import numpy as np
import pytest
import torch
from jaxtyping import config
from scipy import signal

from longwave.errors import ConfigError, MissingExtraError, ShapeError, UnsupportedError
from longwave.math import StateSpace

EPS = torch.finfo(torch.float64).eps
DECAY = 0.9


def random_system(*channels, state=5, inputs=2, outputs=3, seed=0):
    """A system with ‖A‖∞ = 0.9, so that both it and its rounding errors decay."""
    g = torch.Generator().manual_seed(seed)
    shapes = [(state, state), (state, inputs), (outputs, state), (outputs, inputs)]
    A, B, C, D = (torch.randn(*channels, *shape, dtype=torch.float64, generator=g) for shape in shapes)
    return StateSpace(DECAY * A / A.abs().sum(-1).amax(-1)[..., None, None], B, C, D)


def random_input(*shape, seed=1):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def rounding_budget(system, u, initial_state=None):
    """Bound on the difference of two evaluations of y whose inner products round each term (n + 2) times.

    In the maximum norm x ≤ (|B||u| + |x₀|)/(1 − 0.9), the error of x obeys the same recursion, driven by the
    roundings, and y adds its own. The second factor 2 is for the products C A and C B + D of SciPy's form.
    """
    A, B, C, D = (M.abs().sum(-1).max().item() for M in (system.A, system.B, system.C, system.D))
    assert A <= DECAY * (1 + 1e-12)
    rounding = (system.A.shape[-1] + system.B.shape[-1] + 2) * EPS
    start = 0 if initial_state is None else initial_state.abs().max().item()
    x = (B * u.abs().max().item() + start) / (1 - DECAY)
    x_error = rounding * x / (1 - DECAY)
    return 2 * 2 * (C * x_error + rounding * (C * x + D * u.abs().max().item()))


@pytest.fixture
def as_users_see_it():
    """Without the checks of annotations, which only tests have and which would refuse a shape first."""
    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", before)


def largest(difference):
    return np.abs(np.asarray(difference)).max()


def test_simulate_equals_scipys_dlsim_from_any_initial_state():
    system, u, x0 = random_system(), random_input(40, 2), random_input(5, seed=2)
    _, y, x = signal.dlsim(system.to_scipy(), u.numpy(), x0=x0.numpy())
    ours = system.simulate(u, x0)
    budget = rounding_budget(system, u, x0)
    assert largest(ours.y.numpy() - y) <= budget
    # SciPy's last row is the state before the last input.
    assert largest(system.simulate(u[:-1], x0).final_state.numpy() - x[-1]) <= budget


def test_the_output_reads_the_updated_state():
    one = torch.ones(1, 1, dtype=torch.float64)
    y, final_state = StateSpace(0.5 * one, one, one, 10 * one).simulate(one, torch.tensor([8.0]))
    assert final_state.item() == 0.5 * 8 + 1
    assert y.item() == final_state.item() + 10


def test_impulse_response_equals_dense_powers():
    system, length = random_system(), 30
    A, B, C, D = (M.numpy() for M in (system.A, system.B, system.C, system.D))
    powers = np.stack([C @ np.linalg.matrix_power(A, l) @ B for l in range(length)], -1)
    powers[..., 0] += D
    k = system.impulse_response(length)
    assert k.shape == (3, 2, length)
    assert largest(k.numpy() - powers) <= rounding_budget(system, torch.ones(1))


def test_impulse_response_equals_scipys_dimpulse():
    system = random_system()
    _, responses = signal.dimpulse(system.to_scipy(), n=30)
    budget = rounding_budget(system, torch.ones(1))
    for j, response in enumerate(responses):
        assert largest(system.impulse_response(30)[:, j].T.numpy() - response) <= budget


def test_convolution_with_the_impulse_response_is_the_simulation():
    system, u = random_system(), random_input(30, 2)
    k, y = system.impulse_response(30), system.simulate(u).y
    convolved = sum(np.convolve(k[0, j].numpy(), u[:, j].numpy())[:30] for j in range(2))
    assert largest(y[:, 0].numpy() - convolved) <= rounding_budget(system, u) * 30 * 2


def test_transfer_function_is_the_z_transform_of_the_impulse_response():
    system, length = random_system(4), 400
    assert DECAY**length < EPS**1.1
    z = torch.polar(torch.tensor([1.0, 1.0, 1.2, 1.0]), torch.tensor([0.0, 0.3, 2.0, torch.pi])).to(torch.complex128)
    H = system.transfer_function(z)
    series = system.impulse_response(length).to(torch.complex128) @ z ** -torch.arange(length)[:, None]
    assert H.shape == (4, 3, 2, 4)
    # Every term of the series, and the solve with its condition of at most 1.9/0.1, rounds at the scale of the sum.
    assert largest(H - series) <= rounding_budget(system, torch.ones(1)) * (1 + DECAY) / (1 - DECAY)


def test_transfer_function_equals_scipys_frequency_response():
    system = random_system(inputs=1, outputs=1, state=3)
    omega = np.linspace(0, np.pi, 7)
    _, H = signal.dfreqresp(system.to_scipy(), omega)
    z = torch.from_numpy(np.exp(1j * omega))
    # SciPy passes through the roots of polynomials of degree 3, which can cost a third of the digits, not half of them.
    assert largest(system.transfer_function(z)[0, 0].numpy() - H) <= EPS**0.5 * largest(H)


def test_transfer_function_at_zero_is_the_feedthrough():
    system = random_system()
    at_zero = system.transfer_function(torch.zeros(1, dtype=torch.complex128))[..., 0]
    assert torch.equal(at_zero, system.D + 0j)


def diagonal_arguments(*channels, modes=4, inputs=2, outputs=3):
    g = torch.Generator().manual_seed(0)
    shapes = [(modes,), (modes, inputs), (outputs, modes)]
    a, b, c = (torch.randn(*channels, *shape, dtype=torch.complex128, generator=g) for shape in shapes)
    D = torch.randn(*channels, outputs, inputs, dtype=torch.float64, generator=g)
    return torch.polar(0.6 * torch.rand(a.shape, dtype=torch.float64, generator=g), a.angle()), b, c, D


@pytest.mark.parametrize("conjugate_pairs", [True, False])
@pytest.mark.parametrize("channels", [(), (6,)])
def test_real_form_equals_the_complex_recurrence(channels, conjugate_pairs):
    a, b, c, D = diagonal_arguments(*channels)
    system = StateSpace.from_diagonal(a, b, c, D, conjugate_pairs=conjugate_pairs)
    u = random_input(*channels, 25, 2)
    x, outputs = torch.zeros_like(a), []
    for t in range(25):
        x = a * x + (b @ (u[..., t, :, None] + 0j))[..., 0]
        outputs.append(
            (2 if conjugate_pairs else 1) * (c @ x[..., None])[..., 0].real + (D @ u[..., t, :, None])[..., 0]
        )
    y, final_state = system.simulate(u)
    budget = rounding_budget(system, u)
    assert largest(y - torch.stack(outputs, -2)) <= budget
    assert largest(final_state - torch.view_as_real(x).flatten(-2)) <= budget


@pytest.mark.parametrize("conjugate_pairs", [True, False])
def test_poles_of_the_real_form_are_the_eigenvalues_and_their_conjugates(conjugate_pairs):
    a, b, c, D = diagonal_arguments()
    system = StateSpace.from_diagonal(a, b, c, D, conjugate_pairs=conjugate_pairs)
    # The real form is normal, so that eigenvalues are perfectly conditioned.
    expected, poles = (np.sort_complex(np.round(p.numpy(), 12)) for p in (torch.cat([a, a.conj()]), system.poles()))
    np.testing.assert_allclose(poles, expected, atol=2e-12)


def test_real_form_reproduces_a_system_rounded_to_single_precision():
    a, b, c, D = diagonal_arguments()
    single = StateSpace.from_diagonal(*(x.to(torch.complex64) for x in (a, b, c)), D.float(), conjugate_pairs=True)
    assert single.A.dtype == torch.float64
    assert torch.equal(single.A[::2, ::2].diagonal(), a.to(torch.complex64).real.double())


def test_a_bank_is_its_systems_side_by_side():
    bank = random_system(3, 2)
    u, x0 = random_input(4, 3, 2, 10, 2), random_input(3, 2, 5, seed=2)
    y, final_state = bank.simulate(u, x0)
    z = torch.tensor([1j, -1.5 + 0j])
    for index in np.ndindex(3, 2):
        single = StateSpace(bank.A[index], bank.B[index], bank.C[index], bank.D[index])
        alone = single.simulate(u[:, *index], x0[index])
        budget = rounding_budget(single, u, x0)
        assert largest(y[:, *index] - alone.y) <= budget
        assert largest(final_state[:, *index] - alone.final_state) <= budget
        assert largest(bank.impulse_response(9)[index] - single.impulse_response(9)) <= budget
        assert largest(bank.transfer_function(z)[index] - single.transfer_function(z)) <= budget * 19
        assert largest(bank.to_scipy(index).A - single.A.numpy()) == 0
    assert bank.poles().shape == (3, 2, 5)


def test_one_input_drives_every_system_of_a_bank():
    bank, u = random_system(3), random_input(10, 2)
    torch.testing.assert_close(bank.simulate(u).y, bank.simulate(u.expand(3, 10, 2)).y)


@pytest.mark.parametrize("cut", [0, 1, 7, 20])
def test_segments_are_the_whole(cut):
    system, u, x0 = random_system(3), random_input(3, 20, 2), random_input(3, 5, seed=2)
    whole = system.simulate(u, x0)
    first = system.simulate(u[:, :cut], x0)
    second = system.simulate(u[:, cut:], first.final_state)
    assert first.y.shape == (3, cut, 3)
    budget = rounding_budget(system, u, x0)
    assert largest(torch.cat([first.y, second.y], 1) - whole.y) <= budget
    assert largest(second.final_state - whole.final_state) <= budget


def test_an_impulse_response_of_no_length_is_empty():
    assert random_system(4).impulse_response(0).shape == (4, 3, 2, 0)


def test_simulation_is_differentiable():
    system, u, x0 = random_system(state=2), random_input(3, 2), random_input(2)
    inputs = [M.clone().requires_grad_() for M in (system.A, system.B, system.C, system.D, u, x0)]
    assert torch.autograd.gradcheck(lambda A, B, C, D, u, x: tuple(StateSpace(A, B, C, D).simulate(u, x)), inputs)


SCIPY_SYSTEMS = {
    "round trip": random_system().to_scipy(),
    "singular A, a pure delay": signal.dlti([1.0], [1.0, 0.0, 0.0, 0.0]),
    "transfer function": signal.dlti([1.0, 0.4], [1.0, -0.2, 0.5]),
    "zeros and poles": signal.dlti([0.3], [0.5, -0.4], 2.0),
    "time unit": signal.dlti([[0.5]], [[1.0]], [[2.0]], [[3.0]], dt=0.01),
}


@pytest.mark.parametrize("name", SCIPY_SYSTEMS)
def test_a_system_from_scipy_gives_the_same_outputs(name):
    theirs = SCIPY_SYSTEMS[name].to_ss()
    ours = StateSpace.from_scipy(SCIPY_SYSTEMS[name])
    state, inputs, outputs = len(theirs.A), theirs.B.shape[1], theirs.C.shape[0]
    u, s0 = random_input(40, inputs).numpy(), random_input(state, seed=2).numpy()
    _, y, _ = signal.dlsim(theirs, u, x0=s0)
    anything = np.full(outputs, 7.0)
    simulated = ours.simulate(torch.from_numpy(u), torch.from_numpy(np.concatenate([s0, anything]))).y
    # The same products in the same order, up to the order of summation: errors obey the stable recursion of y itself.
    amplification = sum(np.linalg.norm(np.linalg.matrix_power(theirs.A, k)) for k in range(40))
    scale = np.linalg.norm(theirs.B) * np.abs(u).max() + np.abs(s0).max()
    scale = scale * amplification * np.linalg.norm(theirs.C) + np.linalg.norm(theirs.D) * np.abs(u).max()
    assert largest(simulated.numpy() - y.reshape(40, outputs)) <= (state + inputs + 2) * EPS * amplification * scale


def test_a_round_trip_through_scipy_keeps_impulse_response_and_adds_poles_at_zero():
    system = random_system()
    back = StateSpace.from_scipy(system.to_scipy())
    difference = back.impulse_response(30) - system.impulse_response(30)
    assert largest(difference) <= 2 * rounding_budget(system, torch.ones(1))
    assert back.A.shape == (8, 8)
    assert (back.poles() == 0).sum() == 3


@pytest.mark.usefixtures("as_users_see_it")
@pytest.mark.parametrize(
    "shapes",
    [
        [(5, 4), (5, 2), (3, 5), (3, 2)],
        [(5, 5), (4, 2), (3, 5), (3, 2)],
        [(5, 5), (5, 2), (3, 4), (3, 2)],
        [(5, 5), (5, 2), (3, 5), (2, 3)],
        [(7, 5, 5), (7, 5, 2), (7, 3, 5), (3, 2)],
        [(7, 5, 5), (7, 5, 2), (6, 3, 5), (7, 3, 2)],
        [(5, 5), (5,), (3, 5), (3, 2)],
        [(5, 5), (5, 2), (3, 5), ()],
    ],
)
def test_matrices_that_do_not_fit_are_refused(shapes):
    with pytest.raises(ShapeError, match=r"do not fit; give A \(…, state, state\)"):
        StateSpace(*(torch.zeros(shape, dtype=torch.float64) for shape in shapes))


@pytest.mark.usefixtures("as_users_see_it")
@pytest.mark.parametrize(
    ("misfit", "message"),
    [
        ("a", r"from_diagonal: a \(2, 1\), .*do not fit; give"),
        ("b", r"from_diagonal: .*b \(2, 1, 2\).*do not fit; give"),
        ("c", r"from_diagonal: .*c \(2, 3, 1\) do not fit; give"),
        ("D", r"StateSpace: .*D \(2, 3, 1\) do not fit; give"),
    ],
)
def test_a_diagonal_system_that_does_not_fit_is_refused(misfit, message):
    arguments = dict(zip("abcD", diagonal_arguments(2), strict=True))
    arguments[misfit] = arguments[misfit][..., :1, :] if misfit == "b" else arguments[misfit][..., :1]
    with pytest.raises(ShapeError, match=message):
        StateSpace.from_diagonal(**arguments, conjugate_pairs=True)


def test_single_precision_matrices_are_refused():
    system = random_system()
    with pytest.raises(ShapeError, match=r"B is torch.float32; give float64 matrices, B.double\(\)"):
        StateSpace(system.A, system.B.float(), system.C, system.D)


@pytest.mark.usefixtures("as_users_see_it")
@pytest.mark.parametrize(
    ("u", "x0", "message"),
    [
        ((10, 3), None, r"u is \(10, 3\); this system wants \(…, time, 2\)"),
        ((2,), None, r"u is \(2,\)"),
        ((10, 2), (4,), r"initial_state is \(4,\); this system wants \(…, 5\)"),
        ((8, 10, 2), None, r"leading axes of u, \(8, 10, 2\).*do not broadcast"),
        ((3, 10, 2), (8, 5), r"do not broadcast"),
    ],
)
def test_inputs_and_states_that_do_not_fit_are_refused(u, x0, message):
    with pytest.raises(ShapeError, match=message):
        random_system(3).simulate(random_input(*u), None if x0 is None else random_input(*x0))


@pytest.mark.parametrize("index", [None, 3, -4, (0, 0), ()])
def test_an_index_that_picks_no_system_is_refused(index):
    with pytest.raises(ConfigError, match=r"does not pick one system out of leading axes \(3,\)"):
        random_system(3).to_scipy(index)


def test_continuous_and_complex_systems_are_refused():
    with pytest.raises(UnsupportedError, match="discretise it first"):
        StateSpace.from_scipy(signal.lti([1.0], [1.0, 1.0]))
    with pytest.raises(UnsupportedError, match=r"complex; use StateSpace.from_diagonal"):
        StateSpace.from_scipy(signal.dlti([[0.5j]], [[1.0]], [[1.0]], [[0.0]]))


def test_without_scipy_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(MissingExtraError, match=r"longwave\[dev\]"):
        random_system().to_scipy()
