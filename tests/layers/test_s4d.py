"""S4D: its initial values, its kernel against SciPy and the textbook formula, its band limit and its rate."""

import math

import pytest
import torch
from scipy import signal
from torch import Tensor

from longwave.errors import ConfigError
from longwave.layers import S4D
from longwave.math import SPECTRA


def continuous(layer: S4D) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """dt, A, B, C in float64, straight from the parameters."""
    A = -layer.log_neg_A_real.double().exp() + 1j * layer.A_imag.double()
    B, C = layer.B.double(), layer.C.double()
    return layer.log_dt.double().exp(), A, B[..., 0] + 1j * B[..., 1], C[..., 0] + 1j * C[..., 1]


@pytest.mark.parametrize("init", ["legs", "inv", "lin", "real"])
def test_begins_as_the_paper_says(init: str) -> None:
    torch.manual_seed(0)
    layer = S4D(500, 16, init=init, dt_min=1e-3, dt_max=1e-1)
    dt, A, B, C = continuous(layer)
    torch.testing.assert_close(A, SPECTRA[init](8).expand(500, 8), rtol=1e-6, atol=1e-6)
    assert B.eq(1).all()
    # 4,000 draws: the standard error of each mean is below 0.02.
    assert abs(C.abs().square().mean() - 1) < 0.08
    assert abs(C.real.square().mean() - 0.5) < 0.06
    assert 1e-3 <= dt.min() < 1.1e-3
    assert 0.9e-1 < dt.max() <= 1e-1
    assert abs(dt.log10().mean() + 2) < 4 * (2 / math.sqrt(12)) / math.sqrt(500)


@pytest.mark.parametrize("discretization", ["zoh", "bilinear"])
@torch.no_grad()
def test_kernel_is_that_of_scipys_discretisation(discretization: str) -> None:
    torch.manual_seed(0)
    layer = S4D(3, 8, discretization=discretization).double()
    layer.B.normal_()
    kernel = layer.kernel(50)
    dt, A, B, C = continuous(layer)
    for h in range(3):
        # Both conjugates of each mode, as one dense complex system.
        a, b, c = (torch.cat([z[h], z[h].conj()]).numpy() for z in (A, B, C))
        Ad, Bd, *_ = signal.cont2discrete(
            (torch.diag(torch.tensor(a)).numpy(), b[:, None], c[None], [[0]]), dt[h].item(), method=discretization
        )
        x, k = torch.tensor(Bd)[:, 0], []
        for _ in range(50):
            k.append((torch.tensor(c) * x).sum().real)
            x = torch.tensor(Ad) @ x
        expected = torch.stack(k)
        expected[0] += layer.D[h]
        torch.testing.assert_close(kernel[h], expected)


@torch.no_grad()
def test_kernel_is_the_textbook_sum() -> None:
    torch.manual_seed(0)
    layer = S4D(5, 16, init="lin")
    dt, A, B, C = continuous(layer)
    dtA = dt[:, None] * A
    k = 2 * (C * B * (dtA.exp() - 1) / A)[..., None] * torch.exp(dtA[..., None] * torch.arange(1000))
    k = k.sum(1).real
    k[:, 0] += layer.D
    # Ā is rounded once: its powers are off by up to l ε, damped by |Ā|^l.
    assert (layer.kernel(1000) - k).abs().max() <= 1e-5 * k.abs().max()


@torch.no_grad()
def test_rate_two_is_every_other_sample_of_a_held_input() -> None:
    torch.manual_seed(0)
    layer, x = S4D(4, 8).double(), torch.randn(2, 50, 4, dtype=torch.float64)
    torch.testing.assert_close(layer(x, rate=2.0), layer(x.repeat_interleave(2, dim=1))[:, 1::2])


@torch.no_grad()
def test_bandlimit_silences_the_modes_above_it() -> None:
    torch.manual_seed(0)
    options = {"d_state": 16, "init": "lin", "dt_min": 0.2, "dt_max": 0.2, "output": None}
    limited = S4D(4, bandlimit=0.5, **options).double()
    # dt Im A = 0.2 π n < 0.5 π for n = 0, 1, 2.
    assert limited.system().C.ne(0).sum(-1).eq(3).all()
    assert limited.system(2.0).C.ne(0).sum(-1).eq(3).all()
    whole = S4D(4, bandlimit=None, **options).double()
    whole.load_state_dict(limited.state_dict())
    whole.C[:, 3:] = 0
    x = torch.randn(1, 20, 4, dtype=torch.float64)
    torch.testing.assert_close(limited(x), whole(x))


@torch.no_grad()
def test_a_slow_mode_at_path_x_steps_is_exact() -> None:
    """At dt·|A| = 5e-5 a float32 (e^z − 1)/A has an error of 1e-4; ours is rounded once."""
    layer = S4D(1, 2, init="real", dt_min=1e-4, dt_max=1e-4)
    layer.log_neg_A_real.fill_(math.log(0.5))
    z = 1e-4 * layer.log_dt.double().exp() / 1e-4 * -layer.log_neg_A_real.double().exp()
    exact = torch.expm1(z) / -layer.log_neg_A_real.double().exp()
    assert (layer.system().B.real.double() / exact - 1).abs() <= torch.finfo(torch.float32).eps


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d_state": 7}, "d_state=7 must be even"),
        ({"init": "legz"}, "unknown init 'legz' .did you mean 'legs'"),
        ({"discretization": "euler"}, "unknown discretization 'euler'"),
        ({"dt_min": 0.1, "dt_max": 0.01}, "low"),
        ({"bandlimit": 0.0}, "bandlimit=0.0"),
    ],
)
def test_impossible_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        S4D(4, **options)
