"""The default number of workers."""

import os
from pathlib import Path

import pytest

from devnest.pool.runtime.cpus import usable_cpus


@pytest.mark.parametrize(
    ("files", "membership", "expected"),
    [
        ({}, "0::/\n", 8),
        ({"job/cpu.max": "max 100000"}, "0::/job\n", 8),
        ({"job/cpu.max": "250000 100000"}, "0::/job\n", 3),
        ({"job/cpu.max": "10000 100000"}, "0::/job\n", 1),
        ({"cpu.max": "200000 100000", "job/inner/cpu.max": "max 100000"}, "0::/job/inner\n", 2),
        (
            {"cpu/job/cpu.cfs_quota_us": "400000", "cpu/job/cpu.cfs_period_us": "100000"},
            "3:cpu,cpuacct:/job\n",
            4,
        ),
        (
            {"cpu/job/cpu.cfs_quota_us": "-1", "cpu/job/cpu.cfs_period_us": "100000"},
            "3:cpu,cpuacct:/job\n",
            8,
        ),
        ({"job/cpu.max": "nonsense"}, "0::/job\n", 8),
        ({"job/cpu.max": "9900000 100000"}, "0::/job\n", 8),
    ],
)
def test_affinity_and_quota(
    files: dict[str, str],
    membership: str,
    expected: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The smallest of the mask and the quotas around the group, at least one."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "membership").write_text(membership)
    assert usable_cpus(tmp_path, tmp_path / "membership") == expected


def test_system_without_groups(tmp_path: Path) -> None:
    """As on macOS."""
    assert usable_cpus(tmp_path, tmp_path / "missing") == len(os.sched_getaffinity(0))
