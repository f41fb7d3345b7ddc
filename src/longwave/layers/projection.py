"""The matrices around a recurrence, for sequences."""

import torch
from torch import nn

from longwave.ops import linear
from longwave.shapes import Tensor


def project(matrix: nn.Linear, x: Tensor) -> Tensor:
    """matrix(x), by our operation; by torch's module under autocast, which chooses the dtype of torch's functions only,
    and where something else stands in the matrix's place."""
    if type(matrix) is not nn.Linear or torch.is_autocast_enabled(x.device.type):
        return matrix(x)
    return linear(x, matrix.weight, matrix.bias).y
