"""mamba_ssm's modules: the published parameters, longwave's mathematics, and caches that go on where a text ended."""

from typing import Any

import pytest
import torch
from compared import normal
from torch import Tensor, nn

from longwave import layers
from longwave.compat.block import Block, GatedMLP
from longwave.compat.cached import Cached
from longwave.compat.generation import InferenceParams
from longwave.compat.mamba import Mamba
from longwave.compat.mamba2 import Mamba2, Mamba2Simple
from longwave.compat.mamba3 import Mamba3
from longwave.compat.residual_norms import RMSNorm
from longwave.compat.selective_scan import mamba_inner_fn
from longwave.compat.ssd import mamba_split_conv1d_scan_combined
from longwave.errors import ConfigError, ShapeError, UnsupportedError

WIDTH = 16
SMALL: dict[str, Any] = {"d_state": 8, "headdim": 8}
# name -> class, ours, options
CASES: dict[str, tuple[type[Cached], type[layers.Mixer], dict[str, Any]]] = {
    "mamba": (Mamba, layers.Mamba, {}),
    "mamba-options": (Mamba, layers.Mamba, {"d_state": 5, "d_conv": 2, "bias": True, "conv_bias": False}),
    "mamba2": (Mamba2, layers.Mamba2, SMALL),
    "mamba2-options": (
        Mamba2,
        layers.Mamba2,
        {**SMALL, "ngroups": 2, "D_has_hdim": True, "d_ssm": 16, "rmsnorm": False, "dt_limit": (0.01, 0.2)},
    ),
    "mamba3": (Mamba3, layers.Mamba3, SMALL),
    "mamba3-mimo": (Mamba3, layers.Mamba3, {**SMALL, "is_mimo": True, "mimo_rank": 2, "is_outproj_norm": True}),
}


