"""What the mixers of transformers have that a single token goes through as one call (`longwave.layers.one_token`)."""

from typing import Any

from longwave.layers.base import real_dtype
from longwave.layers.one_token import one_call_of
from longwave.ops._decoding import OneCall, Options
from longwave.shapes import Tensor

ModuleOfTransformers = Any  # its modules have no types of their own to name


def decay(A_log: Tensor) -> Tensor:
    """A, in the precision of the recurrence."""
    return -A_log.to(real_dtype(A_log.dtype)).exp()


def norm_groups(mixer: ModuleOfTransformers) -> tuple[int, bool]:
    """How many channels of Mamba-2's norm are a group, and whether it comes before the gate."""
    width, known = mixer.intermediate_size, vars(mixer.norm)  # of a module `hasattr` takes as long as a small product
    # Falcon-H1's norm knows how many groups there are, the others' how wide one is; before 5.23 some have but one
    group_size = width // known["n_groups"] if "n_groups" in known else known.get("group_size", width)
    return group_size, known.get("norm_before_gate", False)


def mamba(mixer: ModuleOfTransformers) -> OneCall | None:
    """Mamba without norms of dt, B and C."""
    plain = "dt_layernorm" not in mixer._modules
    return one_call_of(mixer, Options(mixer.ssm_state_size), decay(mixer.A_log), mixer.D) if plain else None


def mamba2(mixer: ModuleOfTransformers) -> OneCall | None:
    """Mamba-2, whose D is one number a head."""
    norm, heads = mixer.norm, mixer.num_heads
    sizes, limits = (mixer.ssm_state_size, heads, mixer.n_groups), tuple(mixer.time_step_limit)
    options = Options(*sizes, *norm_groups(mixer), limits, norm.variance_epsilon)
    D = mixer.D.repeat_interleave(mixer.intermediate_size // heads)
    return one_call_of(mixer, options, decay(mixer.A_log), D, norm)
