"""What of this machine decides how many lanes are best: its CPU, the level-1 cache, the usable cores."""

import os
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
# Lines that name a CPU: x86 has the first; on ARM the other two, numbers, do.
NAMING = ("model name", "CPU implementer", "CPU part")
USUAL_LEVEL1_BYTES = 32 * 1024  # where the size is not known: the least among the CPUs of the last ten years


def cpu_model() -> str:
    """The CPU's name, as far as the system tells it."""
    found: dict[str, str] = {}
    try:
        for line in CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in NAMING:
                found.setdefault(name.strip(), value.strip())
    except OSError:  # not Linux
        pass
    return " ".join(found.values()) or platform.processor() or platform.machine()


def is_x86_64() -> bool:
    """Whether this is the instruction set the wide layout was made for."""
    return platform.machine().lower() in ("x86_64", "amd64")


def level1_bytes() -> int:
    """The size of a core's level-1 data cache."""
    for cache in sorted(CACHES.glob("index*")):
        try:
            level, kind, size = ((cache / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if level == "1" and kind == "Data" and size[:-1].isdecimal() and size.endswith("K"):
            return int(size[:-1]) * 1024
    return USUAL_LEVEL1_BYTES


def usable_cores() -> int:
    """How many CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
