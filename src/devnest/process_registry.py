"""Who runs: written by the supervisor into the shared memory, read by every server for `/metrics`."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import msgspec
import psutil
import structlog

from devnest.shared_memory import SharedMemory

__all__ = ["ProcessRegistry", "Processes", "Usage", "read_processes", "usages"]

SLOT = 0  # the supervisor's in the shared memory
POOL = "pool"
WORKER = "worker"
log = structlog.get_logger("devnest.process_registry")


class Processes(msgspec.Struct):
    """The id of each process by its name, how many children of each name have died, and what the supervisor dropped."""

    pids: dict[str, int] = {}
    restarts: dict[str, int] = {}
    dropped_lines: int = 0


class ProcessRegistry:
    """The supervisor's end. This process is on the processes from the start."""

    def __init__(self, memory: SharedMemory) -> None:
        self._memory = memory
        self._processes = Processes({"supervisor": os.getpid()})
        self._has_warned = False

    def started(self, name: str, pid: int) -> None:
        """A child runs."""
        self._processes.pids[name] = pid
        self._processes.restarts.setdefault(name, 0)
        self._write()

    def died(self, name: str) -> None:
        """A child ended that nobody had told to."""
        self._processes.restarts[name] = self._processes.restarts.get(name, 0) + 1
        self.left(name)

    def left(self, name: str) -> None:
        """A child ended: what it counted stays, for its successor to go on with; what it had at the moment goes."""
        self._processes.pids.pop(name, None)
        self._write()

    def dropped(self, lines: int) -> None:
        """The supervisor's log has lost so many lines in all."""
        if lines != self._processes.dropped_lines:
            self._processes.dropped_lines = lines
            self._write()

    def _write(self) -> None:
        try:
            self._memory.write(SLOT, msgspec.json.encode(self._processes))
        except OSError as error:  # metrics that cannot be shared end no service
            if not self._has_warned:
                log.warning("metrics not shared", reason=str(error))
            self._has_warned = True


def read_processes(memory: SharedMemory) -> Processes:
    """What the supervisor wrote last; empty where there is nothing to read."""
    try:
        return msgspec.json.decode(memory.read(SLOT), type=Processes)
    except (ValueError, OSError):  # msgspec's errors are of the former
        return Processes()


@dataclass(frozen=True)
class Usage:
    """What a process has taken until now."""

    name: str
    pid: int
    cpu_s: float
    resident_bytes: int


def usages(processes: Processes) -> Iterator[Usage]:
    """Every process of the processes, and the pool's workers; without those that have just gone."""
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
