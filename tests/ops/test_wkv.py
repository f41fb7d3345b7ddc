"""RWKV's attention: its definition as a softmax, what transformers computes, weights of any size, packing."""

import pytest
import torch
from torch import Tensor
from transformers.models.rwkv.modeling_rwkv import rwkv_linear_attention_cpu

from longwave.ops import _native, wkv
from longwave.testing import make_inputs

IMPLEMENTATIONS = pytest.mark.parametrize("impl", ("reference", "cpu"))
every_isa = pytest.mark.parametrize(
    "native_isa", _native.kernels().available() if _native.available() else [None], indirect=True
)


def arguments(time: int = 150, dim: int = 19) -> list[Tensor]:
    """k, v, w, u and a state."""
    return list(make_inputs("wkv", batch=3, time=time, dim=dim).tensors.values())


def close(got: Tensor, want: Tensor, bound: float = 1e-13) -> None:
    torch.testing.assert_close(got, want, rtol=0, atol=bound * float(want.detach().abs().max()))


@IMPLEMENTATIONS
def test_it_is_a_softmax_over_the_past(impl: str) -> None:
    k, v, w, u, _ = arguments()
    t = torch.arange(150.0, dtype=torch.float64)
    age = (t[:, None] - 1 - t)[..., None]  # (t, i, 1)
    weights = torch.where(age >= 0, age * w, torch.where(age == -1, u, -torch.inf)) + k[:, None]
    close(wkv(k, v, w, u, impl=impl).y, (weights.softmax(2) * v[:, None]).sum(2))


@every_isa
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=str)
def test_equals_transformers(dtype: torch.dtype, native_isa: str | None) -> None:
    k, v, w, u, state = (x.float() for x in arguments())
    k, v = k.to(dtype), v.to(dtype)
    published = (state[:, 0], torch.ones_like(state[:, 0]), state[:, 1])
    for ours, theirs in ((None, None), (state, published)):
        got = wkv(k, v, w, u, ours, impl="cpu")
        want, (numerator, denominator, exponent) = rwkv_linear_attention_cpu(
            (-w).log(), u, k, v, state=theirs, return_state=True
        )
        # theirs rounds with every position, in the precision of v; here a few units of that
        close(got.y, want, 8 * torch.finfo(dtype).eps)
        close(got.final_state[:, 0], numerator / denominator, 1e-6)
        close(got.final_state[:, 1], exponent + denominator.log(), 1e-6)


@every_isa
@IMPLEMENTATIONS
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
def test_weights_of_any_size(impl: str, dtype: torch.dtype, native_isa: str | None) -> None:
    """Of values whose weights differ by e^thousands, the heaviest is the mean: exactly."""
    k = torch.tensor([-1e4, 1e4, 0.0, 2e4, -2e4, 1e6, -1e6], dtype=dtype)[None, :, None].requires_grad_()
    v = torch.arange(1.0, 8.0, dtype=dtype)[None, :, None].requires_grad_()
    w, u = torch.tensor([-0.5], dtype=dtype), torch.zeros(1, dtype=dtype)
    y, state = wkv(k, v, w, u, impl=impl)
    assert y.flatten().tolist() == [1, 2, 2, 4, 4, 6, 6]
    dk, dv = torch.autograd.grad(y.sum() + state[:, 0].sum(), (k, v))
    assert dk.isfinite().all()
    assert dv.flatten().tolist() == [1, 2, 0, 2, 0, 3, 0]


@every_isa
@IMPLEMENTATIONS
def test_without_decay_it_is_the_plain_mean(impl: str, native_isa: str | None) -> None:
    v = torch.randn(2, 1000, 5)
    zero = torch.zeros(5)
    y, state = wkv(torch.zeros_like(v), v, zero, zero, impl=impl)
    want = v.double().cumsum(1) / torch.arange(1, 1001)[:, None]
    bound = 1000 * torch.finfo(torch.float32).eps  # each of the additions rounds once
    close(y, want.float(), bound)
    close(state[:, 1], torch.full((2, 5), 1000.0).log(), bound)


@IMPLEMENTATIONS
def test_packing_by_indices_is_packing_by_resets_and_lengths(impl: str) -> None:
    k, v, w, u, state = arguments(time=9)
    indices = torch.tensor([[4, 4, 0, 0, 0, 1, 1, 1, 1], [2, 2, 2, 5, 5, 5, 5, -1, -1], [-1] * 9])
    reset = torch.zeros(3, 9, dtype=torch.bool)
    reset[0, [2, 5]] = reset[1, 3] = True
    got = wkv(k, v, w, u, state, seq_idx=indices, impl=impl)
    want = wkv(k, v, w, u, state, reset=reset, lengths=torch.tensor([9, 7, 0]), impl=impl)
    assert torch.equal(got.y, want.y)
    assert torch.equal(got.final_state, want.final_state)


@IMPLEMENTATIONS
def test_padding_in_the_middle_is_passed_over_forward_and_backward(impl: str) -> None:
    k, v, w, u, state = leaves = [x.requires_grad_() for x in arguments(time=9)]
    keep = [0, 1, 4, 5, 6, 7, 8]
    padded = wkv(*leaves, seq_idx=torch.tensor([[0, 0, -1, -1, 0, 0, 0, 0, 0]] * 3), impl=impl)
    plain = wkv(k[:, keep], v[:, keep], w, u, state, impl=impl)
    close(padded.y[:, keep], plain.y)
    close(padded.final_state, plain.final_state)
    assert not padded.y[:, 2:4].any()
    weight = torch.randn_like(plain.y)
    for got, want in zip(
        torch.autograd.grad((padded.y[:, keep] * weight).sum() + padded.final_state.sum(), leaves),
        torch.autograd.grad((plain.y * weight).sum() + plain.final_state.sum(), leaves),
        strict=True,
    ):
        close(got, want)


@IMPLEMENTATIONS
def test_no_gradient_reaches_the_sequence_before(impl: str) -> None:
    leaves = [x.requires_grad_() for x in arguments(time=90)]
    reset = torch.zeros(3, 90, dtype=torch.bool)
    reset[:, 70] = True
    y, state = wkv(*leaves, reset=reset, impl=impl)
    dk, dv, dstate = torch.autograd.grad(y[:, 70:].sum() + state.sum(), [leaves[0], leaves[1], leaves[4]])
    assert not any(gradient.any() for gradient in (dk[:, :70], dv[:, :70], dstate))
    assert dk[:, 70:].any()


def test_nothing_is_kept_for_a_backward_pass_that_cannot_come() -> None:
    k, v, w, u, _ = arguments()
    kept = torch.ops.longwave.wkv(k, v, w, u, None, None, True)[2]
    assert kept.numel() == 3 * 3 * 3 * 19  # rows, chunks, numbers, channels
    assert torch.ops.longwave.wkv(k, v, w, u, None, None, False)[2].numel() == 0
