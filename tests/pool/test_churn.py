"""What only shows after a while: nothing grows, however much comes and goes."""

import asyncio
import gc

import psutil

from devnest.pool import Pool, PoolServer, TaskTimeout, WorkerCrashed
from tests.pool import work
from tests.pool.conftest import children, descriptors
from tests.pool.support import until

GROWTH_BYTES = (
    4 << 20
)  # what allocators may keep; a byte lost for each of 100,000 tasks' objects is far more


def memory_bytes() -> int:
    """Return the memory of this process."""
    gc.collect()
    return int(psutil.Process().memory_info().rss)


async def test_100_000_small_tasks_leave_no_trace() -> None:
    """Neither here nor in the workers."""
    async with Pool(workers=2) as pool:

        async def load(count: int) -> None:
            async def caller() -> None:
                for number in range(count // 50):
                    assert await pool.run(work.add, number, 1) == number + 1

            await asyncio.gather(*(caller() for _ in range(50)))

        await load(10_000)
        workers = [psutil.Process(pid) for pid in sorted(children())]
        fds, own = len(descriptors()), memory_bytes()
        theirs = [worker.memory_info().rss for worker in workers]
        await load(100_000)
        assert memory_bytes() - own < GROWTH_BYTES
        assert len(descriptors()) == fds
        assert sorted(children()) == [worker.pid for worker in workers]
        for worker, before in zip(workers, theirs, strict=True):
            assert worker.memory_info().rss - before < GROWTH_BYTES
        assert pool.stats().done == 110_000


async def test_an_hour_of_churn_compressed() -> None:
    """Recycling, idle reaping, resizing, crashes, timeouts, cancels and large payloads, over and
    over.
    """
    async with Pool(min_workers=0, max_workers=3, idle_timeout=0.02, max_tasks=8) as pool:

        async def round_of_everything(number: int) -> None:
            assert (
                len(set(await asyncio.gather(*(pool.run(work.add, i, i) for i in range(10))))) == 10
            )
            assert await pool.run(work.echo, bytes(300_000)) == bytes(300_000)
            cancelled = asyncio.ensure_future(pool.run(work.add, 1, 1))
            await asyncio.sleep(0)
            cancelled.cancel()
            await asyncio.wait([cancelled])
            results = await asyncio.gather(
                pool.run(work.exit_at_once, 1),
                pool.run(work.sleep_long, timeout=0.02),
                return_exceptions=True,
            )
            assert [type(result) for result in results] == [WorkerCrashed, TaskTimeout]
            pool.resize(min_workers=number % 2, max_workers=2 + number % 3)

        async def rest() -> None:
            pool.resize(min_workers=0, max_workers=3)
            await until(lambda: not children())

        for number in range(3):
            await round_of_everything(number)
        await rest()
        fds, own = len(descriptors()), memory_bytes()
        for number in range(10):
            await round_of_everything(number)
        await rest()
        assert len(descriptors()) == fds
        assert memory_bytes() - own < GROWTH_BYTES
        assert not pool.engine().workers
        assert not pool.engine().scheduler.workers.all


async def test_clients_that_come_and_go(socket_path: "object") -> None:
    """Connections, with tasks and without, leave nothing in the server."""
    async with PoolServer(str(socket_path), workers=1) as server:
        own = 0
        for number in range(300):
            async with Pool.connect(server.url) as pool:
                if number % 2:
                    assert await pool.run(work.add, number, 1) == number + 1
            if number == 50:
                await until(lambda: not server._clients)
                fds, own = len(descriptors()), memory_bytes()
        await until(lambda: not server._clients)
        assert len(descriptors()) == fds
        assert memory_bytes() - own < GROWTH_BYTES
