"""longwave: deep state space sequence models under one contract. Public names load on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# name -> the module that defines it
_PUBLIC = {
    "LongwaveError": "errors",
    "MIXERS": "layers",
    "Mixer": "layers",
    "S4": "layers",
    "S4D": "layers",
    "DSS": "layers",
    "S5": "layers",
    "RTF": "layers",
    "LRU": "layers",
    "Mamba": "layers",
    "Mamba2": "layers",
    "Mamba3": "layers",
    "RetNet": "layers",
    "RWKV": "layers",
    "LSSL": "layers",
    "LMU": "layers",
    "LMUCell": "layers",
    "HiPPO": "layers",
    "Block": "layers",
    "Backbone": "models",
    "Classifier": "models",
    "LanguageModel": "models",
    "Regressor": "models",
    "SequenceModel": "models",
    "load": "models",
    "StateSpace": "math",
    "ops": "",
    "math": "",
    "layers": "",
    "models": "",
    "compat": "",
    "pretrained": "",
    "plots": "",
    "data": "",
    "train": "",
    "recipes": "",
}

__all__ = ["__version__", *_PUBLIC]  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from longwave.errors import LongwaveError
    from longwave.layers import (
        DSS,
        LMU,
        LRU,
        LSSL,
        MIXERS,
        RTF,
        RWKV,
        S4,
        S4D,
        S5,
        Block,
        HiPPO,
        LMUCell,
        Mamba,
        Mamba2,
        Mamba3,
        Mixer,
        RetNet,
    )
    from longwave.math import StateSpace
    from longwave.models import Backbone, Classifier, LanguageModel, Regressor, SequenceModel, load


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'longwave' has no attribute {name!r}")
    module = _PUBLIC[name]
    value = importlib.import_module(f"longwave.{module or name}")
    if module:
        value = getattr(value, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
