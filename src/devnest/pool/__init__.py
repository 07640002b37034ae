"""Runs functions in worker processes for asyncio programs.

A pool has a bounded queue, is fair between its callers, and can cancel running work. Waiting calls
of one function can run as a batch. One pool can serve all processes of a user on a machine.
"""

from typing import TYPE_CHECKING, Any

from devnest.pool.errors import (
    DeadlineExceeded,
    InvalidTask,
    NotPicklable,
    PoolClosed,
    PoolError,
    PoolFull,
    TaskTimeout,
    WorkerCrashed,
    WorkerTraceback,
)
from devnest.pool.functions import batched, pure

if TYPE_CHECKING:
    from devnest.pool.client import RemotePool
    from devnest.pool.core.stats import Histogram, Stats
    from devnest.pool.executor import PoolExecutor
    from devnest.pool.pool import Pool
    from devnest.pool.runtime.cpus import usable_cpus
    from devnest.pool.server import PoolServer

__all__ = [
    "DeadlineExceeded",
    "Histogram",
    "InvalidTask",
    "NotPicklable",
    "Pool",
    "PoolClosed",
    "PoolError",
    "PoolExecutor",
    "PoolFull",
    "PoolServer",
    "RemotePool",
    "Stats",
    "TaskTimeout",
    "WorkerCrashed",
    "WorkerTraceback",
    "batched",
    "pure",
    "usable_cpus",
]

# Imported on first use. Workers import this package for the decorators and errors alone, and start
# faster without asyncio.
_LATER = {
    "Histogram": "core.stats",
    "Pool": "pool",
    "PoolExecutor": "executor",
    "PoolServer": "server",
    "RemotePool": "client",
    "Stats": "core.stats",
    "usable_cpus": "runtime.cpus",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
