"""Train and record the gradients of every step: python several_processes.py PROCESSES FOLDER writes FOLDER/record.pt.

Eleven sequences in batches of five: five and five, which do not divide by two, and one, of which one process has none.
"""

import logging
import sys
from pathlib import Path

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from longwave.data import Sequences
from longwave.models import BackboneConfig, SequenceModel, SequenceModelConfig
from longwave.train import OptimConfig, Run, TrainerConfig, fit, is_first_process


def samples() -> Sequences:
    """Ragged sequences with a class at most positions."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(3, 13, (11,), generator=generator)
    y = torch.randint(3, (11, 12), generator=generator)
    # Whole sequences without a target make the processes' shares unequal in targets too.
    y[torch.rand(11, 12, generator=generator) < 0.3] = -100
    y[4] = -100
    return Sequences(torch.randn(11, 12, 2, generator=generator), y, lengths=lengths)


def train(processes: int, folder: Path) -> dict[str, object]:
    """The gradients of each step, the last weights, the history and what was logged."""
    torch.manual_seed(5)
    backbone = BackboneConfig(d_model=8, n_layers=2, mixer_options={"d_state": 8})
    model = SequenceModel(SequenceModelConfig(d_input=2, d_output=3, backbone=backbone))
    steps = []

    def record(optimizer, *_):
        steps.append([p.grad.clone() for group in optimizer.param_groups for p in group["params"]])

    trainer = TrainerConfig(
        epochs=2, batch_size=5, accelerator="cpu", devices=processes, best=True, checkpoint_minutes=1e-9
    )
    settings = {"optim": OptimConfig(clip=0.0, schedule="plateau", plateau_patience=0), "trainer": trainer}
    run = Run(folder / "run")
    run.open(settings)
    hook = register_optimizer_step_post_hook(record)
    with run.logging():
        history = fit(model, samples(), samples(), objective="label", seed=0, run=run, **settings)
        logging.getLogger("longwave.train").info("after the training")
    hook.remove()
    return {"gradients": steps, "weights": model.state_dict(), "history": history}


if __name__ == "__main__":
    torch.set_num_threads(1)
    logging.basicConfig(stream=sys.stdout, format="heard: %(message)s")
    processes, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.save(train(processes, folder), folder / ("record.pt" if is_first_process() else "other.pt"))
