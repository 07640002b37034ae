"""A fresh DevNest as a real process, and what its processes use; shared by the benchmarks."""

import contextlib
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

SERVER, POOL, WORKER, POSTMASTER, BACKEND = (
    "devnest.cluster.server", "devnest.cluster.hashing_pool", "devnest.pool.worker", "bin/postgres", "[local]",
)  # fmt: skip


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
        """Every process and what it is."""
        found = {self.process: "supervisor"}
        for process in self.process.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                found[process] = _kind(" ".join(process.cmdline()))
        return found

    def parts(self, kind: str) -> list[psutil.Process]:
        """The processes of a kind."""
        return [process for process, its_kind in self.tree().items() if its_kind == kind]


def _kind(command: str) -> str:
    """`server`, `pool`, `worker`, `postmaster`, `backend`, or what PostgreSQL calls the process."""
    if command.startswith("postgres:"):
        return "backend" if BACKEND in command else command.removeprefix("postgres: ").strip()
    known = {SERVER: "server", POOL: "pool", POSTMASTER: "postmaster"}
    return next((kind for part, kind in known.items() if part in command), "worker")


@contextmanager
def devnest(*options: str) -> Iterator[DevNest]:
    """From its ready line to its end, on a data directory of its own and without limits on failures."""
    with tempfile.TemporaryDirectory(prefix="devnest-bench-") as directory:
        Path(directory).chmod(0o711)
        process = subprocess.Popen(
            [sys.executable, "-m", "devnest", "serve", "--port=0", "--log-level=error", "--no-limits",
             f"--data-dir={directory}/d", *options],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        try:
            yield DevNest(process)
        finally:
            process.terminate()
            process.wait()


def pss_bytes(process: psutil.Process) -> int:
    """The memory of a process, what it shares divided among those who share it (all of it where that is not told)."""
    used = process.memory_full_info()
    return int(getattr(used, "pss", 0) or used.rss)


def cpu_s(processes: list[psutil.Process]) -> float:
    """The seconds of CPU some processes have used."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def raise_descriptor_limit(wanted: int) -> None:
    """A connection is a descriptor, here too."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < wanted:
        sys.exit(f"{wanted} file descriptors are needed, and the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
