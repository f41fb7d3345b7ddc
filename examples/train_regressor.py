"""Train on arrays from Python: how fast does a noisy signal oscillate? Held-out data choose the weights that are kept.

Run: python examples/train_regressor.py --epochs 12 --run runs/frequency
"""

import math
from pathlib import Path

import torch
from jsonargparse import auto_cli

import longwave
from longwave.data import Sequences, split
from longwave.models import BackboneConfig, DataConfig, Regressor, RegressorConfig
from longwave.train import OptimConfig, Run, TrainerConfig, evaluate, fit


def oscillations(n: int, longest: int) -> Sequences:
    """n sequences of 32 to `longest` samples at 1 kHz, and their frequencies in Hz, 5 to 50."""
    frequency = torch.empty(n, 1).uniform_(5, 50)
    t = torch.arange(longest) / 1000
    x = torch.sin(2 * math.pi * (frequency * t + torch.rand(n, 1))) + 0.3 * torch.randn(n, longest)
    return Sequences(x[:, :, None], frequency, lengths=torch.randint(32, longest + 1, (n,)))


def main(epochs: int = 12, longest: int = 200, run: Path = Path("runs/frequency")) -> None:
    """Train, measure on new signals, and use the model from its folder.

    Args:
        epochs: passes over 1,000 signals.
        longest: samples of the longest signal.
        run: the run folder; the same command goes on with a training that was stopped.
    """
    torch.manual_seed(0)
    train, held_out = split(oscillations(1250, longest), 0.2, seed=0)
    train, held_out = train.standardised(), held_out.standardised(by=train)

    # With the unit of the targets the model learns them as they are.
    (input_mean, input_std), (output_mean, output_std) = train.standardisation, train.target_scale
    data = DataConfig(input_mean, input_std, output_mean, output_std)
    backbone = BackboneConfig(d_model=32, n_layers=2, mixer_options={"d_state": 16})
    model = Regressor(RegressorConfig(d_input=1, backbone=backbone, data=data))

    optim = OptimConfig(lr=1e-2)
    trainer = TrainerConfig(epochs=epochs, batch_size=50, accelerator="cpu", best=True)
    folder = Run(run)
    folder.open({"optim": optim, "trainer": trainer})
    history = fit(model, train, held_out, objective="regress", optim=optim, trainer=trainer, seed=0, run=folder)
    print(f"epochs: {len(history)}")

    model = longwave.load(folder.model)
    test = oscillations(500, longest).standardised(by=train)
    figures = evaluate(model, test, "regress")
    print(f"mean absolute error in Hz: {figures['mae']:.3f}")
    print(f"R²: {figures['r2']:.4f}")


if __name__ == "__main__":
    auto_cli(main)
