"""How large an error may be: derived from data, never tuned.

A fast implementation in some precision is held to the exact result, and allowed what the plain algorithm costs in the
same precision: twice its error, and one rounding of the largest value.
"""

import torch
from torch import Tensor


def error_budget(truth: Tensor, same_precision: Tensor) -> float:
    """The largest absolute error that an implementation may have.

    2 · max|same_precision − truth| + ε · max|truth|, with ε of the precision of `same_precision`.

    Args:
        truth: the exact result: float64, or better.
        same_precision: the plain algorithm's result in the precision of the implementation under test.

    Returns:
        An absolute error.

    Example:
        >>> import torch
        >>> from longwave.testing import error_budget
        >>> error_budget(torch.ones(2, dtype=torch.float64), torch.ones(2)) == torch.finfo(torch.float32).eps
        True
    """
    if truth.numel() == 0:
        return 0.0
    own = float((_wide(same_precision) - _wide(truth)).abs().max())
    return 2 * own + torch.finfo(same_precision.dtype).eps * float(truth.abs().max())


def assert_matches(actual: Tensor, truth: Tensor, budget: float, what: str) -> None:
    """Raise AssertionError unless `actual` has the shape of `truth` and lies within `budget` of it everywhere.

    Args:
        actual: the result under test.
        truth: the exact result.
        budget: the largest absolute error allowed, from `error_budget`.
        what: the name of the result, for the message.
    """
    if actual.shape != truth.shape:
        raise AssertionError(f"{what}: shape {tuple(actual.shape)} instead of {tuple(truth.shape)}")
    if truth.numel() == 0:
        return
    error = (_wide(actual) - _wide(truth)).abs()
    worst = float(error.max())  # a NaN fails the comparison below
    if not worst <= budget:
        at = tuple(int(i) for i in torch.unravel_index(error.nan_to_num(torch.inf).argmax(), error.shape))
        raise AssertionError(f"{what}: error {worst:.3g} at {at} exceeds the budget {budget:.3g}")


def _wide(x: Tensor) -> Tensor:
    return x.detach().to(torch.complex128 if x.is_complex() else torch.float64)
