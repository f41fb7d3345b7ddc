"""The residual block: the same numbers however it is run, with every norm, and in both directions."""

import itertools

import pytest
import torch
from torch import Tensor

from longwave.errors import ConfigError, ShapeError, UnsupportedError
from longwave.layers import LRU, S4D, Block, LTIState
from mixer_cases import MIXER_CASES

WIDTH = 4
OPTIONS = list(itertools.product(["layer", "rms", "batch"], [True, False], [None, "mlp", "glu"]))
every_option = pytest.mark.parametrize(("norm", "prenorm", "feedforward"), OPTIONS)


def block(norm: str = "layer", prenorm: bool = True, feedforward: str | None = None, **options) -> Block:
    torch.manual_seed(0)
    layer = Block(S4D(WIDTH, 4), norm=norm, prenorm=prenorm, feedforward=feedforward, **options).double().eval()
    if norm == "batch":  # running statistics that are not those of a new layer
        layer.train()(torch.randn(3, 40, WIDTH, dtype=torch.float64))
    return layer.eval()


def two_way(**options) -> Block:
    return block(backward=LRU(WIDTH, 5), **options)


def inputs(length: int = 20, batch: int = 3) -> Tensor:
    return torch.randn(batch, length, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(length))


@every_option
@torch.no_grad()
def test_forward_is_prefill_is_step(norm: str, prenorm: bool, feedforward: str | None) -> None:
    layer, x = block(norm, prenorm, feedforward), inputs()
    y = layer(x)
    first, state = layer.prefill(x[:, :8])
    second, end = layer.prefill(x[:, 8:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), y)
    state = layer.initial_state(3)
    for t in range(20):
        y_t, state = layer.step(x[:, t], state)
        torch.testing.assert_close(y_t, y[:, t])
    torch.testing.assert_close(state.x, end.x)


@torch.no_grad()
def test_is_the_sum_of_its_branches() -> None:
    layer, x = block("layer", prenorm=True, feedforward="glu"), inputs()
    assert layer.feedforward is not None
    assert layer.feedforward_norm is not None
    z = x + layer.mixer(layer.norm(x))
    torch.testing.assert_close(layer(x), z + layer.feedforward(layer.feedforward_norm(z)))
    layer = block("layer", prenorm=False, feedforward="mlp")
    assert layer.feedforward is not None
    assert layer.feedforward_norm is not None
    z = layer.norm(x + layer.mixer(x))
    torch.testing.assert_close(layer(x), layer.feedforward_norm(z + layer.feedforward(z)))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("make", [block, two_way])
@every_option
def test_padding_has_no_influence(make, norm: str, prenorm: bool, feedforward: str | None, training: bool) -> None:
    layer, lengths = make(norm=norm, prenorm=prenorm, feedforward=feedforward).train(training), torch.tensor([20, 9, 1])
    x, more = inputs(), inputs(33)
    real = (torch.arange(20) < lengths[:, None])[..., None]
    statistics = {name: value.clone() for name, value in layer.state_dict().items()}
    y = layer(x, lengths=lengths)
    after = {name: value.clone() for name, value in layer.state_dict().items()}
    layer.load_state_dict(statistics)
    # The same rows under longer padding with other contents.
    padded = torch.cat([torch.where(real, x, 7.0), more[:, 20:]], 1)
    torch.testing.assert_close(layer(padded, lengths=lengths)[:, :20] * real, y * real)
    for name, value in layer.state_dict().items():
        torch.testing.assert_close(value, after[name])
    if norm != "batch" or not training:
        for row, length in enumerate(lengths.tolist()):
            torch.testing.assert_close(layer(x[row : row + 1, :length])[0], y[row, :length])


@torch.no_grad()
def test_two_ways_are_a_forward_and_a_reversed_mixer() -> None:
    layer, x, lengths = two_way(), inputs(), torch.tensor([20, 9, 1])
    assert layer.backward_mixer is not None
    y = layer(x, lengths=lengths)
    for row, length in enumerate(lengths.tolist()):
        own = x[row : row + 1, :length]
        z = layer.norm(own)
        expected = own + layer.mixer(z) + layer.backward_mixer(z.flip(1)).flip(1)
        torch.testing.assert_close(y[row, :length], expected[0])
    torch.testing.assert_close(layer(x)[1:2], layer(x[1:2]))


