"""LSSL: its matrices against SciPy, its kernel and its blocks against the plain recurrence, its shared A."""

import numpy as np
import pytest
import torch
from scipy import linalg, signal

from longwave.errors import ConfigError
from longwave.layers import LSSL
from longwave.math import legs

METHODS = {0.0: "euler", 0.25: "gbt", 0.5: "bilinear", 1.0: "backward_diff"}


@torch.no_grad()
@pytest.mark.parametrize("alpha", METHODS)
def test_matrices_are_those_of_scipy(alpha: float) -> None:
    torch.manual_seed(0)
    layer, (A, B) = LSSL(3, 8, alpha=alpha).double(), legs(8)
    system, dt = layer.to_state_space(rate=1.5), 1.5 * layer.log_dt.exp()
    for h in range(3):
        Ad, Bd, *_ = signal.cont2discrete(
            (A.numpy(), B[:, None].numpy(), np.ones((1, 8)), [[0]]), dt[h].item(), method=METHODS[alpha], alpha=alpha
        )
        np.testing.assert_allclose(system.A[h], Ad, rtol=0, atol=1e-13)
        np.testing.assert_allclose(system.B[h], Bd, rtol=0, atol=1e-13)


@torch.no_grad()
@pytest.mark.parametrize("length", [0, 1, 2, 3, 17, 489])
def test_krylov_kernel_is_the_dense_powers(length: int) -> None:
    torch.manual_seed(0)
    layer = LSSL(2, 16).double()
    system = layer.to_state_space()
    kernel = layer.kernel(length)
    assert kernel.shape == (2, length)
    for l in range(length):
        k = system.C @ torch.linalg.matrix_power(system.A, l) @ system.B + (system.D if l == 0 else 0)
        torch.testing.assert_close(kernel[:, l], k[:, 0, 0], rtol=0, atol=1e-12 * system.C.abs().max().item() * 16)


@torch.no_grad()
def test_a_small_step_is_the_continuous_system() -> None:
    """The bilinear rule is of second order: k[l]/dt tends to C e^{l dt A} B, which SciPy's expm gives."""
    torch.manual_seed(0)
    (A, B), errors = legs(6), []
    layer = LSSL(1, 6).double()
    layer.D.zero_()
    for steps in (100, 200):
        layer.log_dt.fill_(np.log(1 / steps))
        # Inputs held for a step act, on average, half a step before its end.
        k = layer.C.numpy() @ linalg.expm(A.numpy() * (1 + 0.5 / steps)) @ B.numpy()
        errors.append(abs(layer.kernel(steps + 1)[0, steps] * steps - k[0]).item())
    assert errors[1] < errors[0] / 3.9


@pytest.mark.parametrize("d_state", [64, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_blocks_are_the_recurrence_at_the_published_sizes(d_state: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = LSSL(2, d_state).to(dtype)
    x, start = torch.randn(2, 1047, 2, dtype=dtype), torch.randn(2, 2, d_state, dtype=dtype)
    y, final = layer._scan(layer.system(), x, start, None, None)
    truth = layer.to_state_space().simulate(x.mT[..., None], start)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    assert (y - truth.y[..., 0].mT).abs().max() <= tolerance * truth.y.abs().max()
    assert (final - truth.final_state).abs().max() <= tolerance * truth.final_state.abs().max()


@torch.no_grad()
def test_legs_stays_stable_after_rounding() -> None:
    """A + Aᵀ = −I − B Bᵀ: the bilinear rule makes of it a contraction, with room for the rounding of Ā."""
    layer = LSSL(6, 64)
    layer.log_dt.copy_(torch.linspace(-4, 0, 6) * np.log(10))
    assert torch.linalg.matrix_norm(layer.to_state_space().A, ord=2).max() < 1


@torch.no_grad()
def test_a_learned_matrix_begins_as_the_fixed_one_for_all_channels() -> None:
    fixed, learned = LSSL(5, 7), LSSL(5, 7, learned=True)
    assert {name for name, _ in learned.named_parameters()} - {name for name, _ in fixed.named_parameters()} == {
        "A",
        "B",
    }
    assert learned.A.shape == (7, 7)
    learned.load_state_dict(fixed.state_dict(), strict=False)
    k = fixed.kernel(50)
    # A itself is rounded to float32 where it is a parameter.
    assert (learned.kernel(50) - k).abs().max() <= 1e-5 * k.abs().max()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.1}, "alpha=1.1"),
        ({"alpha": -0.1}, "alpha=-0.1"),
        ({"d_state": 0}, "d_state=0"),
        ({"dt_min": 0.0}, "low"),
    ],
)
def test_impossible_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LSSL(4, **options)
