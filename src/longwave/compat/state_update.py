"""One position of a selective scan, in place, as mamba_ssm's models decode."""

import torch
import torch.nn.functional as F

from longwave.ops import _decoding, selective_scan
from longwave.shapes import Float, Int, Tensor


@torch.no_grad()
def selective_state_update(
    state: Float[Tensor, "slots *heads dim modes"],
    x: Float[Tensor, "batch *heads dim"],
    dt: Float[Tensor, "batch *heads dim"],
    A: Float[Tensor, "*heads dim modes"],
    B: Float[Tensor, "batch *groups modes"],
    C: Float[Tensor, "batch *groups modes"],
    D: Float[Tensor, "*heads dim"] | None = None,
    z: Float[Tensor, "batch *heads dim"] | None = None,
    dt_bias: Float[Tensor, "*heads dim"] | None = None,
    dt_softplus: bool = False,
    state_batch_indices: Int[Tensor, " batch"] | None = None,
) -> Float[Tensor, "batch *heads dim"]:
    """Move the states of a selective scan on by one position, in place, and read them.

    h ← exp(dt A) ⊙ h + dt B x,  y = (C · h + D x) silu(z),  dt ← softplus(dt + dt_bias)

    Args:
        state: h, with an axis of heads or without; written to.
        x: the input.
        dt: the step, before its bias.
        A: eigenvalues. Where A and dt are one number a head, expanded, as Mamba-2 has them, one exponential is taken.
        B: input weights; head h has those of group h // (heads // groups).
        C: output weights.
        D: skip weights.
        z: the gate, before SiLU.
        dt_bias: added to dt.
        dt_softplus: whether dt is the softplus of the sum.
        state_batch_indices: the slot of the state that a row has; a row with −1 is padding, and its output zero.

    Returns:
        y, in the dtype of x; without gradients.

    Numerics: in float32 at least, whatever the dtypes; states of 16 bits are rounded once.

    Source: mamba_ssm 2.3.2, ops.triton.selective_state_update.

    Example:
        >>> h, one = torch.ones(1, 1, 1), torch.ones(1, 1)
        >>> selective_state_update(h, one, one, torch.zeros(1, 1), one, 3 * one), h
        (tensor([[6.]]), tensor([[[2.]]]))
    """
    if state.ndim == 3:  # channels without heads are one head
        state, x, dt, B, C = (v[:, None] for v in (state, x, dt, B, C))
        D, dt_bias = (None if v is None else v[None] for v in (D, dt_bias))
        z = None if z is None else z[:, None]
        y = selective_state_update(state, x, dt, A[None], B, C, D, z, dt_bias, dt_softplus, state_batch_indices)
        return y[:, 0]
    if state_batch_indices is None:
        return update_states(state, x, dt, A, B, C, D, z, dt_bias, dt_softplus)
    h, real = state[state_batch_indices.clamp(min=0).long()], state_batch_indices >= 0
    y = update_states(h, x, dt, A, B, C, D, z, dt_bias, dt_softplus)
    state[state_batch_indices[real].long()] = h[real]
    return torch.where(real[:, None, None], y, 0)


def update_states(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    dt_softplus: bool,
    dt_limit: tuple[float, float] | None = None,
) -> Tensor:
    """As `selective_state_update`, with heads and a state for each row; dt may have limits."""
    wide = torch.promote_types(torch.promote_types(state.dtype, x.dtype), torch.float32)
    h = state.to(wide)
    if A.stride()[-2:] == (0, 0) and dt.stride(-1) == 0 and (dt_bias is None or dt_bias.stride(-1) == 0):
        A, dt, dt_bias = A[..., :1, :1], dt[..., :1], None if dt_bias is None else dt_bias[..., :1]
    if _decoding.takes(h, x, dt, A, B, C, D, z, dt_bias) and h.shape[1] % B.shape[1] == 0:
        y = _decoding.advance(h, x, dt, A, B, C, D, z, dt_bias, dt_softplus, dt_limit)
    else:
        dt = dt.to(wide) if dt_bias is None else dt.to(wide) + dt_bias
        dt = F.softplus(dt) if dt_softplus else dt
        dt = dt if dt_limit is None else dt.clamp(*dt_limit)
        u = x.to(wide)
        B, C = (v.to(wide).repeat_interleave(h.shape[1] // v.shape[1], 1) for v in (B, C))
        h.mul_((dt[..., None] * A).exp_()).addcmul_((dt * u)[..., None], B[:, :, None])
        y = (h @ C[..., None])[..., 0]
        y = y if D is None else y.addcmul_(D.to(wide), u)
        y = y if z is None else y.mul_(F.silu(z.to(wide)))
    if state.dtype != wide:
        state.copy_(h)
    return y.to(x.dtype)


def selective_state_update_ref(
    state: Float[Tensor, "batch *heads dim modes"],
    x: Float[Tensor, "batch *heads dim"],
    dt: Float[Tensor, "batch *heads dim"],
    A: Float[Tensor, "*heads dim modes"],
    B: Float[Tensor, "batch *groups modes"],
    C: Float[Tensor, "batch *groups modes"],
    D: Float[Tensor, "*heads dim"] | None = None,
    z: Float[Tensor, "batch *heads dim"] | None = None,
    dt_bias: Float[Tensor, "*heads dim"] | None = None,
    dt_softplus: bool = False,
) -> Float[Tensor, "batch *heads dim"]:
    """`selective_state_update` by its definition: `longwave.ops.selective_scan` over one position; differentiable."""
    modes = state.shape[-1]
    y, after = selective_scan(
        x.reshape(len(x), 1, -1),
        dt.reshape(len(x), 1, -1),
        A.reshape(-1, modes),
        B.reshape(len(x), 1, -1, modes),
        C.reshape(len(x), 1, -1, modes),
        None if D is None else D.reshape(-1),
        None if z is None else z.reshape(len(x), 1, -1),
        None if dt_bias is None else dt_bias.reshape(-1),
        state.reshape(len(x), -1, modes),
        delta_softplus=dt_softplus,
        impl="reference",
    )
    state.copy_(after.reshape(state.shape))
    return y.reshape(x.shape)
