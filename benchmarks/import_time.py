"""What `import longwave` costs over `import torch`: medians over processes of their own, in turn.

python -m benchmarks.import_time
"""

import json
import statistics
import subprocess
import sys

from benchmarks import measure

CODE = "import time; import torch; start = time.perf_counter(); {}; print(time.perf_counter() - start)"
STATEMENTS = ("import longwave", "from longwave import S4D", "from longwave import Classifier")


def seconds(statement: str) -> float:
    done = subprocess.run([sys.executable, "-c", CODE.format(statement)], check=True, capture_output=True, text=True)
    return float(done.stdout)


def main() -> None:
    samples = {statement: [] for statement in STATEMENTS}
    for _ in range(measure.PAIRS):
        for statement in STATEMENTS:
            samples[statement].append(seconds(statement))
    medians = {statement: statistics.median(times) for statement, times in samples.items()}
    lines = ["# import_time", "", "`python -m benchmarks.import_time`, seconds after `import torch`.", ""]
    lines += [f"- {key}: {value}" for key, value in measure.machine().items()]
    lines += ["", "| statement | seconds |", "|---|---|"]
    lines += [f"| `{statement}` | {value:.3f} |" for statement, value in medians.items()]
    print(*lines, sep="\n")
    measure.RESULTS.mkdir(exist_ok=True)
    record = {"machine": measure.machine(), "seconds": medians}
    (measure.RESULTS / "import_time.json").write_text(json.dumps(record, indent=1) + "\n")
    (measure.RESULTS / "import_time.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    measure.command(main)
