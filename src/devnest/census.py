"""Who runs: written by the supervisor into one small file, read by every server for `/metrics`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil
import structlog

__all__ = ["Census", "Roll", "Usage", "read_roll", "usages"]

FILE = "processes.json"
POOL = "pool"
WORKER = "worker"
log = structlog.get_logger("devnest.census")


class Roll(msgspec.Struct):
    """The id of each process by its name, and how many children of each name have died."""

    pids: dict[str, int] = {}
    restarts: dict[str, int] = {}


class Census:
    """The supervisor's end. `directory`: where the metrics' files are. This process is on the roll from the start."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._roll = Roll({"supervisor": os.getpid()})

    def started(self, name: str, pid: int) -> None:
        """A child runs."""
        self._roll.pids[name] = pid
        self._roll.restarts.setdefault(name, 0)
        self._write()

    def died(self, name: str) -> None:
        """A child ended that nobody had told to."""
        self._roll.restarts[name] = self._roll.restarts.get(name, 0) + 1
        self.left(name)

    def left(self, name: str) -> None:
        """A child ended: what it counted stays, for its successor to go on with; what it had at the moment goes."""
        self._roll.pids.pop(name, None)
        with _noted():
            for file in self._directory.glob(f"gauge_live*_{name}.db"):
                file.unlink(missing_ok=True)
        self._write()

    def _write(self) -> None:
        with _noted():
            unfinished = self._directory / f"{FILE}.new"
            unfinished.write_bytes(msgspec.json.encode(self._roll))
            unfinished.replace(self._directory / FILE)


@contextmanager
def _noted() -> Iterator[None]:
    """Metrics that cannot be written end no service."""
    try:
        yield
    except OSError as error:
        log.warning("metrics not written", reason=str(error))


def read_roll(directory: Path) -> Roll:
    """What the supervisor wrote last; empty where there is nothing to read."""
    try:
        return msgspec.json.decode((directory / FILE).read_bytes(), type=Roll)
    except (OSError, msgspec.DecodeError):
        return Roll()


@dataclass(frozen=True)
class Usage:
    """What a process has taken until now."""

    name: str
    pid: int
    cpu_s: float
    resident_bytes: int


def usages(roll: Roll) -> Iterator[Usage]:
    """Every process of the roll, and the pool's workers; without those that have just gone."""
    for name, pid in roll.pids.items():
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
