"""Measures the time from `devnest serve` to its ready line, on a new and an old data directory."""

import os
import statistics
import time
from pathlib import Path

import report
from running import fresh_directory, serving

TARGETS = {"new": 5.0, "existing": 2.0}  # seconds


def start_s(data_dir: Path) -> float:
    """Start and stop; return the seconds until the ready line."""
    began = time.perf_counter()
    with serving(data_dir):
        return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = report.parser(__doc__)
    parser.add_argument(
        "--runs", type=int, default=5, help="new data directories, each started twice"
    )
    options = parser.parse_args()
    times: dict[str, list[float]] = {kind: [] for kind in TARGETS}
    for _ in range(options.runs):
        with fresh_directory() as data_dir:
            for taken in times.values():
                taken.append(start_s(data_dir))
    print(
        f"`devnest serve` to its ready line; {os.cpu_count()} servers and workers, {options.runs} runs"
    )
    for kind, taken in times.items():
        median, target = statistics.median(taken), TARGETS[kind]
        print(
            f"  {kind + ' data directory':24} {median:6.2f} s ({min(taken):.2f} to {max(taken):.2f}; "
            f"target {target:g} s: {'met' if median <= target else 'MISSED'})"
        )


if __name__ == "__main__":
    report.run(main)