def disturbed(module: nn.Module) -> Any:
    """Away from where it begins: zeros and ones hide mistakes."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * normal(*parameter.shape).to(parameter.dtype))
    return module


def made(case: str) -> Any:
    cls, _, options = CASES[case]
    torch.manual_seed(0)
    return disturbed(cls(WIDTH, layer_idx=3, **options).double())


PUBLISHED = {
    "mamba": (
        Mamba(768),
        {
            "A_log": (1536, 16),
            "D": (1536,),
            "in_proj.weight": (3072, 768),
            "conv1d.weight": (1536, 1, 4),
            "conv1d.bias": (1536,),
            "x_proj.weight": (80, 1536),
            "dt_proj.weight": (1536, 48),
            "dt_proj.bias": (1536,),
            "out_proj.weight": (768, 1536),
        },
    ),
    "mamba2": (
        Mamba2(768),
        {
            "dt_bias": (24,),
            "A_log": (24,),
            "D": (24,),
            "in_proj.weight": (3352, 768),
            "conv1d.weight": (1792, 1, 4),
            "conv1d.bias": (1792,),
            "norm.weight": (1536,),
            "out_proj.weight": (768, 1536),
        },
    ),
    "mamba2-simple": (
        Mamba2Simple(64, learnable_init_states=True),
        {
            "dt_bias": (1,),
            "A_log": (1,),
            "D": (1,),
            "init_states": (1, 128, 64),
            "in_proj.weight": (385, 64),
            "conv1d.weight": (256, 1, 4),
            "conv1d.bias": (256,),
            "norm.weight": (128,),
            "out_proj.weight": (64, 128),
        },
    ),
    "mamba3-siso": (
        Mamba3(768),
        {
            "dt_bias": (24,),
            "B_bias": (24, 1, 128),
            "C_bias": (24, 1, 128),
            "D": (24,),
            "in_proj.weight": (3432, 768),
            "B_norm.weight": (128,),
            "C_norm.weight": (128,),
            "out_proj.weight": (768, 1536),
        },
    ),
    "mamba3-mimo": (
        Mamba3(768, is_mimo=True),
        {
            "dt_bias": (24,),
            "B_bias": (24, 4, 128),
            "C_bias": (24, 4, 128),
            "mimo_x": (24, 4, 64),
            "mimo_z": (24, 4, 64),
            "mimo_o": (24, 4, 64),
            "D": (24,),
            "in_proj.weight": (4200, 768),
            "B_norm.weight": (128,),
            "C_norm.weight": (128,),
            "out_proj.weight": (768, 1536),
        },
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_of_the_published_models(name: str) -> None:
    layer, shapes = PUBLISHED[name]
    assert {key: tuple(tensor.shape) for key, tensor in layer.state_dict().items()} == shapes


@pytest.mark.parametrize(
    ("layer", "wide"),
    [
        (lambda **where: Mamba(16, **where), {"A_log", "D"}),
        (lambda **where: Mamba2(16, headdim=8, **where), {"D"}),
        (lambda **where: Mamba2Simple(16, headdim=8, **where), {"D"}),
        (lambda **where: Mamba3(16, headdim=8, is_mimo=True, **where),
         {"dt_bias", "B_bias", "C_bias", "mimo_x", "mimo_z", "mimo_o", "D"}),
    ],
)  # fmt: skip
def test_dtypes_devices_and_marks_are_those_of_the_originals(layer: Any, wide: set[str]) -> None:
    made = layer(device="meta", dtype=torch.bfloat16)
    assert {name for name, p in made.named_parameters() if p.dtype == torch.float32} == wide
    assert all(p.device.type == "meta" for p in made.parameters())
    marked = {name for name, p in made.named_parameters() if getattr(p, "_no_weight_decay", False)}
    assert marked == set(made.slow_parameters())
    assert {"D"} < marked
    y = layer(dtype=torch.bfloat16)(torch.randn(2, 5, 16, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16
    if isinstance(made, Mamba):
        assert made.dt_proj.bias._no_reinit  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("case", CASES)
def test_it_is_our_mixer(case: str) -> None:
    layer, x = made(case), normal(2, 9, WIDTH)
    _, cls, options = CASES[case]
    ours = cls(WIDTH, **options).double()
    ours.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x), ours(x))


@pytest.mark.parametrize("case", ["mamba", "mamba-options"])
def test_mamba_is_its_fused_function(case: str) -> None:
    layer, x = made(case), normal(2, 9, WIDTH)
    found = mamba_inner_fn(
        layer.in_proj(x).mT, layer.conv1d.weight, layer.conv1d.bias, layer.x_proj.weight, layer.dt_proj.weight,
        layer.out_proj.weight, layer.out_proj.bias, -layer.A_log.exp(), None, None, layer.D,
        delta_bias=layer.dt_proj.bias,
    )  # fmt: skip
    torch.testing.assert_close(layer(x), found, rtol=0, atol=1e-13)


@pytest.mark.parametrize("case", ["mamba2", "mamba2-options"])
def test_mamba_2_is_its_fused_function(case: str) -> None:
    layer, x = made(case), normal(2, 9, WIDTH)
    found = mamba_split_conv1d_scan_combined(
        layer.in_proj(x), layer.conv1d.weight[:, 0], layer.conv1d.bias, layer.dt_bias, -layer.A_log.exp(),
        layer.D.view(layer.nheads, -1) if layer.D_has_hdim else layer.D, 4, dt_limit=layer.dt_limit,
        rmsnorm_weight=layer.norm.weight if layer.rmsnorm else None, rmsnorm_eps=1e-5,
        outproj_weight=layer.out_proj.weight, headdim=layer.headdim, ngroups=layer.ngroups, norm_before_gate=False,
    )  # fmt: skip
    torch.testing.assert_close(layer(x), found, rtol=0, atol=1e-13)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_a_cache_goes_on_where_the_text_ended(case: str) -> None:
    layer, x = made(case), normal(2, 12, WIDTH)
    whole = layer(x)
    params, outputs = InferenceParams(max_seqlen=12, max_batch_size=2), []
    for count in (5, 1, 1, 3, 1, 1):  # whole chunks too, which the originals refuse
        place = params.seqlen_offset
        outputs.append(layer(x[:, place : place + count], inference_params=params))
        params.seqlen_offset += count
    torch.testing.assert_close(torch.cat(outputs, 1), whole, rtol=0, atol=1e-13)
    assert list(params.key_value_memory_dict) == [3]
    params.reset(12, 2)
    again = layer(x[:, :5], inference_params=params)  # the cache is overwritten, not gone on from
    torch.testing.assert_close(again, whole[:, :5], rtol=0, atol=1e-13)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_steps_write_to_the_cache_they_are_given(case: str) -> None:
    layer, x = made(case), normal(2, 6, WIDTH)
    cache = layer.allocate_inference_cache(2, max_seqlen=6)
    assert layer.allocate_inference_cache(2, 6, dtype=torch.bfloat16)[-1].dtype == torch.bfloat16
    for t in range(6):
        y, *after = layer.step(x[:, t : t + 1], *cache)
        assert y.shape == (2, 1, WIDTH)
        assert all(new is old for new, old in zip(after, cache, strict=True))
        torch.testing.assert_close(y[:, 0], layer(x)[:, t], rtol=0, atol=1e-13)


@pytest.mark.parametrize("case", CASES)
def test_gradients_reach_back_to_what_is_not_cached(case: str) -> None:
    layer, x = made(case), normal(2, 6, WIDTH).requires_grad_()
    params = InferenceParams(max_seqlen=6, max_batch_size=2)
    outputs = []
    for begin, end in ((0, 3), (3, 4), (4, 6)):
        outputs.append(layer(x[:, begin:end], inference_params=params))
        params.seqlen_offset = end
    torch.cat(outputs, 1).square().sum().backward()  # what is written to the caches must not be what autograd keeps
    assert x.grad is not None
    assert not any(tensor.requires_grad for tensor in params.key_value_memory_dict[3])


def test_shapes_of_caches() -> None:
    def shapes(case: str) -> list[tuple[int, ...]]:
        return [tuple(tensor.shape) for tensor in made(case).allocate_inference_cache(2, max_seqlen=9)]

    assert shapes("mamba") == [(2, 32, 4), (2, 32, 16)]
    assert shapes("mamba2") == [(2, 48, 4), (2, 4, 8, 8)]
    assert shapes("mamba3-mimo") == [(2, 4, 2), (2, 4, 8, 8), (2, 2, 4, 8), (2, 4, 8)]


@torch.no_grad()
def test_the_cached_inputs_are_the_last_ones() -> None:
    layer, x = made("mamba"), normal(1, 6, WIDTH)
    conv_state, ssm_state = layer.allocate_inference_cache(1, 6)
    for t in range(6):
        layer.step(x[:, t : t + 1], conv_state, ssm_state)
    inputs = layer.in_proj(x)[..., : layer.d_inner]
    torch.testing.assert_close(conv_state, inputs[:, -4:].mT, rtol=0, atol=1e-14)


@pytest.mark.parametrize("case", ["mamba2", "mamba2-options", "mamba3"])
@torch.no_grad()
def test_packed_sequences_are_as_if_alone(case: str) -> None:
    layer, x = made(case), normal(1, 9, WIDTH)
    ends = torch.tensor([0, 4, 4, 9], dtype=torch.int32)
    alone = torch.cat([layer(x[:, :4]), layer(x[:, 4:])], 1)
    seq_idx = torch.tensor([[0] * 4 + [2] * 5], dtype=torch.int32)
    for packing in ({"seq_idx": seq_idx}, {"cu_seqlens": ends}, {"seq_idx": seq_idx, "cu_seqlens": ends}):
        torch.testing.assert_close(layer(x, **packing), alone, rtol=0, atol=1e-13)
    padded = layer(x, seq_idx=torch.tensor([[0] * 4 + [-1] * 5]))
    torch.testing.assert_close(padded[:, :4], alone[:, :4], rtol=0, atol=1e-13)
    assert not padded[:, 4:].any()
    params = InferenceParams(max_seqlen=9, max_batch_size=3)
    torch.testing.assert_close(layer(x, cu_seqlens=ends, inference_params=params), alone, rtol=0, atol=1e-13)
    params.seqlen_offset = 9
    more = normal(3, 1, WIDTH, seed=1)
    following = layer(more, inference_params=params)
    for row, begin in ((0, x[:, :4]), (1, x[:, :0]), (2, x[:, 4:])):
        expected = layer(torch.cat([begin, more[row : row + 1]], 1))[:, -1]
        torch.testing.assert_close(following[row], expected, rtol=0, atol=1e-13)


def test_rows_without_an_axis_of_their_own() -> None:
    layer, x = made("mamba2"), normal(2, 5, WIDTH)
    assert torch.equal(layer(x.flatten(0, 1), seqlen=5), layer(x).flatten(0, 1))


def test_learned_initial_states() -> None:
    layer = disturbed(Mamba2Simple(WIDTH, **SMALL, learnable_init_states=True).double())
    x = normal(2, 6, WIDTH)
    ours = layers.Mamba2(WIDTH, **SMALL).double()
    ours.load_state_dict({name: tensor for name, tensor in layer.state_dict().items() if name != "init_states"})
    begin = ours.initial_state(2)
    expected, _ = ours.prefill(x, begin._replace(ssm=layer.init_states.expand_as(begin.ssm).contiguous()))
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-14)
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), layer.init_states)
    assert bool(gradient.any())
    alone = layers.Mamba2.forward(ours, x[:, 3:])
    packed = layer(x, seq_idx=torch.tensor([[0, 0, 0, 1, 1, 1]] * 2))
    torch.testing.assert_close(packed[:, 3:], alone, rtol=0, atol=1e-13)


def test_a_replaced_projection_is_used() -> None:
    """As adapters do, which put a module of their own in a projection's place."""
    layer, x = made("mamba"), normal(1, 4, WIDTH)
    doubled = nn.Sequential(layer.out_proj, nn.Linear(WIDTH, WIDTH, bias=False).double())
    with torch.no_grad():
        doubled[1].weight.copy_(2 * torch.eye(WIDTH))
    before = layer(x)
    layer.out_proj = doubled
    torch.testing.assert_close(layer(x), 2 * before)


