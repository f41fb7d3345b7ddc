"""Sequence mixers under one contract, and the blocks that stack them."""

from collections.abc import Mapping
from types import MappingProxyType

from longwave.layers.base import LTIMixer, LTIState, Mixer, map_state
from longwave.layers.block import Block
from longwave.layers.hippo import HiPPO, HiPPOState
from longwave.layers.lru import LRU
from longwave.layers.s4d import S4D

# name -> mixer
MIXERS: Mapping[str, type[Mixer]] = MappingProxyType({"S4D": S4D, "LRU": LRU})

__all__ = ["LRU", "MIXERS", "S4D", "Block", "HiPPO", "HiPPOState", "LTIMixer", "LTIState", "Mixer", "map_state"]
