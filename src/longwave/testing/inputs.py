"""Random arguments for an operation, the same for the same seed, in double precision: the caller rounds them."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from longwave.errors import ConfigError


class Inputs(NamedTuple):
    """Positional tensors, of which every one can take a gradient, and keyword arguments."""

    tensors: dict[str, Tensor]
    options: dict[str, Any]


def make_inputs(
    op: str,
    *,
    batch: int = 2,
    time: int = 7,
    dim: int = 3,
    modes: int = 2,
    is_complex: bool = True,
    span: int = 3,
    groups: int = 1,
    seed: int = 0,
) -> Inputs:
    """Arguments of an operation: decays with |a| in (0.4, 1), everything else normal.

    Args:
        op: name of the operation.
        batch, time, dim, modes: sizes.
        is_complex: a complex or a real system.
        span: positions of a block, where there are blocks.
        groups: of channels that share weights, where an operation has them; of four heads each in `ssd`, where `dim`
            channels are those of a head.
        seed: of the random numbers.

    Returns:
        Tensors by name, in the order of the operation's signature, and no options.

    Raises:
        ConfigError: an operation without inputs here.
    """
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int, kind: bool = is_complex) -> Tensor:
        return torch.randn(*shape, dtype=torch.complex128 if kind else torch.float64, generator=rng)

    def decay(*shape: int) -> Tensor:
        size = 0.4 + 0.6 * torch.rand(*shape, dtype=torch.float64, generator=rng) ** 0.25
        phase = 6.3 * torch.rand(*shape, dtype=torch.float64, generator=rng)
        return torch.polar(size, phase) if is_complex else size

    if op == "linear_scan":
        tensors = {
            "a": decay(batch, time, dim),
            "b": normal(batch, time, dim),
            "initial_state": normal(batch, dim),
        }
    elif op == "diagonal_ssm":
        tensors = {
            "u": normal(batch, time, dim, kind=False),
            "A": decay(dim, modes),
            "B": normal(dim, modes),
            "C": normal(dim, modes),
            "D": normal(dim, kind=False),
            "initial_state": normal(batch, dim, modes),
        }
    elif op == "dense_step":  # of `modes` real states; a system for each group, so 1 or `dim` of them
        tensors = {
            "x": normal(batch, dim, modes, kind=False),
            "u": normal(batch, dim, kind=False),
            "A": normal(groups, modes, modes, kind=False) / modes**0.5,
            "B": normal(groups, modes, kind=False),
            "C": normal(dim, modes, kind=False),
            "D": normal(dim, kind=False),
        }
    elif op == "hodlr_step":  # 2^`groups` leaves of 16 `modes` states; whole vectors of columns
        leaves, leaf, columns = 1 << groups, 16 * modes, groups * 16 // math.gcd(groups, 16)
        tensors = {
            "x": normal(batch, dim, leaves * leaf, kind=False),
            "u": normal(batch, dim, kind=False),
            "near": normal(leaves, leaf, leaf, kind=False) / leaf**0.5,
            "gather": normal(leaves, leaf, columns, kind=False) / leaf**0.5,
            "spread": normal(leaves, columns, leaf, kind=False) / columns**0.5,
            "B": normal(leaves * leaf, kind=False),
            "C": normal(dim, leaves * leaf, kind=False),
            "D": normal(dim, kind=False),
        }
    elif op == "gated_linear":
        tensors = {
            "x": normal(batch, time, dim, kind=False),
            "weight": normal(2 * modes, dim, kind=False),
            "bias": normal(2 * modes, kind=False),
        }
    elif op == "linear":
        tensors = {
            "x": normal(batch, time, dim, kind=False),
            "weight": normal(modes, dim, kind=False),
            "bias": normal(modes, kind=False),
        }
    elif op == "gated_norm":
        tensors = {name: normal(batch, time, groups * dim, kind=False) for name in ("x", "z")}
        tensors["weight"] = normal(groups * dim, kind=False)
    elif op == "cauchy":  # `time` nodes, poles left of the axis on which they lie
        tensors = {
            "v": normal(dim, batch, modes, kind=True),
            "omega": 3 * normal(time, kind=False),
            "w": normal(dim, modes, kind=False).abs().neg() - 0.1 + 3j * normal(dim, modes, kind=False),
        }
    elif op in ("krylov", "block_tables"):  # matrices of rank 2; for krylov `batch` rows for each
        weak = 0.3 / modes**0.5
        tensors = {
            "A": decay(dim, modes) * (1 + 0j) - 1,
            "Q": weak * normal(dim, 2, modes, kind=True),
            "S": weak * normal(dim, 2, modes, kind=True),
        }
        if op == "krylov":
            tensors["v"] = normal(dim, batch, modes, kind=True)
        else:
            tensors |= {name: normal(dim, modes, kind=True) for name in ("B", "C")}
    elif op == "block_scan":  # `time` blocks of `span` positions, `modes` real states
        tensors = {
            "u": normal(dim, batch, time, span, kind=False),
            "transition": normal(dim, modes, modes, kind=False) / (2 * modes**0.5),
            "enter": normal(dim, span, modes, kind=False),
            "leave": normal(dim, span, modes, kind=False),
            "kernel": normal(dim, span, kind=False),
            "initial_state": normal(dim, batch, modes, kind=False),
        }
    elif op == "selective_scan":  # steps are positive without softplus too
        rate = torch.exp(normal(dim, modes, kind=False) - 1.5)
        tensors = {
            "u": normal(batch, time, dim, kind=False),
            "delta": 0.5 * normal(batch, time, dim, kind=False).abs(),
            "A": torch.complex(-rate, 3 * normal(dim, modes, kind=False)) if is_complex else -rate,
            "B": normal(batch, time, groups, modes),
            "C": normal(batch, time, groups, modes),
            "D": normal(dim, kind=False),
            "z": normal(batch, time, dim, kind=False),
            "delta_bias": 0.1 * normal(dim, kind=False).abs(),
            "initial_state": normal(batch, dim, modes),
        }
    elif op == "short_conv":  # of `modes` taps
        tensors = {
            "x": normal(batch, time, dim, kind=False),
            "weight": normal(dim, modes, kind=False),
            "bias": normal(dim, kind=False),
            "initial_state": normal(batch, dim, modes - 1, kind=False),
        }
    elif op == "wkv":
        tensors = {
            "k": 2 * normal(batch, time, dim, kind=False),
            "v": normal(batch, time, dim, kind=False),
            "w": -normal(dim, kind=False).exp(),
            "u": normal(dim, kind=False),
            "initial_state": normal(batch, 2, dim, kind=False),
        }
    elif op == "ssd":  # steps in (0, 1); D of each head if there is one group, else of each channel
        heads = 4 * groups
        tensors = {
            "x": normal(batch, time, heads, dim, kind=False),
            "dt": torch.rand(batch, time, heads, dtype=torch.float64, generator=rng),
            "A": -0.1 - 2 * torch.rand(heads, dtype=torch.float64, generator=rng),
            "B": normal(batch, time, groups, modes, kind=False),
            "C": normal(batch, time, groups, modes, kind=False),
            "D": normal(*((heads,) if groups == 1 else (heads, dim)), kind=False),
            "dt_bias": torch.rand(heads, dtype=torch.float64, generator=rng),
            "initial_state": normal(batch, heads, dim, modes, kind=False),
        }
    elif op == "vandermonde":
        tensors = {"a": decay(dim, modes), "w": normal(dim, modes)}
    elif op == "long_conv":
        tensors = {"u": normal(batch, time, dim, kind=False), "k": normal(dim, time, kind=False)}
    else:
        raise ConfigError(f"make_inputs knows no operation {op!r}.")
    return Inputs(tensors, {})
