"""The matrices around a recurrence, for sequences."""

import torch
import torch.nn.functional as F
from torch import nn

from longwave.ops import linear
from longwave.shapes import Tensor


def project(matrix: nn.Module, x: Tensor) -> Tensor:
    """matrix(x), by our operation; by torch's module where something else stands in the matrix's place."""
    return project_by(matrix.weight, matrix.bias, x) if type(matrix) is nn.Linear else matrix(x)


def project_by(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """W x + c, by our operation; by torch's under autocast, which chooses the dtype of torch's functions only."""
    return F.linear(x, weight, bias) if torch.is_autocast_enabled(x.device.type) else linear(x, weight, bias).y
