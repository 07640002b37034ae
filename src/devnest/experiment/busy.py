"""How busy the machine is before a design starts; other programs lower the figures of a run."""

import time
from pathlib import Path

__all__ = ["MAX_BUSY_SHARE", "busy"]

# Share of all cores. If more is in use before a run, the results say so.
MAX_BUSY_SHARE = 0.1
IDLE, IOWAIT = 3, 4
# user, nice, system, idle, iowait, irq, softirq, steal. The later columns are part of these.
CPU_STATES = 8


def busy(sample_s: float) -> float | None:
    """Measure how much of the machine is in use.

    Args:
        sample_s: How long to measure, in seconds. The call blocks for this time.

    Returns:
        The share of all cores in use, from 0 to 1, or None if the system has no `/proc/stat`.
    """
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    before = _ticks(stat)
    time.sleep(sample_s)
    spent = [after - earlier for after, earlier in zip(_ticks(stat), before, strict=True)]
    whole = sum(spent)
    return (whole - spent[IDLE] - spent[IOWAIT]) / whole if whole else 0.0


def _ticks(stat: Path) -> list[int]:
    # The first line is the sum of all cores: https://docs.kernel.org/filesystems/proc.html#stat
    with stat.open(encoding="ascii") as file:
        return [int(word) for word in file.readline().split()[1 : 1 + CPU_STATES]]
