"""Operations: functions of tensors with one definition (`reference`) and faster implementations held to it.

Everything is imported eagerly, so that a function is never shadowed by the folder of the same name.
"""

from longwave.ops._dispatch import Choice, explain
from longwave.ops.block_scan._api import BlockScan, block_scan
from longwave.ops.block_tables._api import BlockTables, block_tables
from longwave.ops.cauchy._api import Cauchy, cauchy
from longwave.ops.dense_step._api import DenseStep, dense_step
from longwave.ops.diagonal_ssm._api import DiagonalSSM, diagonal_ssm
from longwave.ops.gated_linear._api import GatedLinear, gated_linear
from longwave.ops.gated_norm._api import GatedNorm, gated_norm
from longwave.ops.hodlr_step._api import HODLRStep, hodlr_step
from longwave.ops.krylov._api import Krylov, krylov
from longwave.ops.linear._api import Linear, linear
from longwave.ops.linear_scan._api import LinearScan, linear_scan
from longwave.ops.long_conv._api import LongConv, long_conv
from longwave.ops.selective_scan._api import SelectiveScan, selective_scan
from longwave.ops.short_conv._api import ShortConv, short_conv
from longwave.ops.ssd._api import SSD, ssd
from longwave.ops.vandermonde._api import Vandermonde, vandermonde
from longwave.ops.wkv._api import WKV, wkv

__all__ = [
    "SSD",
    "WKV",
    "BlockScan",
    "BlockTables",
    "Cauchy",
    "Choice",
    "DenseStep",
    "DiagonalSSM",
    "GatedLinear",
    "GatedNorm",
    "HODLRStep",
    "Krylov",
    "Linear",
    "LinearScan",
    "LongConv",
    "SelectiveScan",
    "ShortConv",
    "Vandermonde",
    "block_scan",
    "block_tables",
    "cauchy",
    "dense_step",
    "diagonal_ssm",
    "explain",
    "gated_linear",
    "gated_norm",
    "hodlr_step",
    "krylov",
    "linear",
    "linear_scan",
    "long_conv",
    "selective_scan",
    "short_conv",
    "ssd",
    "vandermonde",
    "wkv",
]
