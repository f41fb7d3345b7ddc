"""Fine-tuning by transformers' Trainer, with low-rank adapters of peft, runs by longwave's operations."""

import importlib
from pathlib import Path

import pytest
import torch
from families import model_of, tokens

from longwave import compat

pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers, peft and accelerate


@pytest.mark.parametrize("family", ["mamba", "mamba2"])
def test_adapters_are_trained_by_our_operations(family: str, tmp_path: Path) -> None:
    library, peft = (importlib.import_module(name) for name in ("transformers", "peft"))
    adapters = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["in_proj"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(model_of(family), adapters)
    frozen = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    rows = [{"input_ids": row, "labels": row, "attention_mask": torch.ones_like(row)} for row in tokens(rows=8)]
    options = library.TrainingArguments(
        output_dir=str(tmp_path),
        use_cpu=True,
        max_steps=30,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        logging_steps=5,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    with compat.transformers() as report:
        trainer = library.Trainer(model=model, args=options, train_dataset=rows)
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.8 * losses[0]
    assert all(torch.equal(p, frozen[name]) for name, p in model.named_parameters() if name in frozen)
    layers = 2
    assert report.files[family].calls == 30 * layers
    assert not report.files[family].deferred
    assert f"{family}: " in str(report)
