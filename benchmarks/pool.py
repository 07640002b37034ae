"""The pool beside other pools: `make bench-pool`, or `python benchmarks/pool.py [--rounds N]`.

Every pool has two workers. Each round takes every pool in turn through every row; the table shows
medians of the rounds. Piscina, a pool of threads for Node, takes part where `node` and `npm` are
found: it is installed into a directory beside this file at its first run. `--hashing` measures
hashes per second through the pool instead.
"""

import argparse
import asyncio
import importlib.metadata
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

import report
from pool_hashing import hashing

WHOLE = ("round_trip_us", "tasks_per_s")  # rows that are shown without decimals
OTHERS = ("loky", "pebble", "anyio", "numpy")  # packages whose versions are printed

Results = dict[str, list[dict[str, float]]]  # by pool: its figures of each round


def print_table(results: Results, rows: dict[str, str]) -> None:
    print("| | " + " | ".join(rows.values()) + " |")
    print("| --- " * (len(rows) + 1) + "|")
    for name, rounds in results.items():
        cells = [
            f"{statistics.median(values):,.{0 if row in WHOLE else 1}f}"
            if (values := [figures[row] for figures in rounds if row in figures])
            else "-"
            for row in rows
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")


def print_targets(results: Results, rows: dict[str, str]) -> None:
    """Print the ratios of this pool to the others."""

    def median(name: str, row: str) -> float:
        return statistics.median(figures[row] for figures in results[name])

    others = [
        name
        for name in results
        if name in ("ProcessPoolExecutor", "loky", "pebble", "anyio.to_process")
    ]
    if "devnest.pool" not in results or "ProcessPoolExecutor" not in results:
        return
    best = max(median(name, "tasks_per_s") for name in others)
    print(
        f"\ntasks/s over the best Python process pool: {median('devnest.pool', 'tasks_per_s') / best:.1f}"
    )
    for row in ("mb_64_ms", "array_64_ms"):
        ratio = median("ProcessPoolExecutor", row) / median("devnest.pool", row)
        print(f"{rows[row]}: ProcessPoolExecutor's over ours: {ratio:.1f}")


def print_machine() -> None:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next(
        (line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine()
    )
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in OTHERS)
    load = os.getloadavg()[0]
    print(
        f"{os.cpu_count()} CPUs ({model}), load {load:.1f}, Python {platform.python_version()}, {versions}\n"
    )


def compare(rounds: int, only: Sequence[str], use_uvloop: bool) -> None:
    # Not at the top: `--help` works without the packages of the other pools.
    from pool_contenders import CONTENDERS, piscina_round
    from pool_rows import ROWS, one_round

    names = [*(contender.name for contender in CONTENDERS), "Piscina"]
    results: dict[str, list[dict[str, float]]] = {
        name: [] for name in names if not only or name in only
    }
    factory = uvloop.new_event_loop if use_uvloop else asyncio.new_event_loop
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        for contender in CONTENDERS:
            if contender.name in results:
                with asyncio.Runner(loop_factory=factory) as runner:
                    results[contender.name].append(runner.run(one_round(contender)))
        if "Piscina" in results:
            figures = piscina_round()
            if figures is None:
                del results["Piscina"]
            else:
                results["Piscina"].append(figures)
    print_table(results, ROWS)
    print_targets(results, ROWS)


def main() -> None:
    parser = report.parser(__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument(
        "--uvloop", action="store_true", help="uvloop instead of asyncio's own loop, for all"
    )
    parser.add_argument(
        "--hashing", action="store_true", help="hashes through the pool, instead of the comparison"
    )
    parser.add_argument("--cost", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=6.0)
    given = parser.parse_args()
    print_machine()
    if given.hashing:
        asyncio.run(hashing(given.rounds, given.cost, given.seconds))
    else:
        compare(given.rounds, given.only, given.uvloop)


if __name__ == "__main__":
    report.run(main)
