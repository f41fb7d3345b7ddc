"""Peak memory of training on a long sequence, and that streaming stays flat. Each measurement is a process of its own.

python -m benchmarks.memory
"""

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import torch

from benchmarks import measure
from longwave.layers import MIXERS, LTIMixer, Mixer

WIDTH, LENGTH = 128, 65_536
OPTIONS: dict[str, dict[str, int]] = {"LRU": {"d_state": WIDTH}, "RTF": {"l_max": LENGTH}}
# Every linear time-invariant mixer, at its defaults otherwise.
LAYERS: dict[str, Callable[[], Mixer]] = {
    name: partial(mixer, WIDTH, **OPTIONS.get(name, {}))
    for name, mixer in MIXERS.items()
    if issubclass(mixer, LTIMixer)
}


def resident() -> int:
    """Bytes of this process in memory now."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def peak() -> int:
    """The most that this process ever had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def training(name: str) -> float:
    """Peak over the state after a short warm-up, forward and backward at batch 1, in multiples of the input's bytes."""
    layer = LAYERS[name]()

    def run(length: int) -> None:
        x = torch.randn(1, length, WIDTH, requires_grad=True)
        layer(x).square().mean().backward()

    run(64)
    before = resident()
    run(LENGTH)
    return (peak() - before) / (LENGTH * WIDTH * 4)


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


def result(what: str, name: str) -> object:
    code = f"import json; from benchmarks import memory; print(json.dumps(memory.{what}({name!r})))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    record: dict[str, object] = {"machine": measure.machine()}
    lines = ["# memory", "", "`python -m benchmarks.memory`, each figure from a process of its own.", ""]
    lines += [f"- {key}: {value}" for key, value in measure.machine().items()]
    lines += ["", "| what | figure |", "|---|---|"]
    for name in LAYERS:
        times = result("training", name)
        record[f"{name} training"] = times
        lines.append(
            f"| {name}({WIDTH}) forward+backward, (1, {LENGTH}), peak over the input's bytes | {times:.2f} × |"
        )
        for what, grown in result("streaming", name).items():
            record[f"{name} {what}"] = grown
            lines.append(f"| {name}({WIDTH}) {what}: growth of the process | {grown / 2**20:.2f} MiB |")
    print(*lines, sep="\n")
    measure.RESULTS.mkdir(exist_ok=True)
    (measure.RESULTS / "memory.json").write_text(json.dumps(record, indent=1) + "\n")
    (measure.RESULTS / "memory.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
