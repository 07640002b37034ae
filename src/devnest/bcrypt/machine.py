"""The name of this machine's CPU, and the size of its level-1 data cache."""

import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
# The lines that name a CPU: the first on x86, the numbers of the other two on ARM.
NAMING = ("model name", "CPU implementer", "CPU part")


def cpu_model() -> str:
    """Return the CPU's name, with all that the system says of it."""
    found: dict[str, str] = {}
    try:
        for line in CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in NAMING:
                found.setdefault(name.strip(), value.strip())
    except OSError:  # not Linux
        pass
    return " ".join(found.values()) or platform.processor() or platform.machine()


def level_1_data_bytes() -> int:
    """Return the size of a core's level-1 data cache, or 0 where the system does not tell."""
    try:
        for cache in CACHES.glob("index*"):
            level, kind, size = (
                (cache / name).read_text(encoding="ascii").strip()
                for name in ("level", "type", "size")
            )
            if (level, kind, size[-1:]) == ("1", "Data", "K"):
                return int(size[:-1]) << 10
    except (OSError, ValueError):
        pass
    return 0
