"""A start of PostgreSQL, watched: it is waited for as long as it makes progress.

After a crash PostgreSQL repeats what its write-ahead log has since the last checkpoint. That may take an hour, and one
that is killed meanwhile begins anew. So what counts is not how long it takes but whether it moves: PostgreSQL writes a
line every ten seconds while it recovers, and its processes use CPU time.
"""

import time
from contextlib import suppress
from pathlib import Path

import structlog

from devnest.store.postgres.log import PostgresLog

__all__ = ["MAX_STANDSTILL_S", "Startup"]

MAX_STANDSTILL_S = (
    300.0  # the checkpoint at the end of a recovery may say nothing and only wait for the disk
)
CHECK_INTERVAL_S = 1.0
REPORT_INTERVAL_S = 10.0
log = structlog.get_logger("devnest.store")


class Startup:
    """From the launch of a postmaster on; `look` as often as you like."""

    def __init__(self, pid: int, postgres_log: PostgresLog) -> None:
        self._pid = pid
        self._log = postgres_log
        self._began_at = self._moved_at = self._looked_at = self._reported_at = time.monotonic()
        self._seen: tuple[int, int] | None = None

    def is_stuck(self) -> bool:
        """Whether nothing has moved for too long. Every ten seconds the log says that it is waited for, and why."""
        now = time.monotonic()
        if now - self._looked_at >= CHECK_INTERVAL_S:
            self._looked_at = now
            if (seen := (self._log.size_bytes(), _cpu_ticks(self._pid))) != self._seen:
                self._seen, self._moved_at = seen, now
        if now - self._reported_at >= REPORT_INTERVAL_S:
            self._reported_at = now
            last = " ".join(self._log.last_lines(1))
            log.warning(
                "postgresql still starts", waited_s=round(now - self._began_at), last_line=last
            )
        return now - self._moved_at > MAX_STANDSTILL_S


def _cpu_ticks(pid: int) -> int:
    """CPU time of a process and its children, where the system tells."""
    family = [str(pid)]
    with suppress(OSError):
        family += Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ticks = 0
    for member in family:
        with suppress(OSError, ValueError, IndexError):
            # Fields 14 and 15; the second, a name in parentheses, may have spaces in it.
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks
