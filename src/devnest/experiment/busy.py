"""How busy the machine is before a design starts: neighbours take from every figure, and not evenly."""

import time
from pathlib import Path

__all__ = ["BUSY", "busy"]

BUSY = 0.1  # of all cores; above it a run is said to have had neighbours
IDLE, IOWAIT = 3, 4
KINDS = 8  # user, nice, system, idle, iowait, irq, softirq, steal; what follows is in these already


def busy(look_s: float) -> float | None:
    """The share of all cores in use over the next `look_s` seconds; None where the system does not tell."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    before = _ticks(stat)
    time.sleep(look_s)
    spent = [after - earlier for after, earlier in zip(_ticks(stat), before, strict=True)]
    whole = sum(spent)
    return (whole - spent[IDLE] - spent[IOWAIT]) / whole if whole else 0.0


def _ticks(stat: Path) -> list[int]:
    """Of all cores together; the first line of https://docs.kernel.org/filesystems/proc.html#stat."""
    with stat.open(encoding="ascii") as file:
        return [int(word) for word in file.readline().split()[1 : 1 + KINDS]]
