"""What is `ssd`'s own: a closed form, what a reset does, decays without limits, steps that are left out."""

import pytest
import torch
from torch import Tensor

from longwave.ops import ssd

IMPLEMENTATIONS = pytest.mark.parametrize("impl", ("reference", "cpu"))


def arguments(time: int = 150, heads: int = 2) -> list[Tensor]:
    """x, dt, A, B, C of one row with one group."""
    torch.manual_seed(0)
    x, B, C = torch.randn(1, time, heads, 3), torch.randn(1, time, 1, 4), torch.randn(1, time, 1, 4)
    return [u.double() for u in (x, torch.rand(1, time, heads), -1 - torch.rand(heads), B, C)]


@IMPLEMENTATIONS
def test_a_constant_gives_a_geometric_sum(impl: str) -> None:
    time, one = 4096, torch.ones(1, 4096, 1, dtype=torch.float64)
    y, final = ssd(one[..., None], one, torch.tensor([-1e-3]).double(), one[..., None], one[..., None], impl=impl)
    r = torch.exp(torch.tensor([-1e-3]).double())
    want = (1 - r ** torch.arange(1, time + 1)) / (1 - r)
    assert float((y.flatten() - want).abs().max()) <= time * torch.finfo(torch.float64).eps * float(want.max())
    torch.testing.assert_close(final.flatten(), y[0, -1].flatten())


@IMPLEMENTATIONS
@pytest.mark.parametrize("at", (0, 5, 64, 70, 149))
def test_a_reset_forgets_even_what_is_no_number(impl: str, at: int) -> None:
    x, dt, A, B, C = arguments()
    reset = torch.zeros(1, 150, dtype=torch.bool)
    reset[0, at] = True
    nothing = torch.full((1, 2, 3, 4), torch.nan, dtype=torch.float64)
    y, final = ssd(x, dt, A, B, C, initial_state=nothing, reset=reset, impl=impl)
    want = ssd(*(u if u is A else u[:, at:] for u in (x, dt, A, B, C)), impl=impl)
    torch.testing.assert_close(y[:, at:], want.y)
    torch.testing.assert_close(final, want.final_state)


@IMPLEMENTATIONS
@pytest.mark.parametrize("dtype", (torch.float64, torch.float32))
def test_decays_without_limits_have_values_and_slopes(impl: str, dtype: torch.dtype) -> None:
    x, dt, A, B, C = (u.to(dtype) for u in arguments())
    dt = dt * torch.tensor([1e-30, 1e30], dtype=dtype)  # one head forgets nothing, the other everything
    leaves = [u.requires_grad_() for u in (x, dt, A, B, C)]
    y, final = ssd(*leaves, impl=impl)
    own = (B * C).sum(-1)[..., None] * (dt[..., None] * x)
    torch.testing.assert_close(y[:, :, 1], own[:, :, 1])
    for gradient in torch.autograd.grad((y[:, :, :1].sum(), final[:, :1].sum()), leaves):
        assert bool(gradient.isfinite().all())


@IMPLEMENTATIONS
def test_a_discrete_system_is_one_whose_steps_are_left_out(impl: str) -> None:
    x, dt, A, B, C = arguments()
    want = ssd(x, dt, A, B, C, impl=impl)
    got = ssd(dt[..., None] * x, None, dt * A, B, C, impl=impl)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


@IMPLEMENTATIONS
def test_padding_may_hold_anything(impl: str) -> None:
    tensors = arguments()
    want = ssd(*(u if u.ndim == 1 else u[:, :70] for u in tensors), impl=impl)
    for u in tensors:
        if u.ndim > 1:
            u[:, 70:] = torch.nan
    leaves = [u.requires_grad_() for u in tensors]
    y, final = ssd(*leaves, lengths=torch.tensor([70]), impl=impl)
    assert torch.equal(y[:, 70:], torch.zeros_like(y[:, 70:]))
    torch.testing.assert_close((y[:, :70], final), tuple(want))
    for gradient in torch.autograd.grad(y.sum() + final.sum(), leaves):
        assert bool(gradient.isfinite().all())


@IMPLEMENTATIONS
def test_small_decays_keep_their_digits(impl: str) -> None:
    """A logarithm near −80, rounded to float32 before its exponential is taken, would cost that 30 units."""
    a, one = torch.full((1, 50, 1), -1.6), torch.ones(1, 50, 1, 1)
    y = ssd(0 * one, None, a, one, one, initial_state=one[:, :1], impl=impl).y.flatten()
    want = a.double().cumsum(1).exp().flatten()
    assert float((y / want - 1).abs().max()) <= 4 * torch.finfo(torch.float32).eps


def test_where_nothing_is_before_or_behind_results_are_those_of_zeros() -> None:
    leaves = [u.requires_grad_() for u in arguments(heads=5)]
    zeros = torch.zeros(1, 5, 3, 4).double().requires_grad_()
    given, left_out = ssd(*leaves, initial_state=zeros, impl="cpu"), ssd(*leaves, impl="cpu")
    above = torch.randn_like(given.y)
    want = torch.autograd.grad(given, leaves, (above, torch.zeros_like(zeros)))
    got = torch.autograd.grad(left_out.y, leaves, above)
    for a, b in zip((*left_out, *got), (*given, *want), strict=True):
        assert torch.equal(a, b)


def test_gradients_of_x_B_and_C_lie_side_by_side() -> None:
    x, dt, A, B, C = (u.requires_grad_() for u in arguments(heads=5))
    gradients = torch.autograd.grad(ssd(x, dt, A, B, C, impl="cpu").y.sum(), [x, B, C])
    assert len({gradient.untyped_storage().data_ptr() for gradient in gradients}) == 1
    assert [gradient.storage_offset() for gradient in gradients] == [0, 5 * 3, 5 * 3 + 4]


def test_heads_of_a_group_add_up_the_gradients_of_B_and_C_however_many_they_are() -> None:
    torch.manual_seed(0)
    shapes = (
        (2, 150, 14, 3),
        (2, 150, 14),
        (14,),
        (2, 150, 2, 4),
        (2, 150, 2, 4),
    )  # seven heads: one more than a team has
    x, dt, A, B, C = (torch.rand(shape, dtype=torch.float64) for shape in shapes)
    leaves, above = [u.requires_grad_() for u in (x - 0.5, dt, -A, B - 0.5, C - 0.5)], torch.randn_like(x)
    for initial in (None, torch.randn(2, 14, 3, 4, dtype=torch.float64, requires_grad=True)):
        asked, gradients = [*leaves, *([] if initial is None else [initial])], []
        for impl in ("cpu", "reference"):
            y, final = ssd(*leaves, initial_state=initial, impl=impl)
            gradients.append(torch.autograd.grad((y * above).sum() + final.square().sum(), asked))
        for got, want in zip(*gradients, strict=True):
            torch.testing.assert_close(got, want)
