"""S4D as in the example beside its code, and in the ablations of its paper.

The optimiser is that of S4: AdamW, with dt and A at 1e-3 and without decay. The example has no B to train: it is 1.
"""

from __future__ import annotations

from types import MappingProxyType

from longwave.recipes.papers.preset import DECAYED_VECTORS, HELD_OUT, SOFTPLUS, TWO_WAYS, Preset, Settings, own_dynamics

__all__ = ["S4D_PRESETS"]

_FIXED_B = {"*mixer.B": {"lr": 0.0}}


def _example(recipe: str, width: int, decay: float, data: Settings) -> Preset:
    """The published example: four blocks of S4D-Lin."""
    return Preset(
        recipe=recipe,
        source="state-spaces/s4, example.py, the small model beside arXiv:2206.11893",
        model={
            "mixer": "S4D",
            "mixer_options": {"d_state": 64, "init": "lin", "dropout": 0.1},
            "d_model": width,
            "n_layers": 4,
            "norm": "layer",
            "prenorm": False,
            "dropout": 0.1,
        },
        optim={
            "lr": 0.01,
            "slow_lr": 1e-3,
            "weight_decay": decay,
            "warmup": 0.0,
            "clip": 0.0,
            "overrides": {**_FIXED_B, **DECAYED_VECTORS},
        },
        trainer={"epochs": 100, "batch_size": 64, **HELD_OUT},
        data=data,
        deviations=("the rates fall with every step, where the example lowers them once an epoch",),
    )


S4D_PRESETS = MappingProxyType(
    {
        "s4d-smnist": _example("smnist", 256, 0.0, {"source": "mnist", "held_out": 6000, "shift": 0}),
        "s4d-scifar": _example("files", 128, 0.01, {"held_out": 0.1}),
        "s4d-scifar-ablation": Preset(
            recipe="files",
            source="Gu et al., 2022, On the Parameterization and Initialization of Diagonal State Space Models, "
            "arXiv:2206.11893, ablations; state-spaces/s4, cifar/s4-cifar-ablation.yaml",
            model={
                "mixer": "S4D",
                "d_model": 128,
                "n_layers": 4,
                "norm": "layer",
                "prenorm": False,
                "dropout": 0.1,
                "mixer_options": {"d_state": 64, "output": "linear", "dropout": 0.1},
                "bidirectional": True,
            },
            optim={
                "lr": 0.01,
                "slow_lr": 1e-3,
                "weight_decay": 0.01,
                "warmup": 0.011,
                "clip": 0.0,
                "overrides": DECAYED_VECTORS,
            },
            trainer={"epochs": 100, "batch_size": 50, **HELD_OUT},
            data={"held_out": 0.1},
            deviations=(TWO_WAYS, own_dynamics(1), SOFTPLUS),
        ),
    }
)
