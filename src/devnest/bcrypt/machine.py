"""This machine, as far as hashing is concerned: the name of its CPU."""

import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# Lines that name a CPU: x86 has the first; on ARM the other two, numbers, do.
NAMING = ("model name", "CPU implementer", "CPU part")


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
