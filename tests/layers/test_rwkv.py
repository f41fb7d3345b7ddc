"""RWKV: the whole published model from our blocks, its initialisation, and the state of its feed-forward network."""

import math

import pytest
import torch
from torch import Tensor
from transformers import RwkvConfig, RwkvModel

from longwave.errors import ConfigError, ShapeError, UnsupportedError
from longwave.layers import RWKV, S4D, Block, BlockState, Mixer, RWKVChannelMix, map_state
from longwave.models import Backbone
from longwave.models.backbone import BackboneConfig
from mixer_views import TOLERANCE, deviation, every_dtype

WIDTH = 16
NAMES = {"attention": "mixer", "ln1": "norm", "ln2": "feedforward_norm", "feed_forward": "feedforward"}


def block(dtype: torch.dtype = torch.float64) -> Block:
    torch.manual_seed(0)
    place = {"layer": 1, "layers": 3, "zero_init": False}
    return Block(RWKV(8, **place), feedforward=RWKVChannelMix(8, **place)).to(dtype).eval()


def published(**changes: int) -> RwkvModel:
    """transformers' model with weights that all matter."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": WIDTH, "num_hidden_layers": 2}
    model = RwkvModel(RwkvConfig(**{**sizes, "context_length": 64, **changes})).eval()
    for name, parameter in model.named_parameters():
        if "time_" not in name:
            torch.nn.init.normal_(parameter, 1.0 if name.endswith("weight") and "ln" in name else 0.0, 0.3)
    return model


def ours(model: RwkvModel) -> Backbone:
    """The same model as a backbone."""
    options = {"d_attention": model.config.attention_hidden_size}
    config = BackboneConfig(WIDTH, 2, mixer="RWKV", mixer_options=options, feedforward="rwkv")
    backbone, weights = Backbone(config).eval(), {}
    for name, weight in model.state_dict().items():
        first, *middle, last = name.replace("ln_out", "norm").split(".")
        if first in ("blocks", "norm") and "pre_ln" not in middle:
            weights[".".join([first, *(NAMES.get(part, part) for part in middle), last])] = weight
    backbone.load_state_dict(weights)
    return backbone


@torch.no_grad()
def test_the_whole_model_equals_transformers_and_so_does_its_state() -> None:
    model = published()
    backbone, ids = ours(model), torch.randint(50, (3, 40))
    x = model.blocks[0].pre_ln(model.embeddings(ids))
    state = theirs = None
    for now in (slice(0, 25), slice(25, 40)):
        want = model(ids[:, now], state=theirs, use_cache=True)
        y, state = backbone.prefill(x[:, now], state)
        theirs = want.state
        assert deviation(y, want.last_hidden_state) <= 1e-5
        for i, (mixer, feedforward) in enumerate(state):
            before, attended, numerator, denominator, exponent = (part[..., i] for part in theirs)
            mean, log_weight = mixer.wkv.unbind(1)
            assert deviation(feedforward.x, before) <= 1e-5
            assert deviation(mixer.x, attended) <= 1e-5
            assert deviation(mean, numerator / denominator) <= 1e-5
            assert deviation(log_weight, exponent + denominator.log()) <= 1e-5
    assert deviation(backbone(x)[:, 25:], y) <= 1e-5


@torch.no_grad()
def test_a_wide_attention_equals_transformers() -> None:
    model, ids = published(attention_hidden_size=24), torch.randint(50, (3, 40))
    want = model(ids, use_cache=False).last_hidden_state  # whose state does not fit its attention
    assert deviation(ours(model)(model.blocks[0].pre_ln(model.embeddings(ids))), want) <= 1e-5


def test_begins_as_transformers_begins_it_but_for_u() -> None:
    model = published(num_hidden_layers=3)
    for i, theirs in enumerate(model.blocks):
        mixer, feedforward = RWKV(WIDTH, layer=i, layers=3), RWKVChannelMix(WIDTH, layer=i, layers=3)
        for mine, other in ((mixer, theirs.attention), (feedforward, theirs.feed_forward)):
            for name, parameter in mine.named_parameters():
                if name.startswith("time_") and name != "time_first":
                    torch.testing.assert_close(parameter, getattr(other, name))
    # log 0.3 and a zigzag, as published
    torch.testing.assert_close(mixer.time_first[:3].detach(), math.log(0.3) + torch.tensor([0.0, 0.5, -0.5]))


def test_a_new_network_is_the_identity_and_learns_in_every_parameter_after_a_few_steps() -> None:
    torch.manual_seed(0)
    layer, x = Block(RWKV(8), feedforward="rwkv"), torch.randn(2, 30, 8)
    assert torch.equal(layer(x), x)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    for _ in range(4):
        optimizer.zero_grad()
        (layer(x) - x.roll(1, 1)).square().mean().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.any() for p in layer.parameters())
    value = RWKV(8, 12).value.weight  # orthogonal, and larger where it widens
    torch.testing.assert_close(value.mT @ value, 1.5 * torch.eye(8))


def test_a_backbone_tells_its_blocks_their_depth() -> None:
    backbone = Backbone(BackboneConfig(8, 3, mixer="RWKV", feedforward="rwkv"))
    for i, each in enumerate(backbone.blocks):
        for part, other in (
            (each.mixer, RWKV(8, layer=i, layers=3)),
            (each.feedforward, RWKVChannelMix(8, layer=i, layers=3)),
        ):
            assert torch.equal(part.time_mix_key, other.time_mix_key)
    fixed = Backbone(BackboneConfig(8, 3, mixer="RWKV", mixer_options={"layer": 1, "layers": 9}))
    assert torch.equal(fixed.blocks[0].mixer.time_decay, RWKV(8, layer=1, layers=9).time_decay)


def stepped(layer: Mixer, x: Tensor, state: BlockState) -> tuple[Tensor, BlockState]:
    ys = []
    for x_t in x.unbind(1):
        y_t, state = layer.step(x_t, state)
        ys.append(y_t)
    return torch.stack(ys, 1), state


def assert_equal_states(a: BlockState, b: BlockState) -> None:
    torch.testing.assert_close((*a.mixer, *a.feedforward), (*b.mixer, *b.feedforward))


@every_dtype
@torch.no_grad()
def test_the_block_hands_both_states_on(dtype: torch.dtype) -> None:
    layer, x = block(dtype), torch.randn(2, 200, 8, dtype=dtype)
    y, state = layer.prefill(x)
    first, between = layer.prefill(x[:, :77])
    second, end = layer.prefill(x[:, 77:], between)
    by_step, last = stepped(layer, x, layer.initial_state(2))
    for view in (layer(x), torch.cat([first, second], 1), by_step):
        assert deviation(view, y) <= TOLERANCE[dtype]
    for other in (end, last):
        torch.testing.assert_close(other.feedforward.x, state.feedforward.x)
        assert deviation(other.mixer.wkv, state.mixer.wkv) <= TOLERANCE[dtype]
    copies = map_state(torch.clone, between)
    layer.step(x[:, 0], between)
    assert_equal_states(between, copies)


@torch.no_grad()
def test_the_block_pads_and_packs_both_states() -> None:
    layer, x, lengths = block(), torch.randn(3, 20, 8, dtype=torch.float64), torch.tensor([20, 9, 0])
    start = map_state(torch.randn_like, layer.initial_state(3))
    reset = torch.zeros(3, 20, dtype=torch.bool)
    reset[0, [0, 6, 7]] = reset[1, [4, 15]] = True
    y, state = layer.prefill(x, start, lengths=lengths, reset=reset)
    for row, begin, end in ((0, 0, 6), (0, 6, 7), (0, 7, 20), (1, 4, 9)):
        alone, final = layer.prefill(x[row : row + 1, begin:end])
        torch.testing.assert_close(y[row, begin:end], alone[0])
        if end == lengths[row]:
            assert_equal_states(map_state(lambda s, row=row: s[row : row + 1], state), final)
    torch.testing.assert_close(y[1:2, :4], layer.prefill(x[1:2, :4], map_state(lambda s: s[1:2], start))[0])
    assert_equal_states(map_state(lambda s: s[2:], state), map_state(lambda s: s[2:], start))


def test_gradients_pass_through_both_states() -> None:
    layer, x = block(), torch.randn(1, 4, 8, dtype=torch.float64, requires_grad=True)
    state = map_state(lambda s: torch.randn_like(s).requires_grad_(), layer.initial_state(1))

    def run(x: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
        y, after = layer.prefill(x, BlockState(type(state.mixer)(*parts[:2]), type(state.feedforward)(*parts[2:])))
        return y, *after.mixer, *after.feedforward

    assert torch.autograd.gradcheck(run, (x, *state.mixer, *state.feedforward))


def test_any_mixer_may_stand_in_the_place_of_the_network() -> None:
    torch.manual_seed(0)
    layer, x = Block(RWKV(8), feedforward=S4D(8, 4)).double(), torch.randn(2, 30, 8, dtype=torch.float64)
    y, _ = layer.prefill(x)
    torch.testing.assert_close(stepped(layer, x, layer.initial_state(2))[0], y)
    torch.testing.assert_close(layer(x), x + layer.feedforward(layer.feedforward_norm(x)))  # a new RWKV adds nothing
    assert {name.split(".")[0] for name in layer.slow_parameters()} == {"feedforward"}
    both_ways = Block(S4D(8, 4), backward=S4D(8, 4))
    with pytest.raises(UnsupportedError, match="bidirectional"):
        Block(RWKV(8), feedforward=both_ways).prefill(x.float())


def test_16_bits_and_autocast_keep_the_dtype() -> None:
    layer, x = block(torch.float32), torch.randn(2, 20, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = layer.prefill(x)
        assert y.dtype == torch.float32
    narrow, _ = layer.bfloat16().prefill(x.bfloat16(), state)
    assert narrow.dtype == torch.bfloat16
    assert {s.dtype for s in (*state.mixer, *state.feedforward)} == {torch.float32}


@pytest.mark.usefixtures("unchecked")
def test_mistakes_are_named() -> None:
    layer, x = block(torch.float32), torch.zeros(2, 5, 8)
    state = layer.initial_state(2)
    with pytest.raises(UnsupportedError, match=r"rate=2.0: RWKV mixes positions"):
        layer.mixer(x, rate=2.0)
    with pytest.raises(UnsupportedError, match="rate=2"):
        RWKVChannelMix(8)(x, rate=2.0)
    with pytest.raises(ShapeError, match=r"state must have shape \(2, 8\)"):
        layer.prefill(x, BlockState(state.mixer, layer.initial_state(3).feedforward))
    with pytest.raises(ConfigError, match="layer=3 must lie in"):
        RWKV(8, layer=3, layers=3)
    with pytest.raises(ConfigError, match="d_hidden=0"):
        RWKVChannelMix(8, 0)
    with pytest.raises(ConfigError, match="feedforward has d_model=4 but mixer has d_model=8"):
        Block(RWKV(8), feedforward=RWKVChannelMix(4))
    with pytest.raises(ConfigError, match=r"unknown feedforward 'rkwv' .did you mean 'rwkv'"):
        Block(RWKV(8), feedforward="rkwv")
