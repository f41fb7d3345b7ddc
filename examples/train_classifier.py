"""Train a classifier in plain PyTorch: is a chirp's pitch rising or falling? Both have the same spectrum.

Run: python examples/train_classifier.py --steps 100 --folder chirps
"""

import math
from pathlib import Path

import torch
from jsonargparse import auto_cli

import longwave
from longwave.models import BackboneConfig, Classifier, ClassifierConfig


def chirps(n: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """n noisy chirps (n, length, 1) of random phase, and their classes: 1 rises, 0 is a rising one played backwards."""
    t = torch.linspace(0, 1, length)
    phase = 2 * math.pi * (torch.rand(n, 1) + 2 * t + 7 * t**2)
    rising = torch.randint(0, 2, (n,))
    x = torch.where(rising[:, None] == 1, phase.sin(), phase.sin().flip(1))
    return (x + 0.5 * torch.randn(n, length))[..., None], rising


def main(steps: int = 100, length: int = 256, folder: Path | None = None) -> None:
    """Train, measure on new chirps, and read one of them position by position.

    Args:
        steps: optimiser steps, of 32 chirps each.
        length: positions of a chirp.
        folder: where the model is saved; None: nowhere.
    """
    torch.manual_seed(0)
    backbone = BackboneConfig(d_model=16, n_layers=2, mixer_options={"d_state": 16})
    model = Classifier(ClassifierConfig(d_input=1, n_classes=2, backbone=backbone))

    # Time scales and eigenvalues want a smaller learning rate, and no weight decay.
    slow = set(model.slow_parameters())
    named = dict(model.named_parameters())
    groups = [
        {"params": [p for name, p in named.items() if name in slow], "lr": 1e-3, "weight_decay": 0.0},
        {"params": [p for name, p in named.items() if name not in slow], "lr": 1e-2},
    ]
    optimizer = torch.optim.AdamW(groups)
    for _ in range(steps):
        x, y = chirps(32, length)
        loss = torch.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    if folder is not None:
        model.save(folder)
        model = longwave.load(folder)
    model.eval()
    with torch.no_grad():
        x, y = chirps(500, length)
        print(f"accuracy on 500 new chirps: {(model(x).argmax(1) == y).double().mean():.3f}")
        state = model.initial_state(batch_size=500)
        for x_t in x.unbind(1):
            logits, state = model.step(x_t, state)
        print(f"the same predictions position by position: {torch.equal(logits.argmax(1), model(x).argmax(1))}")


if __name__ == "__main__":
    auto_cli(main)
