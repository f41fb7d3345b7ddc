"""Sequence mixers under one contract, and the blocks that stack them."""

from collections.abc import Mapping
from types import MappingProxyType

from longwave.layers.base import LTIMixer, LTIState, Mixer, map_state
from longwave.layers.block import Block
from longwave.layers.dss import DSS
from longwave.layers.lru import LRU
from longwave.layers.lssl import LSSL
from longwave.layers.s4d import S4D

# name -> mixer
MIXERS: Mapping[str, type[Mixer]] = MappingProxyType({"S4D": S4D, "DSS": DSS, "LRU": LRU, "LSSL": LSSL})

__all__ = ["DSS", "LRU", "LSSL", "MIXERS", "S4D", "Block", "LTIMixer", "LTIState", "Mixer", "map_state"]
