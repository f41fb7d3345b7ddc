"""Whole models: a backbone of mixers between an encoder and a head, and how they are saved."""

from longwave.models.backbone import Backbone, BackboneConfig
from longwave.models.build import MODELS, load
from longwave.models.heads import Classifier, ClassifierConfig, ClassifierState

__all__ = ["MODELS", "Backbone", "BackboneConfig", "Classifier", "ClassifierConfig", "ClassifierState", "load"]
