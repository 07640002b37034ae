"""Hashes per second through the pool beside the bare kernel's: `pool.py --hashing`."""

import asyncio
import itertools
import statistics
import time

import pool_work
from devnest import bcrypt
from devnest.pool import Pool
from pool_work import CALLERS, WORKERS

NICE = 10  # of the workers that hash, so that the process that feeds them is never kept waiting


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
    """Let each worker hash full batches by itself: the most that the machine can do."""
    rates: list[float] = await asyncio.gather(
        *(pool.run(pool_work.hash_for, seconds, cost) for _ in range(WORKERS))
    )
    return sum(rates)


async def hash_latencies_ms(pool: Pool, cost: int) -> tuple[float, float]:
    """Return the median of one hash through the idle pool, and of one by the kernel."""
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
