"""What is Mamba's own: its parameters as published, its initialisation, and the model that transformers has."""

import math
import os
import shutil
from pathlib import Path

import pytest
import torch
from torch._inductor import config as inductor
from torch.nn.functional import softplus

from longwave import Mamba
from longwave.errors import ConfigError, UnsupportedError


def test_parameters_have_the_published_names_and_shapes() -> None:
    shapes = {name: tuple(p.shape) for name, p in Mamba(48, d_state=5).named_parameters()}
    assert shapes == {
        "A_log": (96, 5),
        "D": (96,),
        "in_proj.weight": (192, 48),
        "conv1d.weight": (96, 1, 4),
        "conv1d.bias": (96,),
        "x_proj.weight": (3 + 2 * 5, 96),
        "dt_proj.weight": (96, 3),
        "dt_proj.bias": (96,),
        "out_proj.weight": (48, 96),
    }
    assert {"in_proj.bias", "out_proj.bias"} <= dict(Mamba(4, bias=True).named_parameters()).keys()
    assert "conv1d.bias" not in dict(Mamba(4, conv_bias=False).named_parameters())


def test_initialisation() -> None:
    torch.manual_seed(0)
    layer = Mamba(512, dt_min=0.01, dt_max=0.5, dt_init_floor=0.02)
    torch.testing.assert_close(layer.A_log.exp(), torch.arange(1.0, 17).expand(1024, 16))
    assert bool((layer.D == 1).all())
    dt = softplus(layer.dt_proj.bias).detach()
    assert math.isclose(float(dt.min()), 0.02, rel_tol=1e-5)  # below the floor begins what is drawn
    assert float(dt.max()) <= 0.5 * (1 + 1e-5)
    # log-uniform above the floor: the mean of log dt there is the middle, to four standard errors
    above = dt[dt > 0.0201].log()
    assert (
        abs(float(above.mean()) - 0.5 * (math.log(0.0201) + math.log(0.5)))
        <= 4 * float(above.std()) / len(above) ** 0.5
    )
    bound = 1 / math.sqrt(layer.dt_rank)
    assert layer.dt_rank == 32
    assert 0.99 * bound <= float(layer.dt_proj.weight.detach().abs().max()) <= bound
    constant = Mamba(32, dt_init="constant", dt_scale=0.5, dt_rank=4)
    assert bool((constant.dt_proj.weight == 0.25).all())


@pytest.mark.parametrize(
    "options", ({}, {"d_state": 3, "d_conv": 2, "bias": True, "conv_bias": False}), ids=("defaults", "options")
)
def test_equals_the_mixer_of_transformers(options: dict[str, int]) -> None:
    from transformers import MambaConfig
    from transformers.models.mamba.modeling_mamba import MambaMixer

    torch.manual_seed(0)
    layer, x = Mamba(24, **options), torch.randn(2, 40, 24)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    config = MambaConfig(
        hidden_size=24,
        state_size=layer.d_state,
        conv_kernel=layer.conv1d.kernel_size[0],
        use_bias=options.get("bias", False),
        use_conv_bias=options.get("conv_bias", True),
        num_hidden_layers=1,
    )
    theirs = MambaMixer(config, layer_idx=0)
    theirs.load_state_dict(layer.state_dict())
    results = []
    for model in (layer, theirs):
        leaf = x.clone().requires_grad_()
        y = model(leaf)
        parameters = dict(model.named_parameters())
        grads = torch.autograd.grad(
            y.square().sum(), [leaf, *(parameters[name] for name, _ in layer.named_parameters())]
        )
        results.append([y, *grads])
    for ours, want in zip(*results, strict=True):
        assert bool((ours - want).abs().max() <= 1e-5 * want.abs().max())


def test_the_step_selects() -> None:
    """A channel whose dt is zero keeps its state; one whose dt is large forgets it."""
    layer = Mamba(4, d_state=2, expand=1)
    with torch.no_grad():
        layer.dt_proj.weight.zero_()
        layer.dt_proj.bias.copy_(torch.tensor([-200.0, -200.0, 200.0, 200.0]))
    state = layer.initial_state(1)._replace(ssm=torch.randn(1, 4, 2))
    _, after = layer.prefill(torch.randn(1, 3, 4), state)
    assert torch.equal(after.ssm[0, :2], state.ssm[0, :2])
    _, without = layer.prefill(torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0)), state)
    _, fresh = layer.prefill(torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(without.ssm[0, 2:], fresh.ssm[0, 2:])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # of inductor's own imports
@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="inductor needs a C++ compiler")
def test_compiled_by_inductor_it_is_the_same_layer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # nothing of an earlier run
    torch.compiler.reset()
    torch.manual_seed(0)
    layer, x = Mamba(8), torch.randn(2, 70, 8)
    parameters, results = list(layer.parameters()), []
    with inductor.patch(compile_threads=1):
        for function in (layer, torch.compile(layer, fullgraph=True)):
            y = function(x)
            results.append((y, *torch.autograd.grad(y.square().sum(), parameters)))
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d_conv": 0}, "d_conv=0"),
        ({"expand": -1}, "expand=-1"),
        ({"dt_rank": 0}, "dt_rank=0"),
        ({"dt_rank": "full"}, "dt_rank='full' must be 'auto' or"),
        ({"dt_min": 0.2}, "dt_min=0.2 is larger than dt_max=0.1"),
        ({"dt_max": math.inf}, "dt_max=inf"),
        ({"dt_scale": 0.0}, "dt_scale=0.0"),
        ({"dt_init": "randon"}, "did you mean 'random'"),
    ],
)
def test_unknown_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Mamba(4, **options)  # pyright: ignore[reportArgumentType]


def test_no_rate() -> None:
    layer, x = Mamba(4), torch.zeros(1, 3, 4)
    for call in (lambda: layer(x, rate=2.0), lambda: layer.step(x[:, 0], layer.initial_state(1), rate=2.0)):
        with pytest.raises(UnsupportedError, match=r"rate=2\.0: Mamba learns a step"):
            call()
