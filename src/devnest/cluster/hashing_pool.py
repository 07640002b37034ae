"""The machine's pool, as a child of the supervisor."""

import asyncio

from devnest.cluster.control import Control
from devnest.hashing import OPERATIONS
from devnest.logs import configure_logging
from devnest.metrics import Metrics
from devnest.pool import PoolError, PoolServer
from devnest.settings import PoolSettings
from devnest.shared_memory import SharedMemory

__all__ = ["main"]

MAX_WAITING = (
    2000  # hashes; their deadline of 25 s refuses earlier where fewer than 80 a second are done
)
DRAIN_S = 10.0


def main(control_fd: int, memory_fd: int) -> None:
    """Serve until told to end."""
    control = Control(control_fd)
    memory = SharedMemory(memory_fd)
    settings = control.settings(PoolSettings)
    configure_logging(settings.log_level)
    asyncio.run(_serve(control, settings, memory))


async def _serve(control: Control, settings: PoolSettings, memory: SharedMemory) -> None:
    server = PoolServer(
        settings.path,
        workers=settings.workers,
        nice=settings.nice,
        max_queue=MAX_WAITING,
        allow=["devnest.hashing"],
    )
    for operation in OPERATIONS:
        server.warm(f"{operation.__module__}:{operation.__qualname__}")
    try:
        await server.start()
    except (OSError, PoolError) as error:
        control.failed(1, f"the pool cannot start: {error}")
        return
    stop = asyncio.Event()
    control.watch(stop.set)
    with Metrics(memory, settings.metrics_slot, settings.name) as metrics:
        metrics.watch_log()
        control.ready()
        await stop.wait()
        await server.close(deadline=DRAIN_S)
