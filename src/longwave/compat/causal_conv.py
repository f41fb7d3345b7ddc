"""causal_conv1d's functions: a short depthwise convolution over sequences, and one from a cache that it moves on."""

from typing import Any

import torch

from longwave.errors import ShapeError
from longwave.layers.options import choose
from longwave.ops import short_conv
from longwave.shapes import Float, Int, Tensor

_ACTIVATIONS = {"silu": "silu", "swish": "silu"}


def causal_conv1d_fn(
    x: Float[Tensor, "batch dim time"],
    weight: Float[Tensor, "dim width"],
    bias: Float[Tensor, " dim"] | None = None,
    seq_idx: Int[Tensor, "batch time"] | None = None,
    initial_states: Float[Tensor, "batch dim taps"] | None = None,
    return_final_states: bool = False,
    final_states_out: Float[Tensor, "batch dim taps"] | None = None,
    activation: str | None = None,
) -> Any:
    """Convolve every channel with a few taps of its own, causally: `longwave.ops.short_conv`, time last.

    y[t] = f(Σ_j weight[j] x[t − width + 1 + j] + bias)

    Args:
        x: input, of any strides.
        weight: taps, the present's last; any number of them.
        bias: added before the activation.
        seq_idx: the sequence that a position belongs to, −1 for padding, whose outputs are zero.
        initial_states: the width − 1 inputs before the first position, oldest first.
        return_final_states: whether to return the last width − 1 inputs too, beside seq_idx as well.
        final_states_out: where to write them.
        activation: f: None, "silu" or "swish", which is the same.

    Returns:
        y, or y and the final states, all in the dtype of x and differentiable.

    Raises:
        ShapeError, ConfigError: as `short_conv`.

    Source: causal_conv1d 1.7.0, causal_conv1d_interface.

    Example:
        >>> causal_conv1d_fn(torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[10.0, 1.0]]))
        tensor([[[ 1., 12., 23.]]])
    """
    y, final = _convolve(x, weight, bias, initial_states, activation, seq_idx)
    if not return_final_states:
        return y
    return y, final if final_states_out is None else final_states_out.copy_(final)


def causal_conv1d_ref(
    x: Float[Tensor, "batch dim time"],
    weight: Float[Tensor, "dim width"],
    bias: Float[Tensor, " dim"] | None = None,
    initial_states: Float[Tensor, "batch dim taps"] | None = None,
    return_final_states: bool = False,
    final_states_out: Float[Tensor, "batch dim taps"] | None = None,
    activation: str | None = None,
    seq_idx: Int[Tensor, "batch time"] | None = None,
) -> Any:
    """`causal_conv1d_fn` in plain PyTorch, whatever the device; note the other order of arguments."""
    y, final = _convolve(x, weight, bias, initial_states, activation, seq_idx, impl="reference")
    if not return_final_states:
        return y
    return y, final if final_states_out is None else final_states_out.copy_(final)


def causal_conv1d_update(
    x: Float[Tensor, "batch dim *time"],
    conv_state: Float[Tensor, "slots dim length"],
    weight: Float[Tensor, "dim width"],
    bias: Float[Tensor, " dim"] | None = None,
    activation: str | None = None,
    cache_seqlens: Int[Tensor, " batch"] | None = None,
    conv_state_indices: Int[Tensor, " batch"] | None = None,
) -> Float[Tensor, "batch dim *time"]:
    """Convolve the next positions, one or several, with what a cache holds of those before; the cache is moved on.

    Args:
        x: the inputs at the next position, or at several.
        conv_state: the last inputs, oldest first, at least width − 1; written to, without gradients.
        weight, bias, activation: as in `causal_conv1d_fn`.
        cache_seqlens: positions before these: the cache is then a ring, in which position t stands at t mod length.
        conv_state_indices: the slot of the cache that a row has; a row with −1 is padding: its output is zero, and no
            slot changes.

    Returns:
        y, in the dtype and shape of x; differentiable in all but what is written.

    Raises:
        ShapeError: the cache is shorter than width − 1, or shapes do not fit.
        ConfigError: an unknown activation.

    Source: causal_conv1d 1.7.0, causal_conv1d_interface.
    """
    return _update(x, conv_state, weight, bias, activation, cache_seqlens, conv_state_indices, impl="auto")


def causal_conv1d_update_ref(
    x: Float[Tensor, "batch dim *time"],
    conv_state: Float[Tensor, "batch dim length"],
    weight: Float[Tensor, "dim width"],
    bias: Float[Tensor, " dim"] | None = None,
    activation: str | None = None,
    cache_seqlens: Int[Tensor, " batch"] | None = None,
) -> Float[Tensor, "batch dim *time"]:
    """`causal_conv1d_update` in plain PyTorch."""
    return _update(x, conv_state, weight, bias, activation, cache_seqlens, None, impl="reference")


