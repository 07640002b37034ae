"""How busy the machine is; other programs lower the figures of a measurement."""

import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MAX_BUSY_SHARE", "MAX_STOLEN_SHARE", "CpuTimes", "busy"]

# Shares of all cores. If more is in use before a measurement, or is given to other machines during
# it, the results say so.
MAX_BUSY_SHARE = 0.1
MAX_STOLEN_SHARE = 0.02
_STAT = Path("/proc/stat")
_IDLE, _IOWAIT, _STEAL = 3, 4, 7
# user, nice, system, idle, iowait, irq, softirq, steal. The later columns are part of these.
_CPU_STATES = 8


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """The time that all cores together have spent, in the kernel's ticks.

    Attributes:
        used: In programs and in the kernel, and stolen.
        stolen: Given to other virtual machines while this one had work.
        whole: Altogether.
    """

    used: int
    stolen: int
    whole: int

    @classmethod
    def now(cls) -> "CpuTimes | None":
        """Return the times since the start of the machine, or None without `/proc/stat`."""
        if not _STAT.exists():
            return None
        # The first line is the sum of all cores:
        # https://docs.kernel.org/filesystems/proc.html#stat
        with _STAT.open(encoding="ascii") as file:
            ticks = [int(word) for word in file.readline().split()[1 : 1 + _CPU_STATES]]
        whole = sum(ticks)
        return cls(whole - ticks[_IDLE] - ticks[_IOWAIT], ticks[_STEAL], whole)

    def share_since(self, before: "CpuTimes") -> float:
        """Return the share of all cores that was used since `before`, from 0 to 1."""
        whole = self.whole - before.whole
        return (self.used - before.used) / whole if whole else 0.0

    def stolen_since(self, before: "CpuTimes") -> float:
        """Return the share of all cores that was stolen since `before`, from 0 to 1."""
        whole = self.whole - before.whole
        return (self.stolen - before.stolen) / whole if whole else 0.0


def busy(sample_s: float) -> float | None:
    """Measure how much of the machine is in use.

    Args:
        sample_s: How long to measure, in seconds. The call blocks for this time.

    Returns:
        The share of all cores in use, from 0 to 1, or None if the system has no `/proc/stat`.
    """
    before = CpuTimes.now()
    if before is None:
        return None
    time.sleep(sample_s)
    after = CpuTimes.now()
    return None if after is None else after.share_since(before)
