"""Mixed precision: under bfloat16 autocast the state space system, the pooling and the decoder keep their precision."""

import itertools

import pytest
import torch
from test_heads import READS
from torch import Tensor

from longwave.layers import MIXERS, LTIMixer, dss, lru, rtf, s4d, s5
from longwave.models import BackboneConfig, Head

# mixer -> the operation that runs its system, where the mixer finds it, and how many tensors go in and out at least.
# LMU, LMUCell, LSSL and S4 run on no operation, S4 in 64 bits: test_the_system_loses_nothing has them too.
SYSTEMS = {
    "DSS": (dss, "diagonal_ssm", 4),
    "S4D": (s4d, "diagonal_ssm", 4),
    "S5": (s5, "linear_scan", 4),
    "RTF": (rtf, "long_conv", 3),
    "LRU": (lru, "linear_scan", 4),
}
# What is not {"d_state": 8}: RTF's zeros would leave its denominator without a gradient, RWKV's nearly everything.
OPTIONS = {"RTF": {"d_state": 8, "init": "montel"}, "RetNet": {"heads": 2}, "RWKV": {"zero_init": False}}
# Matrices of a mixer that round under autocast: those of a selective one make the very numbers that its system runs on.
PROJECTIONS = {"Mamba": 4, "Mamba2": 2, "Mamba3": 2, "RetNet": 5, "RWKV": 4}
every_model = pytest.mark.parametrize(("mixer", "read"), list(itertools.product(MIXERS, READS)))
mixed = torch.autocast("cpu", dtype=torch.bfloat16)


def model_of(mixer: str, read: str, **options) -> Head:
    torch.manual_seed(0)
    small: dict[str, object] = OPTIONS.get(mixer, {"d_state": 8})
    return READS[read](BackboneConfig(d_model=16, n_layers=2, mixer=mixer, mixer_options=small, **options))


def inputs() -> Tensor:
    return torch.randn(4, 50, 2, generator=torch.Generator().manual_seed(1))


def matrices(mixer: str, feedforward: int = 0) -> int:
    """Those that round between x and y: the encoder, and in each of two blocks the mixer's and the network's."""
    return 1 + 2 * (PROJECTIONS.get(mixer, 1) + feedforward)


def gradients(model: Head, y: Tensor) -> dict[str, Tensor]:
    names = dict(model.named_parameters())
    return dict(zip(names, torch.autograd.grad(y.square().mean(), model.parameters()), strict=True))


@pytest.mark.parametrize(("mixer", "read"), list(itertools.product(SYSTEMS, READS)))
def test_the_system_runs_in_32_bits(mixer: str, read: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, name, tensors = SYSTEMS[mixer]
    run, seen = getattr(module, name), []

    def watched(*given: Tensor | None, **options: Tensor | None):
        result = run(*given, **options)
        seen.extend(x.dtype for x in (*given, *result) if x is not None)
        return result

    monkeypatch.setattr(module, name, watched)
    with mixed:
        model_of(mixer, read)(inputs())
    assert len(seen) >= 2 * tensors
    assert set(seen) <= {torch.float32, torch.complex64}


@pytest.mark.parametrize("mixer", [mixer for mixer in MIXERS if mixer not in PROJECTIONS])
def test_the_system_loses_nothing(mixer: str) -> None:
    """Without a matrix after it, a mixer gives the very same numbers, forward, streaming and backward."""
    options = {"output": None} if issubclass(MIXERS[mixer], LTIMixer) else {}
    layer, x = MIXERS[mixer](16, d_state=8, **options), torch.randn(4, 50, 16)  # pyright: ignore
    y, (y_t, _) = layer(x), layer.step(x[:, 0], layer.initial_state(4))
    expected = torch.autograd.grad(y.square().sum(), layer.parameters())
    with mixed:
        again, (again_t, _) = layer(x), layer.step(x[:, 0], layer.initial_state(4))
    assert torch.equal(again, y)
    assert torch.equal(again_t, y_t)
    for a, b in zip(torch.autograd.grad(again.square().sum(), layer.parameters()), expected, strict=True):
        assert torch.equal(a, b)


@every_model
def test_no_more_is_lost_than_16_bits_lose(mixer: str, read: str) -> None:
    """The matrices between x and y round to 8 bits, and their results do."""
    model, x = model_of(mixer, read, feedforward="glu"), inputs()
    exact = model(x)
    with mixed:
        y = model(x)
    assert y.dtype == torch.float32
    assert 0 < (y - exact).abs().max() < 2 * matrices(mixer, 2) * 2**-9 * exact.abs().max()


@every_model
def test_gradients_are_32_bit_and_close(mixer: str, read: str) -> None:
    model, x = model_of(mixer, read), inputs()
    expected = gradients(model, model(x))
    with mixed:
        y = model(x)
    for name, gradient in gradients(model, y).items():
        assert gradient.dtype == torch.float32, name
        assert gradient.isfinite().all(), name
        assert gradient.ne(0).any(), name
        # Every matrix forward, and two products for each backward. What belongs to a whole head is a sum over channels
        # and positions that nearly cancels: it is held against the gradient of its mixer.
        mine = name.rpartition(".")[0] if mixer in ("Mamba2", "Mamba3") and gradient.ndim == 1 else name
        scale = torch.stack([g.norm() for n, g in expected.items() if n.startswith(mine)]).norm()
        assert (gradient - expected[name]).norm() < 2 * 3 * matrices(mixer) * 2**-9 * scale, name


@every_model
@torch.no_grad()
def test_the_decoder_does_not_round(mixer: str, read: str) -> None:
    model, x = model_of(mixer, read).eval(), inputs()
    read_out: list[Tensor] = []
    model.decoder.register_forward_hook(lambda module, args, output: read_out.append(args[0]))
    with mixed:
        y = model(x)
    assert torch.equal(y, model.decoder(read_out[0]))
    assert (y.bfloat16() != y).any()


@every_model
@torch.no_grad()
def test_streaming_stays_close_to_the_whole(mixer: str, read: str) -> None:
    model, x = model_of(mixer, read).eval(), inputs()
    with mixed:
        whole, state = model(x), model.initial_state(4)
        for x_t in x.unbind(1):
            y_t, state = model.step(x_t, state)
    whole = whole[:, -1] if read == "every" else whole
    assert (y_t - whole).abs().max() < 2 * matrices(mixer) * 2**-9 * whole.abs().max()
