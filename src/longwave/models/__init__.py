"""Whole models: a backbone of mixers between an encoder and a head, and how they are saved."""

from longwave.models.backbone import Backbone, BackboneConfig
from longwave.models.base import DataConfig, Head, HeadConfig, PooledHead
from longwave.models.build import MODELS, load
from longwave.models.generate import Sampling
from longwave.models.heads import (
    Classifier,
    ClassifierConfig,
    Regressor,
    RegressorConfig,
    SequenceModel,
    SequenceModelConfig,
)
from longwave.models.language import LanguageModel, LanguageModelConfig
from longwave.models.model import Model, ModelConfig, ModelState

__all__ = [
    "MODELS",
    "Backbone",
    "BackboneConfig",
    "Classifier",
    "ClassifierConfig",
    "DataConfig",
    "Head",
    "HeadConfig",
    "LanguageModel",
    "LanguageModelConfig",
    "Model",
    "ModelConfig",
    "ModelState",
    "PooledHead",
    "Regressor",
    "RegressorConfig",
    "Sampling",
    "SequenceModel",
    "SequenceModelConfig",
    "load",
]
