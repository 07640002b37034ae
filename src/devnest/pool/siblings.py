"""Warns of processes of the same program with pools of their own, which Linux' `/proc` tells."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["MAX_BATCH_TO_WARN", "MIN_CALLS", "count_sibling_pools", "warn_of_siblings"]

MIN_CALLS = 256  # calls of batched functions after which a pool looks at its batches, once
MAX_BATCH_TO_WARN = 1.1  # calls in a batch on average; with more, batches work
_WORKER = b"devnest.pool.runtime.worker"  # in the command line of each worker process
_log = logging.getLogger("devnest.pool")


class _Process(NamedTuple):
    pid: int
    parent: int
    command: bytes


def warn_of_siblings(mean_batch: float) -> None:
    """Log a warning if batches are small and other processes of the program have pools too."""
    if mean_batch <= MAX_BATCH_TO_WARN and (others := count_sibling_pools()):
        _log.warning(
            "calls run in batches of %.1f, and %d other processes of this program have a pool of "
            "their own; with Pool.shared() their calls run in common batches",
            mean_batch,
            others,
        )


def count_sibling_pools() -> int:
    """Return how many processes with this one's parent and command have workers.

    These are the processes of a server such as gunicorn. Elsewhere than on Linux it is 0.
    """
    processes = list(_processes())
    own = next((process for process in processes if process.pid == os.getpid()), None)
    if own is None:
        return 0
    siblings = {
        process.pid
        for process in processes
        if process.parent == own.parent and process.command == own.command and process != own
    }
    return len({
        process.parent
        for process in processes
        if process.parent in siblings and _WORKER in process.command
    })  # fmt: skip


def _processes() -> Iterator[_Process]:
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            # The second field is the name in parentheses, which may have any characters.
            fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
            command = (entry / "cmdline").read_bytes()
        except OSError:  # it has ended
            continue
        yield _Process(int(entry.name), int(fields[1]), command)
