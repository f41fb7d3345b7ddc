"""Which of several processes this one is: the first writes the run folder and speaks, the others compute."""

from __future__ import annotations

import os

__all__ = ["is_first_process"]

# Set by torchrun, by Lightning for the processes that it starts, and by Slurm.
_NUMBERS = ("RANK", "NODE_RANK", "LOCAL_RANK", "SLURM_PROCID")


def is_first_process() -> bool:
    """Whether this is the only process of a training, or the first of several."""
    return all(int(os.environ.get(name, 0)) == 0 for name in _NUMBERS)
