"""The list of running processes.

The supervisor writes it into the shared memory, and every server reads it for `/metrics`.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import msgspec
import psutil
import structlog

from devnest.shared_memory import SharedMemory

__all__ = ["ProcessRegistry", "Processes", "Usage", "read_processes", "usages"]

SLOT = 0  # the supervisor's slot in the shared memory
POOL = "pool"
WORKER = "worker"
log = structlog.get_logger("devnest.process_registry")


class Processes(msgspec.Struct):
    """The running processes of one DevNest.

    Attributes:
        pids: The process id of each process, by name.
        restarts: How many children of each name have died.
        dropped_lines: How many log lines the supervisor has dropped.
    """

    pids: dict[str, int] = {}
    restarts: dict[str, int] = {}
    dropped_lines: int = 0


class ProcessRegistry:
    """The supervisor's side of the list. It starts with the supervisor itself."""

    def __init__(self, memory: SharedMemory) -> None:
        self._memory = memory
        self._processes = Processes({"supervisor": os.getpid()})
        self._has_warned = False

    def started(self, name: str, pid: int) -> None:
        """Add a child that runs now."""
        self._processes.pids[name] = pid
        self._processes.restarts.setdefault(name, 0)
        self._write()

    def died(self, name: str) -> None:
        """Remove a child that ended unexpectedly, and count it."""
        self._processes.restarts[name] = self._processes.restarts.get(name, 0) + 1
        self.left(name)

    def left(self, name: str) -> None:
        """Remove a child that ended.

        Its counters stay in the shared memory, and its successor continues them. Its gauges are no
        longer shown.
        """
        self._processes.pids.pop(name, None)
        self._write()

    def dropped(self, lines: int) -> None:
        """Record how many log lines the supervisor has dropped in total."""
        if lines != self._processes.dropped_lines:
            self._processes.dropped_lines = lines
            self._write()

    def _write(self) -> None:
        try:
            self._memory.write(SLOT, msgspec.json.encode(self._processes))
        except OSError as error:  # the service runs on without shared metrics
            if not self._has_warned:
                log.warning("metrics not shared", reason=str(error))
            self._has_warned = True


def read_processes(memory: SharedMemory) -> Processes:
    """Return the list that the supervisor wrote last, empty if it cannot be read."""
    try:
        return msgspec.json.decode(memory.read(SLOT), type=Processes)
    except (ValueError, OSError):  # msgspec raises subclasses of ValueError
        return Processes()


@dataclass(frozen=True)
class Usage:
    """The resources a process has used since it started."""

    name: str
    pid: int
    cpu_s: float
    resident_bytes: int


def usages(processes: Processes) -> Iterator[Usage]:
    """Yield the usage of every listed process and of the pool's workers.

    A process that has just ended is left out.
    """
    for name, pid in processes.pids.items():
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            yield _usage(name, process)
            for worker in process.children() if name == POOL else ():
                with suppress(psutil.Error):
                    yield _usage(WORKER, worker)


def _usage(name: str, process: psutil.Process) -> Usage:
    with process.oneshot():
        cpu = process.cpu_times()
        return Usage(name, process.pid, cpu.user + cpu.system, process.memory_info().rss)
