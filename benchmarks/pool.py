"""The pool beside those people use: `make bench-pool`, or `python benchmarks/pool.py [--rounds N] [--only NAME ...]`.

Every pool has two workers. Each round takes every pool in turn through every row; the table shows medians of the
rounds. Piscina, a pool of threads for Node, takes part where `node` and `npm` are found: it is installed into a
directory beside this file at its first run. `--hashing` measures hashes per second through the pool instead.
"""

import argparse
import asyncio
import concurrent.futures
import contextlib
import importlib.metadata
import itertools
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import loky
import numpy
import pebble
import uvloop

import pool_work
from devnest import bcrypt
from devnest.pool import Pool

WORKERS = 2
CALLERS = 64
NICE = 10  # of the workers that hash, so that the process that feeds them is never kept waiting
HERE = Path(__file__).parent
PISCINA = "piscina@5.3.2"

Call = Callable[..., Awaitable[Any]]
ROWS = {
    "round_trip_us": "one at a time, µs",
    "tasks_per_s": f"{CALLERS} callers, tasks/s",
    "mb_1_ms": "1 MB there and back, ms",
    "mb_64_ms": "64 MB there and back, ms",
    "array_64_ms": "the same as a NumPy array, ms",
    "light_p99_ms": "light task under heavy ones, p99 ms",
    "recovery_ms": "from a kill to the next answer, ms",
}


WHOLE = ("round_trip_us", "tasks_per_s")


class Contender:
    """A pool by its name: opened for each round, and what to do where a kill has broken it."""

    def __init__(
        self, name: str, opened: Callable[[], Any], light: dict[str, Any] | None = None
    ) -> None:
        self.name = name
        self.opened = opened
        self.light = light or {}  # how a light task asks to go first, where there is a way


@contextlib.asynccontextmanager
async def ours() -> AsyncIterator[Call]:
    async with Pool(workers=WORKERS) as pool:
        yield pool.run


