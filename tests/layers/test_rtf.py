"""RTF: SciPy's filter, what is deployed and what is not, poles that are unstable, conversions."""

import warnings

import pytest
import torch
from scipy import signal
from torch import Tensor

from longwave.errors import ConfigError, UnsupportedError
from longwave.layers import DSS, LRU, LSSL, RTF, S4, S4D, S5
from longwave.math import StateSpace, rational
from longwave.models import Backbone, BackboneConfig


def layer_with_poles(total: float, n: int = 32, l_max: int = 256, dtype: torch.dtype = torch.float32) -> RTF:
    """Random coefficients with Σ|a| = total, and so stable below 1."""
    torch.manual_seed(0)
    layer = RTF(4, n, l_max=l_max, init="xavier", output=None).to(dtype)
    with torch.no_grad():
        layer.a.mul_(total / layer.a.abs().sum(-1, keepdim=True))
        layer.D.normal_()
    return layer.eval()


def deviation(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).abs().max() / b.double().abs().max())


@pytest.mark.parametrize("total", [0.5, 0.99])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_convolution_is_the_deployed_recurrence_by_scipy(dtype: torch.dtype, total: float) -> None:
    layer = layer_with_poles(total, dtype=dtype)
    A, C, D, _ = (part.double() for part in layer.system())
    numerator, denominator = (torch.cat([D[:, None], C + D[:, None] * A], 1), torch.cat([torch.ones(4, 1), A], 1))
    for length in (256, 700):
        x = torch.randn(1, length, 4, dtype=dtype)
        channels = zip(numerator.numpy(), denominator.numpy(), x[0].mT.double().numpy(), strict=True)
        y = torch.stack([torch.tensor(signal.lfilter(*channel)) for channel in channels], -1)
        assert deviation(layer(x)[0], layer.double().readout(y)) <= (1e-5 if dtype == torch.float32 else 1e-10)
        layer.to(dtype)


@torch.no_grad()
def test_the_published_correction_is_not_the_convolution() -> None:
    """It solves (I − Aᴸ) c = b̃, where the row vectors of b̃ = c (I − Aᴸ) want the transpose."""
    layer = layer_with_poles(0.99, n=8, l_max=17, dtype=torch.float64)
    A = torch.eye(8) - torch.linalg.matrix_power(rational.companion(layer.a), 17)
    k = layer.kernel(17)[:, 1:]
    transposed = torch.linalg.solve(A.mT, layer.b[..., None])[..., 0]
    published = torch.linalg.solve(A, layer.b[..., None])[..., 0]
    assert deviation(rational.response(layer.a, transposed, 16), k) <= 1e-10
    assert deviation(rational.response(layer.a, published, 16), k) > 1e-5


@torch.no_grad()
def test_lag_zero_is_D() -> None:
    layer = layer_with_poles(0.99, n=4, l_max=5)
    assert torch.equal(layer.kernel(5)[:, 0], layer.D)


@torch.no_grad()
def test_a_finite_impulse_response_is_exact() -> None:
    layer = RTF(2, 6, l_max=10).double()
    layer.b.normal_()
    assert not layer.a.any()
    expected = torch.cat([layer.D[:, None], layer.b, torch.zeros(2, 13)], 1)
    torch.testing.assert_close(layer.kernel(20), expected)


def test_begins_as_its_init_says() -> None:
    assert torch.equal(RTF(3, 5).kernel(4), torch.tensor([1.0, 0, 0, 0]).expand(3, 4))
    torch.testing.assert_close(RTF(3, 64, init="montel").a.abs().sum(-1), torch.full((3,), 0.5))
    assert RTF(3, 64, init="montel").spectral_radius().max() < 1
    assert RTF(100, 100, init="xavier").b.var().item() == pytest.approx(2 / 200, rel=0.1)


