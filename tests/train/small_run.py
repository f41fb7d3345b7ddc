"""A small training with all that is random in one; run as a script it kills itself in the middle.

python small_run.py FOLDER BATCH MINUTES: train in the folder, and die by SIGKILL when that batch is fetched.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from longwave.data import Sequences
from longwave.models import BackboneConfig, Classifier, ClassifierConfig
from longwave.train import OptimConfig, Run, TrainerConfig, evaluate, fit

BATCHES = 7  # of an epoch


class Killed(BaseException):
    """Ends a training at once, as far as one process can do that to itself."""


def parts(at_batch: int, die: Callable[[], None]) -> tuple[Sequences, Sequences]:
    """Ragged sequences of noise, augmented until ``at_batch`` batches were fetched, and 14 of them unchanged."""
    fetched = 0

    def noisy(x, generator):
        nonlocal fetched
        fetched += 1
        if fetched == at_batch:
            die()
        return x + 0.1 * torch.randn(x.shape, generator=generator)

    generator = torch.Generator().manual_seed(1)
    y = torch.arange(50) % 2
    lengths = torch.randint(5, 21, (50,), generator=generator)
    x = torch.randn(50, 20, 1, generator=generator) + y[:, None, None]
    samples = Sequences(x, y, lengths=lengths, augment=noisy)
    return samples, Sequences(x[:14], y[:14], lengths=lengths[:14])


def train(folder: Path, *, at_batch: int = 0, die: Callable[[], None] = lambda: None, minutes: float = 0.0, **settings):
    """Train for three epochs in a folder, with dropout and augmentation; ``settings`` are the two configs' own."""
    samples, held_out = parts(at_batch, die)
    torch.manual_seed(5)
    backbone = BackboneConfig(d_model=4, n_layers=1, mixer_options={"d_state": 4}, dropout=0.2)
    model = Classifier(ClassifierConfig(n_classes=2, backbone=backbone))
    own = {name: value for name, value in settings.items() if name in TrainerConfig.__dataclass_fields__}
    trainer = TrainerConfig(
        **{"epochs": 3, "batch_size": 8, "accelerator": "cpu", "checkpoint_minutes": minutes, **own}
    )
    optim = OptimConfig(**{"lr": 0.02, **{name: value for name, value in settings.items() if name not in own}})
    run = Run(folder)
    run.open({"optim": optim, "trainer": trainer})
    with run.logging():
        history = fit(model, samples, held_out, optim=optim, trainer=trainer, seed=3, run=run)
        run.write_results(evaluate(model, held_out, "classify"))
    return model, history


if __name__ == "__main__":
    torch.set_num_threads(min(2, torch.get_num_threads()))
    folder, batch, minutes = sys.argv[1:]
    train(
        Path(folder),
        at_batch=int(batch),
        die=lambda: os.kill(os.getpid(), signal.SIGKILL),
        minutes=float(minutes),
    )
