"""Compares the light routes of an earlier commit with those of today, in one run.

By default wrk sends requests as fast as they are answered. With `--rate`, they come at a constant
rate, while one process for each CPU hashes at low priority. That is like a server's usual day:
requests come one by one, and other work has used the CPU caches in between.

The commit's sources run from a temporary directory with this environment's interpreter and
packages. The kernel is not compiled there; light requests do not use it. Needs git and wrk.
"""

import asyncio
import io
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from contextlib import ExitStack
from pathlib import Path

import uvloop

import report
from devnest.load import Plan, constant, run
from devnest.settings import HASH_NICE
from kernel import kernel_rates
from routes import CONNECTIONS, arguments, posts, script, wrk
from running import DevNest, cpu_use, fresh_directory, serving

ROOT = Path(__file__).resolve().parent.parent
LIGHT = f"{Path(__file__).with_name('profiles.py')}:Light"
# The last commit without accounts, sessions, throttling and search.
BEFORE_ACCOUNTS = "22be64dd"
ROUTES = ("POST /posts", "GET /posts (20 posts)")
NOW = "now"
COST = 10
Figures = dict[str, float]


def unpack(commit: str, tree: Path) -> None:
    """Write the sources of a commit into a directory."""
    packed = subprocess.run(
        ["git", "-C", str(ROOT), "archive", commit, "src"], capture_output=True, check=False
    )
    if packed.returncode:
        sys.exit(f"no sources of {commit}: {packed.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(tree, filter="data")


def has_limits(tree: Path) -> bool:
    """Return whether `devnest serve` of these sources has the option `--no-limits`."""
    return "--no-limits" in (tree / "src/devnest/cli/serve.py").read_text()


def flat_out(at: DevNest, route: str, lua: Path, seconds: int) -> Figures:
    """Measure one route by wrk, on 64 connections."""
    with cpu_use(at) as use:
        rate, p99 = wrk(posts(at), arguments(route, lua), seconds)
    return {
        "requests/s": rate,
        "p99, ms": p99,
        "CPU a request, servers, us": 1e6 * use.seconds["server"] / (rate * seconds),
    }


def at_rate(at: DevNest, rate: float, seconds: int) -> Figures:
    """Measure reads and posts at a constant rate, beside hashing."""

    async def both() -> Figures:
        hashing = asyncio.create_task(
            asyncio.to_thread(kernel_rates, COST, seconds, os.cpu_count() or 1, HASH_NICE)
        )
        with cpu_use(at) as use:
            result = await run(
                Plan(at.url, LIGHT, stages=constant(CONNECTIONS, seconds), rate=rate)
            )
        assert not result.failed, f"{result.failed} requests failed: {dict(result.errors)}"
        cpu_us = {
            kind: 1e6 * use.seconds[kind] / result.requests for kind in ("server", "PostgreSQL")
        }
        times = result.trend(expected=True)
        return {
            "p50, ms": times.percentile(50),
            "p99, ms": times.percentile(99),
            "CPU a request, servers, us": cpu_us["server"],
            "CPU a request, PostgreSQL, us": cpu_us["PostgreSQL"],
            "hashes/s beside": await hashing,
            "dropped": result.dropped,
        }

    return uvloop.run(both())


def main() -> None:
    """Measure in turn; print medians and their ratio."""
    parser = report.parser(__doc__)
    parser.add_argument(
        "commit",
        nargs="?",
        default=BEFORE_ACCOUNTS,
        help="default: the last one before the accounts",
    )
    parser.add_argument("--runs", type=int, default=5, help="times each is measured")
    parser.add_argument("--seconds", type=int, default=6, help="length of one measurement")
    parser.add_argument("--processes", type=int, default=1, help="server processes of each")
    parser.add_argument(
        "--rate", type=float, help="requests a second, one post to two pages, instead of wrk's"
    )
    options = parser.parse_args()
    if options.rate is None and shutil.which("wrk") is None:
        sys.exit("wrk is needed: apt install wrk")
    # Options that the first commit had too. Limits on sign-ins came later.
    same = ("--hash-cost=4", "--hash-workers=1", f"--processes={options.processes}")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="devnest-bench-")))
        unpack(options.commit, directory)
        running = {}
        for name, tree in {options.commit: directory, NOW: ROOT}.items():
            data_dir = stack.enter_context(fresh_directory())
            unlimited = ("--no-limits",) if has_limits(tree) else ()
            at = stack.enter_context(
                serving(data_dir, *same, *unlimited, environment={"PYTHONPATH": str(tree / "src")})
            )
            running[name] = at, script(at.url, directory / f"{at.port}.lua")
        loads = (f"{options.rate:g} requests/s",) if options.rate else ROUTES
        figures: dict[tuple[str, str], list[Figures]] = {}
        for _ in range(options.runs):
            for load in loads:
                for name, (at, lua) in running.items():
                    measured = (
                        at_rate(at, options.rate, options.seconds)
                        if options.rate
                        else flat_out(at, load, lua, options.seconds)
                    )
                    figures.setdefault((load, name), []).append(measured)
    print(
        f"{CONNECTIONS} connections, {options.processes} server(s); medians of {options.runs} runs"
    )
    for load in loads:
        show(load, options.commit, figures[load, options.commit], figures[load, NOW])


def show(load: str, commit: str, before: list[Figures], now: list[Figures]) -> None:
    """Print a line for each figure: before, now, and the median of the runs' ratios."""
    print(f"{load:32} {commit[:10]:>10} {NOW:>10} {'ratio':>7}")
    for name in now[0]:
        ratio = statistics.median(
            b[name] / a[name] if a[name] else float("nan") for a, b in zip(before, now, strict=True)
        )
        medians = (statistics.median(run[name] for run in runs) for runs in (before, now))
        print(f"  {name:30}" + "".join(f" {median:10.1f}" for median in medians) + f" {ratio:7.2f}")


if __name__ == "__main__":
    report.run(main)
