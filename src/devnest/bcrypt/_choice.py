"""How many lanes to use on this machine: by setting, as calibrated, or by a rule."""

import json
import logging
import os
import platform
from pathlib import Path
from typing import NamedTuple

from devnest import __version__
from devnest.bcrypt import _machine

LANES_MAX = 6
VARIABLE = "DEVNEST_LANES"
WIDE_LANE_BYTES = 8 * 1042  # native/lanes.h: the state of one lane in the wide layout
FILE_BYTES_MAX = 1 << 20

log = logging.getLogger("devnest.bcrypt")


class Choice(NamedTuple):
    """Up to `lanes` hashes share a core; groups of up to `wide_lanes` of them use the wide layout."""

    lanes: int
    wide_lanes: int


def by_rule() -> Choice:
    """The choice where nothing was measured.

    The wide layout pays on x86-64 as long as its tables fit the level-1 cache; elsewhere a byte is taken out
    of a register in one instruction anyway. Five lanes where five fit wide, else four: docs/lanes.md has the
    figures.
    """
    fitting = min(LANES_MAX, _machine.level1_bytes() // WIDE_LANE_BYTES) if _machine.is_x86_64() else 0
    return Choice(5 if fitting >= 5 else 4, fitting)


def memory() -> Path:
    """The file that holds each machine's calibrated choice."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "devnest" / "lanes.json"


def this_machine() -> str:
    """The key of this machine in the file: a home may be shared, and kernels and compilers change."""
    return f"{_machine.cpu_model()} | {platform.system()} {platform.release()} | devnest {__version__}"


def _entries() -> dict[str, object]:
    """What the file holds; nothing where it is missing or is not what remember() writes."""
    try:
        with memory().open(encoding="utf-8") as file:
            entries = json.loads(file.read(FILE_BYTES_MAX))
    except (OSError, ValueError, RecursionError, RuntimeError):  # RuntimeError: no home directory
        return {}
    return entries if isinstance(entries, dict) else {}


def remembered() -> Choice | None:
    """The choice calibrated on this machine, if there is a sound one."""
    match _entries().get(this_machine()):
        case {"lanes": int(lanes), "wide_lanes": int(wide)} if 1 <= lanes <= LANES_MAX >= wide >= 0:
            return Choice(lanes, wide)
    return None


def remember(choice: Choice) -> Path:
    """Keep the choice for this machine's next processes; OSError where it cannot be written."""
    path = memory()
    entries = _entries() | {this_machine(): choice._asdict()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(entries, indent=1), encoding="utf-8")
        temporary.replace(path)  # whole or not at all, for whoever reads it now
    finally:
        temporary.unlink(missing_ok=True)
    return path


def chosen() -> Choice:
    """The choice for this process: DEVNEST_LANES, else what was calibrated, else the rule."""
    choice = remembered() or by_rule()
    wanted = os.environ.get(VARIABLE, "")
    if not wanted:
        return choice
    if wanted in map(str, range(1, LANES_MAX + 1)):
        return choice._replace(lanes=int(wanted))
    log.warning("%s=%r is not a number from 1 to %d; using %d", VARIABLE, wanted, LANES_MAX, choice.lanes)
    return choice
