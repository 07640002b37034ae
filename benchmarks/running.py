"""Runs a new DevNest for the benchmarks, and measures what its processes use."""

import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

SERVER, POOL, WORKER, POSTMASTER, BACKEND = (
    "devnest.cluster.server", "devnest.cluster.hashing_pool", "devnest.pool.runtime.worker", "bin/postgres", "[local]",
)  # fmt: skip
OURS = ("supervisor", "server", "pool", "worker")  # the other kinds are PostgreSQL's


class DevNest:
    """A running `devnest serve`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            sys.exit("DevNest did not start: run `devnest serve` to see why")
        self.process = psutil.Process(process.pid)
        self.url = line.split()[-1]
        self.port = int(self.url.rsplit(":", 1)[1])

    def tree(self) -> dict[psutil.Process, str]:
        """Return every process with its kind."""
        found = {self.process: "supervisor"}
        for process in self.process.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                found[process] = _kind(" ".join(process.cmdline()))
        return found

    def parts(self, kind: str) -> list[psutil.Process]:
        """Return the processes of a kind."""
        return [process for process, its_kind in self.tree().items() if its_kind == kind]


def _kind(command: str) -> str:
    """Return `server`, `pool`, `worker`, `postmaster`, `backend`, or PostgreSQL's own name."""
    if command.startswith("postgres:"):
        return "backend" if BACKEND in command else command.removeprefix("postgres: ").strip()
    known = {SERVER: "server", POOL: "pool", POSTMASTER: "postmaster"}
    return next((kind for part, kind in known.items() if part in command), "worker")


@contextmanager
def fresh_directory() -> Iterator[Path]:
    """Yield a path for a new data directory that PostgreSQL's user can reach."""
    with tempfile.TemporaryDirectory(prefix="devnest-bench-") as directory:
        Path(directory).chmod(0o711)
        yield Path(directory) / "d"


@contextmanager
def serving(
    data_dir: Path, *options: str, environment: Mapping[str, str] | None = None
) -> Iterator[DevNest]:
    """Run DevNest, from its ready line to its end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "devnest", "serve", "--port=0", "--log-level=error", f"--data-dir={data_dir}", *options],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, **(environment or {})},
    )  # fmt: skip
    try:
        yield DevNest(process)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def devnest(*options: str) -> Iterator[DevNest]:
    """Run DevNest on a new data directory, without limits on failed sign-ins."""
    with fresh_directory() as data_dir, serving(data_dir, "--no-limits", *options) as at:
        yield at


class CpuUse:
    """What used the CPUs during a block; the figures are set at its end."""

    def __init__(self) -> None:
        self.elapsed_s = 0.0
        self.seconds: defaultdict[str, float] = defaultdict(float)  # of CPU, by kind of process
        self.steal = float(
            "nan"
        )  # share of the machine's time that its host gave to other machines

    def figures(self) -> dict[str, float]:
        """Return the CPUs of each kind of process and the steal in percent, by printable names."""
        cpus = {
            f"CPUs used, {kind}": seconds / self.elapsed_s
            for kind, seconds in sorted(self.seconds.items())
        }
        return cpus | {"steal, %": 100 * self.steal}

    def __str__(self) -> str:
        most_first = sorted(self.seconds.items(), key=lambda item: -item[1])
        parts = ", ".join(f"{kind} {seconds / self.elapsed_s:.2f}" for kind, seconds in most_first)
        return f"CPUs used: {parts}; of {os.cpu_count()}, {self.steal:.0%} stolen by other machines"


@contextmanager
def cpu_use(at: DevNest) -> Iterator[CpuUse]:
    """Measure the CPU use of DevNest's processes, of the client and of all others.

    A process that ends meanwhile is not counted, except those of PostgreSQL and of the generator,
    whose parents count them.
    """
    use, began, before, machine = (
        CpuUse(),
        time.perf_counter(),
        _cpu_seconds(at),
        _machine_seconds(),
    )
    yield use
    use.elapsed_s = time.perf_counter() - began
    stolen, used, whole = (
        now - then for now, then in zip(_machine_seconds(), machine, strict=True)
    )
    use.steal = stolen / whole if whole else 0.0
    for process, (kind, seconds) in _cpu_seconds(at).items():
        use.seconds[kind] += seconds - before.get(process, (kind, 0.0))[1]
    use.seconds["anything else"] = max(0.0, used - sum(use.seconds.values()))


def _cpu_seconds(at: DevNest) -> dict[psutil.Process, tuple[str, float]]:
    tree = at.tree()
    kinds = {process: kind if kind in OURS else "PostgreSQL" for process, kind in tree.items()}
    me = psutil.Process()
    kinds |= {
        process: "generator"
        for process in [me, *me.children(recursive=True)]
        if process not in tree
    }
    found = {}
    for process, kind in kinds.items():
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            counts_children = process == me or tree.get(process) == "postmaster"
            ended_s = times.children_user + times.children_system if counts_children else 0.0
            found[process] = kind, times.user + times.system + ended_s
    return found


def _machine_seconds() -> tuple[float, float, float]:
    """Return seconds of all CPUs since boot: stolen (0 if unknown), used, and in total."""
    times = psutil.cpu_times()
    stolen = getattr(times, "steal", 0.0)
    idle = times.idle + getattr(times, "iowait", 0.0)
    whole = (
        sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    )  # those are in others
    return stolen, whole - idle - stolen, whole


def pss_bytes(process: psutil.Process) -> int:
    """Return the proportional set size of a process, or all its memory if that is unknown."""
    used = process.memory_full_info()
    return int(getattr(used, "pss", 0) or used.rss)


def raise_descriptor_limit(wanted: int) -> None:
    """Raise the limit of open files, as each connection of a client is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < wanted:
        sys.exit(f"{wanted} file descriptors are needed, and the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
