"""CPU priority that also counts where Linux schedules by session, and for whoever wakes."""

import os
import struct
import sys

__all__ = ["Priority"]

AUTOGROUP = "/proc/self/autogroup"
SCHED_SETATTR = {
    "x86_64": 314,
    "aarch64": 274,
    "riscv64": 274,
}  # number of the system call, on 64 bits
ATTRIBUTES = struct.Struct("=IIQiIQQQ")  # struct sched_attr, linux/sched/types.h
MAX_SLICE_NS = 100_000_000  # that Linux takes


class Priority:
    """The CPU priority of this process and of the session that it leads.

    Where Linux groups processes by session (sched(7), "The autogroup feature": on by default, unless something like
    systemd has grouped them by cgroup), nice counts only among those of one session, and every session has an equal
    share. So the session is made as nice as the process.

    Linux 6.12 and newer lets a process finish its time slice even where somebody wakes who is to get more of the CPU,
    unless that one asks for shorter slices. So this one asks for the longest: its share stays the same, and who wakes
    runs at once.
    """

    def __init__(self) -> None:
        self._pending_nice: int | None = None  # the session's, while the kernel does not take it

    def lower(self, by: int) -> None:
        """Stand back by so much, from now on or from when retry() says so."""
        nice = os.nice(by)
        _ask_for_long_slices(nice)
        if os.getsid(0) == os.getpid():  # else it is others' session too
            self._pending_nice = nice
            self.retry()

    def retry(self) -> bool:
        """Try again: from processes that are not root's the kernel takes one change in 0.1 s, of all of them."""
        if self._pending_nice is None:
            return True
        try:
            with open(AUTOGROUP, "w") as autogroup:  # noqa: PTH123 (pathlib would take a worker as long as all the rest here)
                autogroup.write(str(self._pending_nice))
        except BlockingIOError:
            return False
        except OSError:
            pass  # there is no such feature
        self._pending_nice = None
        return True


def _ask_for_long_slices(nice: int) -> None:
    """As sched(7) has it: the "runtime" of an ordinary process. Older kernels take no notice, others may refuse."""
    number = SCHED_SETATTR.get(os.uname().machine)
    if (
        sys.platform == "linux"
        and number
        and sys.maxsize > 1 << 32
        and os.sched_getscheduler(0) == os.SCHED_OTHER
    ):
        import ctypes  # most workers are as urgent as everybody else, and start without it

        asked = ATTRIBUTES.pack(ATTRIBUTES.size, os.SCHED_OTHER, 0, nice, 0, MAX_SLICE_NS, 0, 0)
        ctypes.CDLL(None).syscall(number, 0, asked, 0)