def test_users_mistakes() -> None:
    with pytest.raises(UnsupportedError, match="process_group"):
        Mamba2(16, headdim=8, process_group=object())
    with pytest.raises(ConfigError, match="layer_idx"):
        Mamba(16)(torch.zeros(1, 2, 16), inference_params=InferenceParams(2, 1))
    with pytest.raises(ConfigError, match="unknown activation 'relu'"):
        Mamba2Simple(16, headdim=8, activation="relu")
    with pytest.raises(ConfigError, match="headdim=64"):
        Mamba2(16)
    with pytest.raises(ConfigError, match="d_ssm=48 is more than the 32"):
        Mamba2(16, headdim=8, d_ssm=48)
    with pytest.raises(ShapeError, match="must rise from 0"):
        made("mamba2")(normal(2, 5, WIDTH), cu_seqlens=torch.tensor([0, 5]))


@pytest.mark.parametrize("norm", [RMSNorm, nn.LayerNorm, nn.RMSNorm])
@pytest.mark.parametrize("fused", [False, True])
def test_a_block_adds_then_normalises(norm: Any, fused: bool) -> None:
    block = Block(WIDTH, Mamba, lambda dim: GatedMLP(dim, 20, multiple_of=8), norm, fused_add_norm=fused)
    block = disturbed(block.double())
    assert tuple(block.mlp.fc1.weight.shape) == (48, WIDTH)
    x, stream = normal(2, 5, WIDTH), normal(2, 5, WIDTH, seed=1)
    found, after = block(x, stream)

    def normalised(of: nn.Module, s: Tensor) -> Tensor:
        y = of(s)
        return y

    s = x + stream
    s = s + block.mixer(normalised(block.norm, s))
    value, gate = block.mlp.fc1(normalised(block.norm2, s)).chunk(2, -1)
    torch.testing.assert_close(after, s)
    torch.testing.assert_close(found, block.mlp.fc2(value * nn.functional.silu(gate)))
    first, begun = block(x)
    torch.testing.assert_close((first, begun), block(x, torch.zeros_like(x)))


def test_a_block_of_16_bits_keeps_its_stream_wide() -> None:
    where = {"dtype": torch.bfloat16}
    block = Block(
        WIDTH,
        lambda dim: Mamba(dim, layer_idx=0, **where),
        nn.Identity,
        lambda dim: RMSNorm(dim, **where),
        residual_in_fp32=True,
    )
    x = torch.randn(1, 4, WIDTH, dtype=torch.bfloat16)
    y, stream = block(x)
    assert (y.dtype, stream.dtype) == (torch.bfloat16, torch.float32)
    assert block.mlp is None
    assert [tuple(tensor.shape) for tensor in block.allocate_inference_cache(1, 4)] == [(1, 32, 4), (1, 32, 16)]
