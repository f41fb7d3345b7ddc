"""Alternating pairs, medians, and where they are kept: results/<name>.json and .md, with the machine and versions.

A ratio is only worth something when both sides ran in turn on a machine that did nothing else.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import longwave
from longwave.ops import _native

RESULTS = Path(__file__).parent / "results"
PAIRS = 21


@dataclass(frozen=True)
class Row:
    """One comparison: medians in milliseconds, and the median of the ratios within the pairs."""

    what: str
    ours_ms: float
    peer: str
    peer_ms: float
    ratio: float
    note: str = ""


def command(main: Callable[[], None]) -> None:
    """Run a benchmark that takes no arguments: whoever gives one meant something else than minutes of measuring."""
    _parser().parse_args()
    main()


def sections(main: Callable[[str], None], names: Iterable[str]) -> None:
    """Run the section that the command line names, or all."""
    parser = _parser()
    parser.add_argument("section", nargs="?", choices=list(names))
    chosen = parser.parse_args().section
    for section in names if chosen is None else [chosen]:
        main(section)


def _parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        description=sys.modules["__main__"].__doc__, formatter_class=argparse.RawTextHelpFormatter
    )


def compare(
    what: str, ours: Callable[[], Any], peer: str, theirs: Callable[[], Any], note: str = "", pairs: int = PAIRS
) -> Row:
    """Time two functions in turn, after calls of each to warm up: two, or one where there are only a few pairs."""
    for function in (ours, theirs) * (2 if pairs == PAIRS else 1):
        function()
    if pairs != PAIRS:
        note = f"{note} ({pairs} pairs)".strip()
    times = [(_milliseconds(ours), _milliseconds(theirs)) for _ in range(pairs)]
    mine, other = (statistics.median(side) for side in zip(*times, strict=True))
    row = Row(what, mine, peer, other, statistics.median(b / a for a, b in times), note)
    line = f"{row.what:46} {row.ours_ms:9.3f} ms | {row.peer:34} {row.peer_ms:9.3f} ms | x {row.ratio:6.2f} {row.note}"
    print(line, file=sys.stderr)
    return row


def in_a_process(module: str, section: str, note: str = "", **environment: str) -> list[Row]:
    """The rows of ``module.section()``, from a process of its own: what ran before leaves the allocator in a state."""
    code = f"import dataclasses, json; from benchmarks import {module} as m; rows = m.{section}(); "
    code += "print(json.dumps([dataclasses.asdict(row) for row in rows]))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, check=True, stdout=subprocess.PIPE, text=True
    )
    return [Row(**{**row, "note": f"{row['note']} {note}".strip()}) for row in json.loads(done.stdout)]


def median_ms(function: Callable[[], Any], calls: int = PAIRS) -> float:
    """Median time of one call."""
    function(), function()
    return statistics.median(_milliseconds(function) for _ in range(calls))


def backward(output: torch.Tensor, leaves: list[torch.Tensor], gradient: torch.Tensor) -> None:
    """One backward pass that leaves nothing behind."""
    torch.autograd.grad(output, leaves, gradient)


def write(name: str, rows: list[Row], notes: tuple[str, ...] = ()) -> None:
    """Keep the rows as JSON and as a Markdown table."""
    about = machine()
    RESULTS.mkdir(exist_ok=True)
    record = {"machine": about, "pairs": PAIRS, "rows": [asdict(row) for row in rows], "notes": notes}
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    lines = [
        f"# {name}",
        "",
        f"`python -m benchmarks.{name}`: medians of {PAIRS} alternating pairs, where a row does not say otherwise.",
        "",
        *(f"- {key}: {value}" for key, value in about.items()),
        "",
        "| what | longwave, ms | peer | peer, ms | times faster |",
        "|---|---|---|---|---|",
        *(
            f"| {r.what} {r.note} | {r.ours_ms:.3g} | {r.peer} | {r.peer_ms:.3g} | {r.ratio:.3g} |".replace("  ", " ")
            for r in rows
        ),
        "",
        *notes,
    ]
    (RESULTS / f"{name}.md").write_text("\n".join(lines).rstrip() + "\n")


def machine() -> dict[str, Any]:
    """What ran, and on what."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instruction set": _native.kernels().active() if _native.available() else _native.missing,
        "longwave": longwave.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "load before": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor()
    fields = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    return f"{fields.get('model name', '')}, family {fields.get('cpu family')}, model {fields.get('model')}"


def _milliseconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return 1e3 * (time.perf_counter() - start)
