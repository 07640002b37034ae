"""The child process that runs the hashing pool of this machine."""

import asyncio

from devnest.cluster.control import Control
from devnest.logs import configure_logging
from devnest.metrics import Metrics
from devnest.passwords.operations import OPERATIONS
from devnest.pool import PoolError, PoolServer
from devnest.settings import PoolSettings
from devnest.shared_memory import SharedMemory

__all__ = ["main"]

# Bounds the hashes that wait, and with them the pool's memory. A machine that does fewer than 80
# hashes a second refuses earlier, because of the deadline of 25 s (`devnest.passwords.runners`).
MAX_QUEUED_HASHES = 2000
# Running hashes get this long when the pool stops.
DRAIN_TIMEOUT_S = 10.0


def main(control_fd: int, memory_fd: int) -> None:
    """Run the pool until the supervisor asks this process to stop.

    Args:
        control_fd: File descriptor of the control socket.
        memory_fd: File descriptor of the shared memory for metrics.
    """
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
        max_queue=MAX_QUEUED_HASHES,
        allow=["devnest.passwords.operations"],
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
        await server.close(deadline=DRAIN_TIMEOUT_S)
