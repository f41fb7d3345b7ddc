"""Peak memory of training on a long sequence, and that streaming stays flat. Each measurement is a process of its own.

python -m benchmarks.memory              everything, or one section:
python -m benchmarks.memory selective
"""

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from benchmarks import measure
from longwave.layers import MIXERS, LTIMixer, Mamba, Mixer

Figure = tuple[str, float, str]  # what, how much, of what unit
WIDTH, LENGTH = 128, 65_536
OPTIONS: dict[str, dict[str, int]] = {"LRU": {"d_state": WIDTH}, "RTF": {"l_max": LENGTH}}
# Every linear time-invariant mixer, at its defaults otherwise.
LTI = [name for name, mixer in MIXERS.items() if issubclass(mixer, LTIMixer)]
LAYERS: dict[str, Callable[[], Mixer]] = {name: partial(MIXERS[name], WIDTH, **OPTIONS.get(name, {})) for name in LTI}
LAYERS["Mamba"] = partial(Mamba, 768)
MAMBA_LENGTH = 16_384


def resident() -> int:
    """Bytes of this process in memory now."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def peak() -> int:
    """The most that this process ever had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def training(name: str, length: int) -> int:
    """Peak over the state after a short warm-up, forward and backward at batch 1, in bytes."""
    layer = LAYERS[name]()

    def run(length: int) -> None:
        x = torch.randn(1, length, layer.d_model, requires_grad=True)
        layer(x).square().mean().backward()

    run(64)
    before = resident()
    run(length)
    return peak() - before


@torch.no_grad()
def streaming(name: str) -> dict[str, float]:
    """Growth in bytes while 10⁶ positions pass through `prefill` in chunks, and 10⁴ through `step`."""
    layer, growth = LAYERS[name](), {}
    state, chunk = layer.initial_state(1), torch.randn(1, 1000, WIDTH)
    for _ in range(100):
        _, state = layer.prefill(chunk, state)
    before = resident()
    for _ in range(900):
        _, state = layer.prefill(chunk, state)
    growth["prefill, position 100,000 to 1,000,000"] = resident() - before
    for _ in range(1000):
        _, state = layer.step(chunk[:, 0], state)
    before = resident()
    for _ in range(9000):
        _, state = layer.step(chunk[:, 0], state)
    growth["step, position 1,000 to 10,000"] = resident() - before
    assert all(bool(torch.isfinite(part).all()) for part in state)
    return growth


def result(what: str, *arguments: object) -> Any:
    """Of a function of this module, in a process of its own."""
    code = f"import json; from benchmarks import memory; print(json.dumps(memory.{what}(*{arguments!r})))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def lti() -> Iterator[Figure]:
    """Of the linear time-invariant mixers: training, and streaming."""
    for name in LTI:
        times = result("training", name, LENGTH) / (LENGTH * WIDTH * 4)
        yield f"{name}({WIDTH}) forward+backward, (1, {LENGTH}), peak over the input's bytes", times, "×"
        for what, grown in result("streaming", name).items():
            yield f"{name}({WIDTH}) {what}: growth of the process", grown / 2**20, "MiB"


def selective() -> Iterator[Figure]:
    """Of Mamba, whose states at all positions would be 32 times as large as its input."""
    used = result("training", "Mamba", MAMBA_LENGTH)
    yield f"Mamba(768) forward+backward, (1, {MAMBA_LENGTH}), peak", used / 1e9, "GB"


SECTIONS = {"lti": lti, "selective": selective}


def write(section: str) -> None:
    """Measure a section, and keep it as JSON and as a Markdown table."""
    about, figures = measure.machine(), list(SECTIONS[section]())
    lines = [
        f"# memory, {section}",
        "",
        f"`python -m benchmarks.memory {section}`, each figure from a process of its own.",
        "",
    ]
    lines += [f"- {key}: {value}" for key, value in about.items()]
    lines += ["", "| what | figure |", "|---|---|"]
    lines += [f"| {what} | {value:.2f} {unit} |" for what, value, unit in figures]
    print(*lines, sep="\n")
    measure.RESULTS.mkdir(exist_ok=True)
    name = measure.RESULTS / f"memory_{section}"
    name.with_suffix(".json").write_text(json.dumps({"machine": about, "figures": figures}, indent=1) + "\n")
    name.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    measure.sections(write, SECTIONS)
