"""Speed and memory, as ratios against peers in the same run. Each module is a command: ``python -m benchmarks.s4d``."""
