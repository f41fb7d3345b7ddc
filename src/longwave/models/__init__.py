"""Whole models: a backbone of mixers between an encoder and a head, and how they are saved."""

from longwave.models.backbone import Backbone, BackboneConfig
from longwave.models.base import DataConfig, Head, HeadConfig, HeadState, PooledHead
from longwave.models.build import MODELS, load
from longwave.models.heads import (
    Classifier,
    ClassifierConfig,
    Regressor,
    RegressorConfig,
    SequenceModel,
    SequenceModelConfig,
)

__all__ = [
    "MODELS",
    "Backbone",
    "BackboneConfig",
    "Classifier",
    "ClassifierConfig",
    "DataConfig",
    "Head",
    "HeadConfig",
    "HeadState",
    "PooledHead",
    "Regressor",
    "RegressorConfig",
    "SequenceModel",
    "SequenceModelConfig",
    "load",
]
