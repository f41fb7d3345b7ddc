"""Right-padded batches: which positions are real, and each row reversed within its own length."""

import torch

from longwave.shapes import Bool, Int, Tensor


def real_positions(lengths: Int[Tensor, " batch"], time: int) -> Bool[Tensor, "batch time"]:
    """True where a position belongs to its row, False where it is padding."""
    return torch.arange(time, device=lengths.device) < lengths[:, None]


def reverse(x: Tensor, lengths: Int[Tensor, " batch"] | None) -> Tensor:
    """Reverse each row of x (batch, time, …) within its own length; padding stays where it is."""
    if lengths is None:
        return x.flip(1)
    time = torch.arange(x.shape[1], device=x.device)
    index = torch.where(real_positions(lengths, x.shape[1]), lengths[:, None] - 1 - time, time)
    return torch.take_along_dim(x, index.view(*index.shape, *(1,) * (x.ndim - 2)), dim=1)
