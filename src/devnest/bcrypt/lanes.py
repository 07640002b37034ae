"""How many lanes to use on this machine: by setting, as calibrated, or five."""

import json
import logging
import os
import platform
from pathlib import Path

from devnest import __version__
from devnest.bcrypt.machine import cpu_model

LANES_MAX = 6
VARIABLE = "DEVNEST_LANES"
LANES_UNMEASURED = 5  # where nothing was measured: docs/explanation/lanes.md has the figures
FILE_BYTES_MAX = 1 << 20

log = logging.getLogger("devnest.bcrypt")


def memory() -> Path:
    """The file that holds each machine's calibrated lane count."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (
        (Path(base) if Path(base).is_absolute() else Path.home() / ".cache")
        / "devnest"
        / "lanes.json"
    )


def this_machine() -> str:
    """The key of this machine in the file: a home may be shared, and kernels and compilers change."""
    return f"{cpu_model()} | {platform.system()} {platform.release()} | devnest {__version__}"


def _entries() -> dict[str, object]:
    """What the file holds; nothing where it is missing or is not what remember() writes."""
    try:
        with memory().open(encoding="utf-8") as file:
            entries = json.loads(file.read(FILE_BYTES_MAX))
    except (OSError, ValueError, RecursionError, RuntimeError):  # RuntimeError: no home directory
        return {}
    return entries if isinstance(entries, dict) else {}


def remembered() -> int | None:
    """The lane count calibrated on this machine, if there is a sound one."""
    match _entries().get(this_machine()):
        case {"lanes": int(lanes)} if 1 <= lanes <= LANES_MAX:
            return lanes
    return None


def remember(lanes: int) -> Path:
    """Keep the lane count for this machine's next processes; OSError where it cannot be written."""
    path = memory()
    entries = _entries() | {this_machine(): {"lanes": lanes}}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(entries, indent=1), encoding="utf-8")
        temporary.replace(path)  # whole or not at all, for whoever reads it now
    finally:
        temporary.unlink(missing_ok=True)
    return path


def chosen() -> int:
    """The lanes for this process: DEVNEST_LANES, else what was calibrated, else five."""
    lanes = remembered() or LANES_UNMEASURED
    wanted = os.environ.get(VARIABLE, "")
    if not wanted:
        return lanes
    if wanted in map(str, range(1, LANES_MAX + 1)):
        return int(wanted)
    log.warning("%s=%r is not a number from 1 to %d; using %d", VARIABLE, wanted, LANES_MAX, lanes)
    return lanes
