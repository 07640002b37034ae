"""Measures what each extra installs: packages, megabytes, and seconds with a full pip cache.

On a busy machine the seconds of CPU tell more than the seconds.
"""

import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import report
from devnest.bcrypt.machine import cpu_model

ROOT = Path(__file__).parents[1]
EXTRAS = ("", "load", "server", "all")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--no-input")
# What must not be copied into a build: other environments, results, and what earlier builds left.
NOT_COPIED = (".git", ".venv*", ".*_cache", "build", "dist", "node_modules", "__pycache__")
MEGABYTE = 1_000_000


class Installed(NamedTuple):
    """The figures of one installation. The packages include DevNest."""

    packages: int
    size_mb: float
    taken_s: float
    cpu_s: float


def run(*command: str | Path, cwd: Path | None = None) -> None:
    """Run a command; if it fails, exit with what it has printed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


def build(to: Path) -> Path:
    """Build the wheel from a copy of the working tree."""
    source = to / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*NOT_COPIED, "*.so", "*.egg-info"))
    run(*PIP, "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", to, source)
    shutil.rmtree(source)
    (wheel,) = to.glob("*.whl")
    return wheel


def install(wheel: Path, extra: str, constraints: Sequence[str]) -> Installed:
    """Install the wheel with an extra into a new environment, which has not even pip."""
    with tempfile.TemporaryDirectory(prefix="devnest-bench-") as directory:
        run(sys.executable, "-m", "venv", "--without-pip", directory)
        began, cpu_before_s = time.perf_counter(), cpu_s()
        wanted = f"{wheel}[{extra}]" if extra else str(wheel)
        python = Path(directory, "bin", "python")
        run(*PIP, "--python", python, "install", *constraints, wanted)
        taken_s = time.perf_counter() - began
        used_s = cpu_s() - cpu_before_s
        library = Path(directory, "lib")
        size = sum(path.lstat().st_size for path in library.rglob("*") if path.is_file())
        packages = len(list(library.glob("python*/site-packages/*.dist-info")))
    return Installed(packages, size / MEGABYTE, taken_s, used_s)


def cpu_s() -> float:
    """Return the CPU seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure and print a table."""
    parser = report.parser(__doc__)
    parser.add_argument("--runs", type=int, default=3, help="of each extra (3)")
    parser.add_argument(
        "--newest", action="store_true", help="the newest versions, not those of constraints.txt"
    )
    options = parser.parse_args()
    constraints = () if options.newest else ("-c", str(ROOT / "constraints.txt"))
    with tempfile.TemporaryDirectory(prefix="devnest-bench-") as directory:
        wheel = build(Path(directory))
        install(wheel, "all", constraints)  # fills pip's cache
        found = {
            extra: [install(wheel, extra, constraints) for _ in range(options.runs)]
            for extra in EXTRAS
        }
    pip = subprocess.run([*PIP, "--version"], capture_output=True, text=True, check=True)
    print(
        f"`make bench-install` on {cpu_model()}, {os.cpu_count()} CPUs, {platform.system()}; "
        f"Python {platform.python_version()}, pip {pip.stdout.split()[1]}, "
        f"medians of {options.runs} runs, {time.strftime('%Y-%m-%d', time.gmtime())}\n"
    )
    print("| command | packages | MB | seconds | of CPU |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for extra, runs in found.items():
        wanted = f"'devnest[{extra}]'" if extra else "devnest"
        taken_s = statistics.median(each.taken_s for each in runs)
        used_s = statistics.median(each.cpu_s for each in runs)
        print(
            f"| `pip install {wanted}` | {runs[-1].packages} | {runs[-1].size_mb:.0f} "
            f"| {taken_s:.1f} | {used_s:.1f} |"
        )


if __name__ == "__main__":
    report.run(main)
