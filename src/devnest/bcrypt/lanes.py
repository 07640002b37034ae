"""How many lanes this process uses: `DEVNEST_LANES`, else the calibrated number, else five."""

import json
import logging
import os
import platform
from pathlib import Path

from devnest import __version__
from devnest.bcrypt.machine import cpu_model, level_1_data_bytes

MAX_LANES = 8  # the kernel's own limit: nine lanes are no faster than eight
MAX_NARROW_LANES = 6  # their state, 4 KiB a lane, fits a level-1 data cache of 32 KiB
WIDE_CACHE_BYTES = 48 << 10  # the state of eight lanes fits a level-1 data cache of this size
DEFAULT_LANES = 5  # on a machine that was not calibrated; docs/explanation/lanes.md has the figures
VARIABLE = "DEVNEST_LANES"
MAX_FILE_BYTES = 1 << 20  # read of the file; remember() writes a few hundred for each machine

log = logging.getLogger("devnest.bcrypt")


def calibration_file() -> Path:
    """Return the file that holds the calibrated lane count of each machine."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (
        (Path(base) if Path(base).is_absolute() else Path.home() / ".cache")
        / "devnest"
        / "lanes.json"
    )


def this_machine() -> str:
    """Return the key of this machine in the file.

    Machines may share a home directory, and the best number changes with the CPU and the kernel.
    """
    return f"{cpu_model()} | {platform.system()} {platform.release()} | devnest {__version__}"


def _entries() -> dict[str, object]:
    """Return what the file holds, or nothing where it is missing or damaged."""
    try:
        with calibration_file().open(encoding="utf-8") as file:
            entries = json.loads(file.read(MAX_FILE_BYTES))
    except (OSError, ValueError, RecursionError, RuntimeError):  # RuntimeError: no home directory
        return {}
    return entries if isinstance(entries, dict) else {}


def remembered() -> int | None:
    """Return the lane count calibrated on this machine, or None."""
    match _entries().get(this_machine()):
        case {"lanes": int(lanes)} if 1 <= lanes <= MAX_LANES:
            return lanes
    return None


def most_measured() -> int:
    """Return how many lanes `devnest calibrate` tries: eight where the level-1 cache holds them."""
    return MAX_LANES if level_1_data_bytes() >= WIDE_CACHE_BYTES else MAX_NARROW_LANES


def remember(lanes: int) -> Path:
    """Store the lane count for this machine's next processes.

    Returns:
        The file it was written to.

    Raises:
        OSError: The file cannot be written.
    """
    path = calibration_file()
    entries = _entries() | {this_machine(): {"lanes": lanes}}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(entries, indent=1), encoding="utf-8")
        temporary.replace(path)  # a reader sees the old file or the new one, never a part
    finally:
        temporary.unlink(missing_ok=True)
    return path


def chosen() -> int:
    """Return the lanes for this process. A bad value of `DEVNEST_LANES` is logged and ignored."""
    lanes = remembered() or DEFAULT_LANES
    wanted = os.environ.get(VARIABLE, "")
    if not wanted:
        return lanes
    if wanted in map(str, range(1, MAX_LANES + 1)):
        return int(wanted)
    log.warning("%s=%r is not a number from 1 to %d; using %d", VARIABLE, wanted, MAX_LANES, lanes)
    return lanes
