"""The number of CPUs that this process may use."""

import math
import os
from pathlib import Path

__all__ = ["usable_cpus"]


def usable_cpus(
    cgroup_root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> int:
    """Return the number of CPUs that this process may use.

    This is the size of its CPU affinity mask, or the CPU quota of its control groups (version 1 or
    2) rounded up, if that is less.

    Args:
        cgroup_root: The directory at which control groups are mounted.
        membership: The file that names the control groups of this process.

    Returns:
        At least 1.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = _cgroup_quota(cgroup_root, membership)
    return cpus if quota >= cpus else max(1, math.ceil(quota))


def _cgroup_quota(root: Path, membership: Path) -> float:
    """Return the smallest CPU quota of the process's group and its ancestors; infinity for none."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return math.inf
    quota = math.inf
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            group = root / path.lstrip("/")
            for directory in (
                group,
                *(parent for parent in group.parents if parent.is_relative_to(root)),
            ):
                quota = min(quota, _ratio(directory / "cpu.max"))
        elif "cpu" in controllers.split(","):  # version 1
            group = root / "cpu" / path.lstrip("/")
            quota = min(quota, _ratio(group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us"))
    return quota


def _ratio(*files: Path) -> float:
    try:
        quota, period = " ".join(file.read_text() for file in files).split()
        return float(quota) / float(period) if float(quota) > 0 else math.inf
    except (OSError, ValueError):  # no such file, or "max": no quota
        return math.inf
