"""CPU priority of a worker, effective also where Linux schedules by session."""

import os
import struct
import sys

__all__ = ["Priority"]

AUTOGROUP = "/proc/self/autogroup"
# The number of the system call sched_setattr(2) on 64-bit machines.
SCHED_SETATTR = {
    "x86_64": 314,
    "aarch64": 274,
    "riscv64": 274,
}
ATTRIBUTES = struct.Struct("=IIQiIQQQ")  # struct sched_attr, linux/sched/types.h
MAX_SLICE_NS = 100_000_000  # the longest time slice that Linux accepts


class Priority:
    """The CPU priority of this process and of the session that it leads.

    Where Linux groups processes by session, nice values count only inside a session, and all
    sessions get equal shares (sched(7), "The autogroup feature"; on by default, unless systemd, for
    example, groups processes by cgroup). Therefore the session gets the same nice value as the
    process.

    Since Linux 6.12, a process may finish its time slice although another process, entitled to more
    of the CPU, wakes up. The other one preempts it only if its own slices are shorter. Therefore
    this process asks for the longest slices: its share stays the same, and others run as soon as
    they wake up.
    """

    def __init__(self) -> None:
        self._pending_nice: int | None = None  # of the session, until the kernel accepts it

    def lower(self, by: int) -> None:
        """Raise the nice value of the process, and of its session once the kernel accepts it."""
        nice = os.nice(by)
        _ask_for_long_slices(nice)
        if os.getsid(0) == os.getpid():  # otherwise other processes share the session
            self._pending_nice = nice
            self.retry()

    def retry(self) -> bool:
        """Try again to set the session's nice value; return whether nothing is left to do.

        Linux accepts one such change in 0.1 s from all processes without CAP_SYS_ADMIN together.
        """
        if self._pending_nice is None:
            return True
        try:
            # Importing pathlib would take a worker as long as everything else in this module.
            with open(AUTOGROUP, "w") as autogroup:  # noqa: PTH123
                autogroup.write(str(self._pending_nice))
        except BlockingIOError:
            return False
        except OSError:
            pass  # this kernel has no autogroups
        self._pending_nice = None
        return True


def _ask_for_long_slices(nice: int) -> None:
    """Ask for the longest slices: the "runtime" that sched(7) describes for ordinary processes.

    Older kernels ignore it, and a kernel may refuse it; both leave the default slices.
    """
    number = SCHED_SETATTR.get(os.uname().machine)
    if (
        sys.platform == "linux"
        and number
        and sys.maxsize > 1 << 32
        and os.sched_getscheduler(0) == os.SCHED_OTHER
    ):
        import ctypes  # only workers with a nice value need it, and the others start faster without

        asked = ATTRIBUTES.pack(ATTRIBUTES.size, os.SCHED_OTHER, 0, nice, 0, MAX_SLICE_NS, 0, 0)
        ctypes.CDLL(None).syscall(number, 0, asked, 0)
