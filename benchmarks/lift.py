"""The gain of the shared pool in services of others, under gunicorn: `make bench-lift`.

Each request hashes one password. The ways to do that run in turn, and medians are compared.
"""

import argparse
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import uvloop

import report
from devnest.load import Plan, Profile, VirtualUser, constant, run
from devnest.load.result import Result

FASTAPI = ["--worker-class", "uvicorn_worker.UvicornWorker", "lift_service:app"]
DJANGO = ["--worker-class", "gthread", "--threads", "16", "lift_django:app"]


class Way(NamedTuple):
    """A way to hash passwords in a service."""

    name: str
    gunicorn: list[str]  # its arguments
    base: str  # the way that it is compared with
    min_ratio: float = 0.0  # the target


WAYS = {
    "thread": Way("FastAPI: asyncio.to_thread, pyca", FASTAPI, "thread"),
    "own": Way("FastAPI: a pool in each process", FASTAPI, "thread"),
    "shared": Way("FastAPI: Pool.shared", FASTAPI, "thread", 4.0),
    "django": Way("Django: its own hasher", DJANGO, "django"),
    "contrib": Way("Django: devnest.contrib.django", DJANGO, "django", 2.5),
}
START_S = 60.0  # a bound for the service's start


class Hashing(Profile):
    """One request after the other, without a pause."""

    async def iteration(self, vu: VirtualUser) -> None:
        await vu.request("hash", "POST", "/hash")


@contextlib.contextmanager
def service(way: str, options: argparse.Namespace, directory: Path) -> Iterator[str]:
    """Run the service and yield its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = directory / "pool.sock"
    command = [sys.executable, "-m", "gunicorn", "--workers", str(options.workers)]
    command += ["--bind", f"127.0.0.1:{port}", "--log-level", "error", *WAYS[way].gunicorn]
    environment = {"LIFT": way, "LIFT_COST": str(options.cost), "LIFT_SOCKET": str(path)}
    process = subprocess.Popen(
        command, cwd=Path(__file__).parent, env={**os.environ, **environment}
    )
    try:
        _await_port(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
        if way in ("shared", "contrib"):
            stop = [sys.executable, "-m", "devnest.pool", "stop", "--socket", str(path)]
            subprocess.run(stop, check=True, stdout=subprocess.DEVNULL)


def _await_port(port: int, process: "subprocess.Popen[bytes]") -> None:
    give_up_at = time.monotonic() + START_S
    while time.monotonic() < give_up_at:
        if process.poll() is not None:
            sys.exit("gunicorn did not start")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    sys.exit(f"the service did not answer in {START_S:g} s")


def measure(url: str, vus: int, seconds: int) -> Result:
    """Load the service for a warm-up that does not count, and then for `seconds`."""
    profile = f"{__file__}:Hashing"
    uvloop.run(run(Plan(url, profile, stages=constant(vus, 2))))
    result = uvloop.run(run(Plan(url, profile, stages=constant(vus, seconds))))
    if result.failed:
        sys.exit(f"{result.failed} requests failed")
    return result


def main() -> None:
    """Measure the ways in turn and print their medians."""
    parser = report.parser(__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--vus", type=int, default=64, help="clients at a time")
    parser.add_argument("--workers", type=int, default=4, help="processes of gunicorn")
    parser.add_argument("--cost", type=int, default=10)
    options = parser.parse_args()
    results: dict[str, list[Result]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="lift-") as directory:
        for _ in range(options.runs):
            for way, runs in results.items():
                with service(way, options, Path(directory)) as url:
                    runs.append(measure(url, options.vus, options.seconds))
    print(
        f"{options.workers} gunicorn workers, {os.cpu_count()} CPUs, cost {options.cost}, "
        f"{options.vus} clients, {options.runs} runs in turn"
    )
    print(f"{'':32} {'hashes/s':>9} {'ratio':>6} {'p95 ms':>8}")
    rates = {
        way: statistics.median(result.requests_per_s for result in runs)
        for way, runs in results.items()
    }
    for key, told in WAYS.items():
        p95 = statistics.median(result.trend().percentile(95) for result in results[key])
        ratio = rates[key] / rates[told.base]
        print(f"{told.name:32} {rates[key]:9.1f} {ratio:6.2f} {p95:8.0f}", end="")
        target = "met" if ratio >= told.min_ratio else "MISSED"
        print(f"  target {told.min_ratio:g}: {target}" if told.min_ratio else "")


if __name__ == "__main__":
    report.run(main)