@contextlib.asynccontextmanager
async def executor(make: Callable[[], Any], end: Callable[[Any], None]) -> AsyncIterator[Call]:
    """A pool of concurrent.futures' kind."""
    pool = make()

    async def call(func: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.wrap_future(pool.submit(func, *args))

    try:
        yield call
    finally:
        end(pool)


@contextlib.asynccontextmanager
async def with_pebble() -> AsyncIterator[Call]:
    pool = pebble.ProcessPool(max_workers=WORKERS)

    async def call(func: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.wrap_future(pool.schedule(func, args=args))

    try:
        yield call
    finally:
        pool.stop()
        pool.join()


@contextlib.asynccontextmanager
async def with_anyio() -> AsyncIterator[Call]:
    limiter = anyio.CapacityLimiter(WORKERS)

    async def call(func: Callable[..., Any], *args: Any) -> Any:
        return await anyio.to_process.run_sync(func, *args, limiter=limiter)

    yield call


CONTENDERS = [
    Contender("devnest.pool", ours, {"priority": -1}),
    Contender(
        "ProcessPoolExecutor",
        lambda: executor(
            lambda: concurrent.futures.ProcessPoolExecutor(WORKERS), lambda pool: pool.shutdown()
        ),
    ),
    Contender(
        "loky",
        lambda: executor(
            lambda: loky.ProcessPoolExecutor(WORKERS), lambda pool: pool.shutdown(kill_workers=True)
        ),
    ),
    Contender("pebble", with_pebble),
    Contender("anyio.to_process", with_anyio),
    Contender(
        "ThreadPoolExecutor",
        lambda: executor(
            lambda: concurrent.futures.ThreadPoolExecutor(WORKERS), lambda pool: pool.shutdown()
        ),
    ),
]


async def round_trip_us(call: Call) -> float:
    await repeat(call, 50)
    return await repeat(call, 500) / 500 * 1e6


async def tasks_per_s(call: Call) -> float:
    start = time.perf_counter()
    await asyncio.gather(*(repeat(call, 100) for _ in range(CALLERS)))
    return CALLERS * 100 / (time.perf_counter() - start)


async def repeat(call: Call, count: int) -> float:
    start = time.perf_counter()
    for number in range(count):
        assert await call(pool_work.small, number) == number + 1
    return time.perf_counter() - start


async def payload_ms(call: Call, data: Any, count: int) -> float:
    times = []
    for _ in range(count):
        start = time.perf_counter()
        assert len(await call(pool_work.give_back, data)) == len(data)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


async def light_p99_ms(call: Call, light: dict[str, Any]) -> float:
    """Eight callers keep tasks of 20 ms coming; how long does a light one take?"""

    async def heavy() -> None:
        while not stop:
            await call(pool_work.spin, 0.02)

    stop = False
    flood = [asyncio.ensure_future(heavy()) for _ in range(8)]
    times = []
    for _ in range(60):
        start = time.perf_counter()
        await call(pool_work.small, 1, **light)
        times.append(time.perf_counter() - start)
        await asyncio.sleep(0.005)
    stop = True
    await asyncio.gather(*flood)
    return sorted(times)[math.ceil(0.99 * len(times)) - 1] * 1e3


async def recovery_ms(contender: Contender) -> float:
    """A task kills its worker; how long until the next is answered, by a new pool where this one is broken?"""
    async with contextlib.AsyncExitStack() as stack:
        call = await stack.enter_async_context(contender.opened())
        await asyncio.gather(*(call(pool_work.spin, 0.05) for _ in range(WORKERS)))
        start = time.perf_counter()
        with contextlib.suppress(Exception):
            await call(pool_work.die)
        try:
            await asyncio.gather(*(call(pool_work.small, 1) for _ in range(WORKERS)))
        except Exception:
            call = await stack.enter_async_context(contender.opened())
            await call(pool_work.small, 1)
        return (time.perf_counter() - start) * 1e3


async def one_round(contender: Contender) -> dict[str, float]:
    figures = {}
    async with contender.opened() as call:
        figures["round_trip_us"] = await round_trip_us(call)
        figures["tasks_per_s"] = await tasks_per_s(call)
        figures["mb_1_ms"] = await payload_ms(call, bytes(1 << 20), 20)
        figures["mb_64_ms"] = await payload_ms(call, bytes(64 << 20), 3)
        figures["array_64_ms"] = await payload_ms(call, numpy.ones(8 << 20), 3)
        figures["light_p99_ms"] = await light_p99_ms(call, contender.light)
    if contender.name != "ThreadPoolExecutor":  # a killed thread takes its process along
        figures["recovery_ms"] = await recovery_ms(contender)
    return figures


def piscina_round() -> dict[str, float] | None:
    """Return Piscina's figures, or None, with one line why, where it cannot run."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        print("Piscina is left out: node and npm are not here")
        return None
    home = HERE / "node_modules" / ".piscina"
    if not (home / "node_modules" / "piscina").is_dir():
        home.mkdir(parents=True, exist_ok=True)
        done = subprocess.run([npm, "install", "--silent", "--prefix", home, PISCINA], check=False)
        if done.returncode:
            print(f"Piscina is left out: npm could not install {PISCINA}")
            return None
    script = shutil.copy(HERE / "pool_piscina.mjs", home)
    answer = subprocess.run(
        [node, script, str(WORKERS), str(CALLERS)], capture_output=True, text=True, check=True
    )
    figures: dict[str, float] = json.loads(answer.stdout)
    return figures


def print_table(results: dict[str, list[dict[str, float]]]) -> None:
    print("| | " + " | ".join(ROWS.values()) + " |")
    print("| --- " * (len(ROWS) + 1) + "|")
    for name, rounds in results.items():
        cells = [
            f"{statistics.median(values):,.{0 if row in WHOLE else 1}f}"
            if (values := [figures[row] for figures in rounds if row in figures])
            else "-"
            for row in ROWS
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")


def print_targets(results: dict[str, list[dict[str, float]]]) -> None:
    """Say how the pool stands beside the others of this run."""

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
        print(f"{ROWS[row]}: ProcessPoolExecutor's over ours: {ratio:.1f}")


def print_machine() -> None:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next(
        (line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine()
    )
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}"
        for name in ("loky", "pebble", "anyio", "numpy")
    )
    load = os.getloadavg()[0]
    print(
        f"{os.cpu_count()} CPUs ({model}), load {load:.1f}, Python {platform.python_version()}, {versions}\n"
    )


def compare(rounds: int, only: Sequence[str], use_uvloop: bool) -> None:
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
    print_machine()
    print_table(results)
    print_targets(results)


# Hashes.


async def hashes_through_pool(pool: Pool, seconds: float, cost: int) -> float:
    until = time.perf_counter() + seconds
    numbers = itertools.count()

    async def caller() -> None:
        while time.perf_counter() < until:
            await pool.run(pool_work.hash_many, b"password", bcrypt.gensalt(cost))
            next(numbers)

    start = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return next(numbers) / (time.perf_counter() - start)


async def hashes_without_pool(pool: Pool, seconds: float, cost: int) -> float:
    """Each worker hashes full batches for itself, all at once: what the machine can give."""
    rates: list[float] = await asyncio.gather(
        *(pool.run(pool_work.hash_for, seconds, cost) for _ in range(WORKERS))
    )
    return sum(rates)


async def hash_latencies_ms(pool: Pool, cost: int) -> tuple[float, float]:
    """Return the medians of one hash through the idle pool, and of one made by the kernel, in turn."""
    through, alone = [], []
    for _ in range(15):
        salt = bcrypt.gensalt(cost)
        start = time.perf_counter()
        await pool.run(pool_work.hash_many, b"password", salt)
        through.append(time.perf_counter() - start)
        start = time.perf_counter()
        bcrypt.hashpw(b"password", salt)
        alone.append(time.perf_counter() - start)
    return statistics.median(through) * 1e3, statistics.median(alone) * 1e3


async def hashing(rounds: int, cost: int, seconds: float) -> None:
    print_machine()
    async with Pool(workers=WORKERS, nice=NICE) as pool:
        await hashes_through_pool(pool, seconds, cost)
        stats = pool.stats()
    async with Pool(workers=WORKERS, nice=NICE) as pool:
        await hashes_without_pool(pool, 0.3, cost)
        pairs = [
            (
                await hashes_through_pool(pool, seconds, cost),
                await hashes_without_pool(pool, seconds, cost),
            )
            for _ in range(rounds)
        ]
        through, alone = await hash_latencies_ms(pool, cost)
    ratio = statistics.median(pooled / direct for pooled, direct in pairs)
    pooled, direct = (statistics.median(values) for values in zip(*pairs, strict=True))
    print(
        f"cost {cost}, {bcrypt.LANES} lanes, {WORKERS} workers at nice {NICE}, {CALLERS} callers, medians of {rounds}"
    )
    print(
        f"hashes/s through the pool {pooled:.1f}, by the workers alone {direct:.1f}, ratio {ratio:.3f}"
    )
    print(
        f"calls in a batch {stats.mean_batch:.2f}, workers busy {stats.utilisation:.1%} of the time"
    )
    print(
        f"one hash: through the idle pool {through:.2f} ms, by the kernel {alone:.2f} ms, more {through - alone:.2f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
    if given.hashing:
        asyncio.run(hashing(given.rounds, given.cost, given.seconds))
    else:
        compare(given.rounds, given.only, given.uvloop)


if __name__ == "__main__":
    main()