@torch.no_grad()
def test_packed_sequences_are_those_sequences_in_both_directions() -> None:
    layer, x = two_way(), inputs(batch=2)
    reset = torch.zeros(2, 20, dtype=torch.bool)
    reset[0, [0, 6, 7]] = reset[1, 12] = True
    y = layer(x, reset=reset, lengths=torch.tensor([20, 15]))
    for row, begins in ((0, [0, 6, 7, 20]), (1, [0, 12, 15])):
        for begin, end in itertools.pairwise(begins):
            torch.testing.assert_close(y[row, begin:end], layer(x[row : row + 1, begin:end])[0])


def test_two_ways_do_not_stream() -> None:
    layer, x = two_way(), inputs()
    with pytest.raises(UnsupportedError, match="prefill: a bidirectional model needs the whole sequence"):
        layer.prefill(x)
    with pytest.raises(UnsupportedError, match="step: a bidirectional"):
        layer.step(x[:, 0], LTIState(torch.zeros(3)))


def test_dropout_is_one_mask_for_the_sequence() -> None:
    torch.manual_seed(0)
    layer, x = Block(S4D(200, 2), dropout=0.3).train(), torch.randn(4, 30, 200)
    branch = layer(x) - x
    dropped = branch.abs().amax(1) < 1e-6  # x + 0 − x
    assert torch.equal(dropped, (branch[:, 3].abs() < 1e-6))
    # 800 independent draws: within four standard errors of p.
    assert abs(dropped.double().mean() - 0.3) < 4 * (0.3 * 0.7 / 800) ** 0.5
    undropped = layer.eval()(x) - x
    torch.testing.assert_close(branch, torch.where(dropped[:, None], 0.0, undropped / 0.7), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{"dropout": 0.1}, {"norm": "batch"}])
def test_stepping_in_training_mode_is_refused_where_it_would_differ(options: dict) -> None:
    layer, x = block(**options).train(), inputs()
    with pytest.raises(UnsupportedError, match=r"eval\(\)"):
        layer.step(x[:, 0], layer.initial_state(3))


def test_batch_norm_needs_two_positions() -> None:
    with pytest.raises(ShapeError, match="two real positions or more in training, got 1"):
        block("batch").train()(inputs(), lengths=torch.tensor([1, 0, 0]))


@torch.no_grad()
def test_batch_norm_is_torchs_over_the_real_positions() -> None:
    layer, x, lengths = block("batch").norm.train(), inputs(), torch.tensor([20, 9, 1])
    assert isinstance(layer, torch.nn.BatchNorm1d)
    real = torch.arange(20) < lengths[:, None]
    normalised = layer(x, lengths)[real]  # pyright: ignore[reportCallIssue]
    torch.testing.assert_close(normalised.mean(0), torch.zeros(WIDTH, dtype=torch.float64), rtol=0, atol=1e-12)
    variance = x[real].var(0, unbiased=False)
    torch.testing.assert_close(normalised.var(0, unbiased=False), variance / (variance + layer.eps))


@pytest.mark.parametrize("two_ways", [False, True])
def test_gradients_and_slow_parameters(two_ways: bool) -> None:
    layer = (two_way if two_ways else block)(feedforward="mlp", norm="rms")
    layer(inputs()).square().sum().backward()
    named = dict(layer.named_parameters())
    assert all(p.grad is not None and p.grad.any() for p in named.values())
    assert set(layer.slow_parameters()) <= named.keys()
    assert {name.split(".")[0] for name in layer.slow_parameters()} == (
        {"mixer", "backward_mixer"} if two_ways else {"mixer"}
    )


@pytest.mark.parametrize("norm", ["layer", "rms", "batch"])
@torch.no_grad()
def test_16_bit_and_autocast_keep_the_dtype(norm: str) -> None:
    layer, x = block(norm, feedforward="glu").float(), inputs().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.float32
        assert layer(x.bfloat16()).dtype == torch.bfloat16
    assert layer.bfloat16()(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "bach"}, "unknown norm 'bach' .did you mean 'batch'"),
        ({"feedforward": "mpl"}, "unknown feedforward 'mpl' .did you mean 'mlp'"),
        ({"dropout": -0.1}, "dropout=-0.1"),
        ({"backward": S4D(3, 2)}, "backward has d_model=3 but mixer has d_model=4"),
    ],
)
def test_impossible_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Block(S4D(WIDTH, 2), **options)


@pytest.mark.parametrize("case", MIXER_CASES, ids=lambda case: case.id)
@torch.no_grad()
def test_holds_every_mixer(case) -> None:
    layer, x = Block(case.build()).eval(), inputs().float()
    y, state = layer.prefill(x[:, :-1])
    y_t, _ = layer.step(x[:, -1], state)
    torch.testing.assert_close(torch.cat([y, y_t[:, None]], 1), layer(x))
