"""Compares the load generator with wrk, and measures its cost: `make bench-load`.

Both load the same small server on one route with the same number of connections, in turn, several
times; the medians are compared. The server is a uvloop protocol that answers after a fixed delay.
So the server limits the rate, not the client, and the comparison shows whether both count and time
the same thing. Then the server waits for varying times and measures them itself, and the
generator's percentiles are printed beside the server's.
"""

import argparse
import asyncio
import json
import random
import re
import shutil
import statistics
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from time import perf_counter

import uvloop

import report
from devnest.load import Plan, Profile, VirtualUser, constant, run
from devnest.load.result import Machine, Result, exact_percentile

# Each percentile that is compared lies inside a step of this distribution, not between two.
SHAPE = (1,) * 8 + (2,) * 5 + (3,) * 4 + (6,) * 3
PERCENTS = (50, 75, 90, 95, 99)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class OneRoute(Profile):
    """Sends GET / without a pause, as wrk does."""

    async def iteration(self, vu: VirtualUser) -> None:
        await vu.request("route", "GET", "/")


class Delayed(asyncio.Protocol):
    """Answers each request after `delay_s`, one at a time on a connection.

    With a clock, the delay is `delay_s` times 1, 2, 3 or 6, give or take a tenth, and is recorded.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, delay_s: float, clock: list[float] | None
    ) -> None:
        self._loop = loop
        self._delay_s = delay_s
        self._clock = clock

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"\r\n\r\n"):
            times = 1.0 if self._clock is None else random.choice(SHAPE) * random.uniform(0.9, 1.1)
            self._loop.call_later(self._delay_s * times, self._answer, perf_counter())

    def _answer(self, begin: float) -> None:
        if not self._transport.is_closing():
            self._transport.write(ANSWER)  # type: ignore[attr-defined]
            if self._clock is not None:
                self._clock.append(perf_counter() - begin)


async def serve(delay_s: float, clock: list[float] | None) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Delayed(loop, delay_s, clock), "127.0.0.1", 0, backlog=4096
    )
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)  # until the parent goes
    server.close()
    json.dump(clock, sys.stdout)


def ours(url: str, connections: int, seconds: int) -> Result:
    plan = Plan(url, f"{__file__}:OneRoute", stages=constant(connections, seconds))
    return uvloop.run(run(plan))


def wrk(url: str, connections: int, seconds: int) -> float | None:
    """Return wrk's requests per second; `None` if it is not installed."""
    if shutil.which("wrk") is None:
        return None
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", url]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", output)
    assert found is not None, output
    return float(found[1])


def started(delay_s: float, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, __file__, "--serve", str(delay_s), *arguments]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    return server, f"http://127.0.0.1:{server.stdout.readline().strip()}/"


def percentiles(connections: int, delay_s: float, seconds: int) -> list[dict[str, float]]:
    """Return milliseconds by the generator and by the server's own clock, for each of PERCENTS."""
    server, url = started(delay_s, "--clock")
    try:
        trend = ours(url, connections, seconds).trend()
    finally:
        clock = json.loads(server.communicate()[0])
    clock.sort()
    return [
        {
            "percent": percent,
            "generator_ms": trend.percentile(percent),
            "server_ms": exact_percentile(clock, percent) * 1e3,
        }
        for percent in PERCENTS
    ]


def measure(connections: int, delay_s: float, seconds: int, rounds: int) -> dict[str, float | None]:
    server, url = started(delay_s)
    mine, theirs = [], []
    try:
        for _ in range(rounds):
            theirs.append(wrk(url, connections, seconds))
            mine.append(ours(url, connections, seconds))
    finally:
        server.communicate()
    known = [rate for rate in theirs if rate is not None]
    rate = statistics.median(result.requests_per_s for result in mine)
    return {
        "connections": connections,
        "devnest_requests_per_s": rate,
        "wrk_requests_per_s": statistics.median(known) if known else None,
        "ratio": rate / statistics.median(known) if known else None,
        "cpu_ms_per_request": statistics.median(result.cpu_ms_per_request for result in mine),
        "cpu_share": statistics.median(result.cpu_mean for result in mine),
        "failed": sum(result.failed for result in mine),
    }


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--clock", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    if options.serve is not None:
        uvloop.run(serve(options.serve, [] if options.clock else None))
        return
    machine = Machine.here()
    print(f"{machine.processor}, {machine.cores} cores, Python {machine.python}")
    if shutil.which("wrk") is None:
        print(
            "wrk is not installed (Debian: apt-get install wrk), so there is nothing to agree with"
        )
    print(
        f"{'connections':>11} {'devnest/s':>10} {'wrk/s':>10} {'ratio':>6} {'ms CPU/request':>14} {'of a core':>9}"
    )
    rows = []
    for connections, delay_s in ((50, 0.02), (200, 0.05), (500, 0.1)):
        row = measure(connections, delay_s, options.seconds, options.rounds)
        rows.append(row)
        theirs = "-" if row["wrk_requests_per_s"] is None else f"{row['wrk_requests_per_s']:.1f}"
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.3f}"
        print(
            f"{connections:>11} {row['devnest_requests_per_s']:>10.1f} {theirs:>10} {ratio:>6} "
            f"{row['cpu_ms_per_request']:>14.3f} {row['cpu_share']:>9.0%}"
        )
    steps = percentiles(100, 0.1, options.seconds * 3)
    print("100 connections; answers after 0.1, 0.2, 0.3 or 0.6 s, give or take a tenth")
    print(f"{'p':>11} {'devnest ms':>10} {'server ms':>10}")
    for step in steps:
        print(f"{step['percent']:>11} {step['generator_ms']:>10.1f} {step['server_ms']:>10.1f}")
    if options.json is not None:
        figures = {"machine": asdict(machine), "rows": rows, "percentiles": steps}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    report.run(main)
