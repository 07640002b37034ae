"""The name of this machine's CPU."""

import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
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