def causal_conv1d_varlen_states(
    x: Float[Tensor, "time dim"], cu_seqlens: Int[Tensor, " ends"], state_len: int
) -> Float[Tensor, "batch dim state_len"]:
    """The last inputs of each of several sequences that stand one after the other, zeros where one is shorter.

    Args:
        x: the sequences.
        cu_seqlens: where each begins, and the end of the last.
        state_len: how many inputs of each.

    Returns:
        The caches that `causal_conv1d_update` goes on from.

    Source: causal_conv1d 1.7.0, causal_conv1d_varlen.
    """
    begins, ends = cu_seqlens[:-1, None], cu_seqlens[1:, None]
    place = ends - state_len + torch.arange(state_len, device=x.device)
    padded = torch.cat([x.new_zeros(state_len, x.shape[1]), x])
    return padded[torch.where(place >= begins, place + state_len, 0)].mT


causal_conv1d_varlen_states_ref = causal_conv1d_varlen_states


def causal_conv1d_fwd_function(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    seq_idx: Tensor | None,
    initial_states: Tensor | None,
    final_states_out: Tensor | None,
    silu_activation: bool,
) -> Tensor:
    """`causal_conv1d_fn` as causal_conv1d.cpp_functions has it; the final states are written, if there is a place."""
    y, final = _convolve(x, weight, bias, initial_states, "silu" if silu_activation else None, seq_idx)
    if final_states_out is not None:
        final_states_out.copy_(final)
    return y


def causal_conv1d_bwd_function(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    dout: Tensor,
    seq_idx: Tensor | None,
    initial_states: Tensor | None,
    dfinal_states: Tensor | None,
    dx: Tensor | None,
    return_dinitial_states: bool,
    silu_activation: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """The gradients of x, weight, bias and, if asked for, of the initial states, from those of the outputs.

    That of x is written to `dx`, if there is one.
    """
    if return_dinitial_states and initial_states is None:
        initial_states = x.new_zeros(*x.shape[:2], weight.shape[1] - 1)
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    bias, before = (None if v is None else v.detach().requires_grad_() for v in (bias, initial_states))
    leaves = [leaf for leaf in (x, weight, bias, before) if leaf is not None]
    with torch.enable_grad():
        y, final = _convolve(x, weight, bias, before, "silu" if silu_activation else None, seq_idx)
        outputs, gradients = ([y], [dout]) if dfinal_states is None else ([y, final], [dout, dfinal_states])
        found = list(torch.autograd.grad(outputs, leaves, gradients))
    dweight, dbias = found[1], None if bias is None else found[2]
    return found[0] if dx is None else dx.copy_(found[0]), dweight, dbias, found[-1] if return_dinitial_states else None


def causal_conv1d_update_function(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    silu_activation: bool,
    cache_seqlens: Tensor | None,
    conv_state_indices: Tensor | None,
) -> Tensor:
    """`causal_conv1d_update` as causal_conv1d.cpp_functions has it."""
    activation = "silu" if silu_activation else None
    return _update(x, conv_state, weight, bias, activation, cache_seqlens, conv_state_indices, impl="auto")


def _convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_states: Tensor | None,
    activation: str | None,
    seq_idx: Tensor | None,
    impl: str = "auto",
) -> tuple[Tensor, Tensor]:
    """y and the final states, time last, in the dtype of x."""
    f = None if activation is None else choose("activation", activation, _ACTIVATIONS)
    y, final = short_conv(x.mT, weight, bias, initial_states, activation=f, seq_idx=seq_idx, impl=impl)
    return y.mT, final.to(x.dtype)


def _update(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str | None,
    cache_seqlens: Tensor | None,
    slots: Tensor | None,
    impl: str,
) -> Tensor:
    taps, length = weight.shape[1] - 1, conv_state.shape[-1]
    if length < taps:
        raise ShapeError(f"conv_state holds {length} positions; weight has {taps + 1} taps and needs {taps} before x.")
    u = x[..., None] if x.ndim == 2 else x
    before = conv_state if slots is None else conv_state[slots.clamp(min=0).long()]
    if cache_seqlens is None:
        line = torch.cat([before, u.to(before.dtype)], -1)  # a copy: the cache itself is about to change
        seen, after = line[..., length - taps : length], line[..., -length:]
    else:
        place = (cache_seqlens.long()[:, None] + torch.arange(-taps, u.shape[-1], device=x.device)) % length
        place = place[:, None].expand(-1, x.shape[1], -1)
        seen = before.gather(-1, place[..., :taps])
        kept = min(length, u.shape[-1])  # what does not fit into the ring is forgotten at once
        after = before.scatter(-1, place[..., taps:][..., -kept:], u[..., -kept:].to(before.dtype))
    y, _ = _convolve(u, weight, bias, seen.to(u.dtype), activation, None, impl)
    y = y.reshape(x.shape)
    with torch.no_grad():
        if slots is None:
            conv_state.copy_(after)
            return y
        real = slots >= 0
        conv_state[slots[real].long()] = after[real]
    return torch.where(real.view(-1, *(1,) * (x.ndim - 1)), y, 0)
