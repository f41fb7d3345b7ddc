"""Sequence mixers under one contract, and the blocks that stack them."""

from collections.abc import Mapping
from types import MappingProxyType

from longwave.layers.base import LTIMixer, LTIState, Mixer, map_state
from longwave.layers.block import Block, BlockState
from longwave.layers.dss import DSS
from longwave.layers.hippo import HiPPO, HiPPOState
from longwave.layers.lmu import LMU
from longwave.layers.lmu_cell import LMUCell, LMUCellState
from longwave.layers.lru import LRU
from longwave.layers.lssl import LSSL
from longwave.layers.mamba import Mamba, MambaState
from longwave.layers.mamba2 import Mamba2, Mamba2State
from longwave.layers.mamba3 import Mamba3, Mamba3State
from longwave.layers.retnet import RetNet, RetNetState
from longwave.layers.rtf import RTF
from longwave.layers.rwkv import RWKV, RWKVChannelMix, RWKVChannelMixState, RWKVState
from longwave.layers.s4 import S4
from longwave.layers.s4d import S4D
from longwave.layers.s5 import S5

# name -> mixer
MIXERS: Mapping[str, type[Mixer]] = MappingProxyType(
    {
        "LMU": LMU,
        "LMUCell": LMUCell,
        "LSSL": LSSL,
        "S4": S4,
        "DSS": DSS,
        "S4D": S4D,
        "S5": S5,
        "RTF": RTF,
        "LRU": LRU,
        "Mamba": Mamba,
        "Mamba2": Mamba2,
        "Mamba3": Mamba3,
        "RetNet": RetNet,
        "RWKV": RWKV,
    }
)

__all__ = [
    "DSS",
    "LMU",
    "LRU",
    "LSSL",
    "MIXERS",
    "RTF",
    "RWKV",
    "S4",
    "S4D",
    "S5",
    "Block",
    "BlockState",
    "HiPPO",
    "HiPPOState",
    "LMUCell",
    "LMUCellState",
    "LTIMixer",
    "LTIState",
    "Mamba",
    "Mamba2",
    "Mamba2State",
    "Mamba3",
    "Mamba3State",
    "MambaState",
    "Mixer",
    "RWKVChannelMix",
    "RWKVChannelMixState",
    "RWKVState",
    "RetNet",
    "RetNetState",
    "map_state",
]
