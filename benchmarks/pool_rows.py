"""What `pool.py` measures of each pool: the rows of its table."""

import asyncio
import contextlib
import math
import statistics
import time
from typing import Any

import numpy

import pool_work
from pool_contenders import Call, Contender
from pool_work import CALLERS, WORKERS

ROWS = {
    "round_trip_us": "one at a time, µs",
    "tasks_per_s": f"{CALLERS} callers, tasks/s",
    "mb_1_ms": "1 MB there and back, ms",
    "mb_64_ms": "64 MB there and back, ms",
    "array_64_ms": "the same as a NumPy array, ms",
    "light_p99_ms": "light task under heavy ones, p99 ms",
    "recovery_ms": "from a kill to the next answer, ms",
}


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
    """Measure a light task while eight callers keep tasks of 20 ms coming."""

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
    """Measure the time from the kill of a worker to the next answer.

    Where the kill has broken the pool, a new pool gives that answer.
    """
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
    # A thread cannot be killed without its process.
    if contender.name != "ThreadPoolExecutor":
        figures["recovery_ms"] = await recovery_ms(contender)
    return figures
