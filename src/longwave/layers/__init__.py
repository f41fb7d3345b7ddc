"""Sequence mixers under one contract, and the blocks that stack them."""

from collections.abc import Mapping
from types import MappingProxyType

from longwave.layers.base import LTIMixer, LTIState, Mixer, map_state
from longwave.layers.block import Block
from longwave.layers.lru import LRU
from longwave.layers.rtf import RTF
from longwave.layers.s4d import S4D
from longwave.layers.s5 import S5

# name -> mixer
MIXERS: Mapping[str, type[Mixer]] = MappingProxyType({"S4D": S4D, "S5": S5, "RTF": RTF, "LRU": LRU})

__all__ = ["LRU", "MIXERS", "RTF", "S4D", "S5", "Block", "LTIMixer", "LTIState", "Mixer", "map_state"]
