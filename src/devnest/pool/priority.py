"""CPU priority that also counts where Linux schedules by session."""

import os
from pathlib import Path

__all__ = ["Priority"]

AUTOGROUP = Path("/proc/self/autogroup")


class Priority:
    """The CPU priority of this process and of the session that it leads.

    Where Linux groups processes by session (sched(7), "The autogroup feature": on by default, unless something like
    systemd has grouped them by cgroup), nice counts only among those of one session, and every session has an equal
    share. So the session is made as nice as the process.
    """

    def __init__(self) -> None:
        self._wanted: int | None = None  # the session's, while the kernel does not take it

    def lower(self, by: int) -> None:
        """Stand back by so much, from now on or from when `settle` says so."""
        nice = os.nice(by)
        if os.getsid(0) == os.getpid():  # else it is others' session too
            self._wanted = nice
            self.settle()

    def settle(self) -> bool:
        """Try again: from processes that are not root's the kernel takes one change in 0.1 s, of all of them."""
        if self._wanted is None:
            return True
        try:
            AUTOGROUP.write_text(str(self._wanted))
        except BlockingIOError:
            return False
        except OSError:
            pass  # there is no such feature
        self._wanted = None
        return True
