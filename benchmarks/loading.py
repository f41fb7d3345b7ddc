"""Peak memory of reading a published model of 516 MB. Each measurement is a process of its own.

python -m benchmarks.loading
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import safetensors.torch
import torch

from benchmarks import measure
from longwave.models import BackboneConfig, LanguageModel, LanguageModelConfig

# The sizes of state-spaces/mamba-130m.
BACKBONE = BackboneConfig(d_model=768, n_layers=24, mixer="Mamba", norm="rms", residual_in_float32=True)
CONFIG = LanguageModelConfig(vocab_size=50277, vocab_multiple=8, backbone=BACKBONE)
FORMS = {"longwave": "longwave", "transformers, .safetensors": "transformers", "transformers, .bin": "transformers"}


def peak() -> int:
    """The most bytes that this program had in memory; getrusage would begin with those of the program before it."""
    return 1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[0])


def loading(folder: str) -> float:
    """Growth of the peak while a model is read, in multiples of its parameters' bytes."""
    before = peak()
    model = LanguageModel.from_pretrained(folder)
    return (peak() - before) / sum(p.nbytes for p in model.parameters())


def result(folder: Path) -> float:
    code = f"import json; from benchmarks import loading; print(json.dumps(loading.loading({str(folder)!r})))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    record: dict[str, object] = {"machine": measure.machine()}
    lines = ["# loading", "", "`python -m benchmarks.loading`, each figure from a process of its own.", ""]
    lines += [f"- {key}: {value}" for key, value in measure.machine().items()]
    lines += ["", "| files of 516 MB | peak over the parameters' bytes |", "|---|---|"]
    model = LanguageModel(CONFIG)
    for form, format in FORMS.items():
        with TemporaryDirectory() as folder:
            weights = model.save_pretrained(folder, format=format) / "model.safetensors"
            if form.endswith(".bin"):
                torch.save(safetensors.torch.load_file(weights), weights.with_name("pytorch_model.bin"))
                weights.unlink()
            record[form] = found = result(Path(folder))
        lines.append(f"| {form} | {found:.2f} × |")
    print(*lines, sep="\n")
    measure.RESULTS.mkdir(exist_ok=True)
    (measure.RESULTS / "loading.json").write_text(json.dumps(record, indent=1) + "\n")
    (measure.RESULTS / "loading.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    measure.command(main)
