"""Training on Lightning, which is imported when training begins: settings, objectives, fitting, the run folder."""

from longwave.train.config import GroupConfig, OptimConfig, TrainerConfig
from longwave.train.loop import fit
from longwave.train.objectives import OBJECTIVES, Objective
from longwave.train.optim import parameter_groups, warmup_constant, warmup_cosine
from longwave.train.predict import evaluate, predict
from longwave.train.processes import is_first_process
from longwave.train.run import Record, Run

__all__ = [
    "OBJECTIVES",
    "GroupConfig",
    "Objective",
    "OptimConfig",
    "Record",
    "Run",
    "TrainerConfig",
    "evaluate",
    "fit",
    "is_first_process",
    "parameter_groups",
    "predict",
    "warmup_constant",
    "warmup_cosine",
]
