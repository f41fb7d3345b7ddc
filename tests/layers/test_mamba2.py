"""What is Mamba-2's own: its parameters as published, its initialisation, and the layer that transformers has."""

import pytest
import torch
from torch.nn.functional import softplus

from longwave import Mamba2
from longwave.errors import ConfigError, UnsupportedError


def test_parameters_have_the_published_names_and_shapes() -> None:
    shapes = {name: tuple(p.shape) for name, p in Mamba2(64, d_state=5, headdim=16, ngroups=2).named_parameters()}
    assert shapes == {
        "in_proj.weight": (2 * 128 + 2 * 2 * 5 + 8, 64),
        "conv1d.weight": (128 + 2 * 2 * 5, 1, 4),
        "conv1d.bias": (128 + 2 * 2 * 5,),
        "dt_bias": (8,),
        "A_log": (8,),
        "D": (8,),
        "norm.weight": (128,),
        "out_proj.weight": (64, 128),
    }
    assert Mamba2(8, D_has_hdim=True).D.shape == (16,)
    assert Mamba2(64).headdim == 64
    assert Mamba2(100).headdim == 8


def test_initialisation() -> None:
    torch.manual_seed(0)
    layer = Mamba2(1024, d_state=2, headdim=2, dt_min=0.01, dt_max=0.5, dt_init_floor=0.02)
    A, dt = layer.A_log.detach().exp(), softplus(layer.dt_bias).detach()
    assert 1 <= float(A.min()) < 1.1
    assert 15.9 < float(A.max()) <= 16
    assert float(dt.min()) == pytest.approx(0.02)
    assert 0.45 < float(dt.max()) <= 0.5 * (1 + 1e-5)
    assert float(dt.median()) == pytest.approx(0.005**0.5, rel=0.15)
    assert bool((layer.D == 1).all())


@pytest.mark.parametrize("ngroups", (1, 2))
def test_equals_the_mixer_of_transformers(ngroups: int) -> None:
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    torch.manual_seed(0)
    layer, x = Mamba2(16, d_state=6, headdim=4, ngroups=ngroups), torch.randn(2, 41, 16)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    config = Mamba2Config(
        hidden_size=16, state_size=6, head_dim=4, num_heads=8, n_groups=ngroups, chunk_size=16, num_hidden_layers=1
    )
    theirs = Mamba2Mixer(config, layer_idx=0)
    theirs.load_state_dict(layer.state_dict())
    results = []
    for model in (layer, theirs):
        leaf, parameters = x.clone().requires_grad_(), dict(model.named_parameters())
        y = model(leaf)
        leaves = [leaf, *(parameters[name] for name, _ in layer.named_parameters())]
        results.append([y.detach(), *torch.autograd.grad(y.square().sum(), leaves)])
    for ours, want in zip(*results, strict=True):
        assert float((ours - want).abs().max()) <= 1e-5 * float(want.abs().max())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d_conv": 0}, "d_conv=0"),
        ({"headdim": 3}, "headdim=3 and ngroups=1 do not divide the 8 channels"),
        ({"headdim": 4, "ngroups": 3}, "ngroups=3"),
        ({"chunk_size": 0}, "chunk_size=0"),
        ({"A_init_range": (0.0, 1.0)}, r"A_init_range=\(0.0, 1.0\)"),
        ({"dt_min": 0.2}, "low is 0.2 and high is 0.1"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Mamba2(4, **options)  # pyright: ignore[reportArgumentType]


def test_no_rate() -> None:
    layer, x = Mamba2(4), torch.zeros(1, 3, 4)
    for call in (lambda: layer(x, rate=2.0), lambda: layer.step(x[:, 0], layer.initial_state(1), rate=2.0)):
        with pytest.raises(UnsupportedError, match=r"rate=2\.0: Mamba2"):
            call()