@torch.no_grad()
def test_unstable_poles_are_told_before_deployment() -> None:
    layer = RTF(2, 2, l_max=8)
    layer.a[1] = torch.tensor([-1.1, 0.0])
    x, message = torch.randn(1, 6, 2), r"1 of 2 channels are unstable, channel 1 with a pole of modulus 1.1"
    layer(x)
    for deploy in (
        lambda: layer.prefill(x),
        lambda: layer.step(x[:, 0], layer.initial_state(1)),
        lambda: layer.to_state_space(),
    ):
        with pytest.warns(RuntimeWarning, match=message):
            deploy()
    layer.a.mul_(0.8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer.prefill(x)


@torch.no_grad()
def test_takes_over_a_state_space_and_gives_it_back() -> None:
    torch.manual_seed(0)
    bank = S4D(3, 8, init="lin", dt_min=0.3, dt_max=0.3, output=None).double()
    layer = RTF(3, 8, l_max=200, output=None).double()
    assert layer.load_state_space(bank.to_state_space()) <= 1e-10
    assert deviation(layer.kernel(500), bank.kernel(500)) <= 1e-10
    again = RTF(3, 9, l_max=200).double()  # the state of n + 1 numbers has a further pole, at zero
    assert again.load_state_space(layer.to_state_space()) <= 1e-10


@pytest.mark.parametrize("dt", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("init", ["lin", "inv", "legs"])
@torch.no_grad()
def test_of_the_same_well_separated_poles_is_s4d(init: str, dt: float) -> None:
    torch.manual_seed(0)
    bank = S4D(3, 8, init=init, dt_min=dt, dt_max=dt, output=None).double().eval()
    layer, x = RTF(3, 8, l_max=200, output=None).double().eval(), torch.randn(2, 200, 3, dtype=torch.float64)
    assert layer.load_state_space(bank.to_state_space()) <= 1e-10
    assert deviation(layer.kernel(500), bank.kernel(500)) <= 1e-10
    assert deviation(layer(x), bank(x)) <= 1e-10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d_state", [4, 8, 16])
@torch.no_grad()
def test_a_conversion_reports_its_error_or_is_refused(d_state: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    for dt in (1e-3, 1e-2, 0.05, 0.1):
        system = S4D(3, d_state, dt_min=dt, dt_max=dt).to(dtype).to_state_space()
        layer = RTF(3, d_state, l_max=200).to(dtype)
        try:
            error = layer.load_state_space(system)
        except UnsupportedError:
            assert dt < 0.1
            continue
        truth = system.impulse_response(200)[:, 0, 0]
        assert error == pytest.approx(deviation(layer.kernel(200), truth), rel=1e-6)
        assert error < 0.1
        assert layer.spectral_radius().max() <= 1


@pytest.mark.parametrize("mixer", [S4, S4D, DSS, LSSL])
@torch.no_grad()
def test_takes_over_every_bank(mixer: type[S4 | S4D | DSS | LSSL]) -> None:
    torch.manual_seed(0)
    bank = mixer(3, 4, dt_min=0.2, dt_max=0.4).double()
    system = bank.to_state_space()
    layer = RTF(3, system.A.shape[-1], l_max=100).double()
    assert layer.load_state_space(system) <= 1e-10
    assert deviation(layer.kernel(300), bank.kernel(300)) <= 1e-10


@pytest.mark.parametrize("mixer", [S5, LRU])
def test_a_system_that_mixes_channels_is_no_bank(mixer: type[S5 | LRU]) -> None:
    with pytest.raises(ConfigError, match=r"this layer wants \(4, 8, 1\)"):
        RTF(4, 8).load_state_space(mixer(4, 8).to_state_space())


@torch.no_grad()
def test_a_conversion_that_would_be_unstable_is_refused() -> None:
    torch.manual_seed(0)
    layer, bank = RTF(3, 32), S4D(3, 32, dt_min=1e-3, dt_max=1e-3)
    before = layer.a.clone()
    with pytest.raises(UnsupportedError, match="too slow or too close"):
        layer.load_state_space(bank.to_state_space())
    assert torch.equal(layer.a, before)


@pytest.mark.usefixtures("unchecked")
def test_mistakes_are_named() -> None:
    layer = RTF(4)
    x = torch.zeros(1, 5, 4)
    for refused in (
        lambda: layer(x, rate=2.0),
        lambda: layer.prefill(x, rate=2.0),
        lambda: layer.kernel(5, 2.0),
        lambda: layer.step(x[:, 0], layer.initial_state(1), rate=0.5),
    ):
        with pytest.raises(UnsupportedError, match="rate="):
            refused()
    with pytest.raises(ConfigError, match="l_max=64 must exceed d_state=64"):
        RTF(4, 64, l_max=64)
    with pytest.raises(ConfigError, match="did you mean 'montel'"):
        RTF(4, init="montal")
    with pytest.raises(ConfigError, match=r"wants \(4, 64, 1\)"):
        layer.load_state_space(StateSpace(*(torch.zeros(4, 1, 1, dtype=torch.float64) for _ in range(4))))


def test_training_a_model_asks_for_no_poles_and_no_deployed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_much(*_: object) -> None:
        raise AssertionError("up to l_max one convolution is enough")

    monkeypatch.setattr(RTF, "_warn_if_unstable", too_much)
    monkeypatch.setattr(RTF, "_scan", too_much)
    for bidirectional in (False, True):
        config = BackboneConfig(d_model=4, n_layers=2, mixer="RTF", bidirectional=bidirectional)
        Backbone(config)(torch.randn(2, 30, 4)).sum().backward()
