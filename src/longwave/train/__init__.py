"""Training on Lightning, which is imported when training begins: settings, parameter groups, the run folder."""

from longwave.train.config import OptimConfig, TrainerConfig
from longwave.train.loop import accuracy, fit, predict
from longwave.train.optim import parameter_groups, warmup_cosine
from longwave.train.run import Run

__all__ = [
    "OptimConfig",
    "Run",
    "TrainerConfig",
    "accuracy",
    "fit",
    "parameter_groups",
    "predict",
    "warmup_cosine",
]
