"""A directory in memory for the metrics' files and the pool's socket: worth nothing after the end."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["memory_directory"]

MEMORY = Path("/dev/shm")  # noqa: S108 (Linux' file system for shared memory; what we make there is 0700)
LEAST_FREE_BYTES = 16 * 1024 * 1024  # a write into a mapped file where no memory is left kills the writer (SIGBUS)


@contextmanager
def memory_directory(data_dir: Path) -> Iterator[Path]:
    """A fresh 0700 directory, removed afterwards.

    Its name comes from the data directory, which only one DevNest has at a time: one that was killed leaves no
    directory for ever. Where there is no memory file system, it is in the temporary directory.
    """
    found = data_dir.stat()
    path = _parent() / f"devnest-metrics-{found.st_dev:x}-{found.st_ino:x}"
    shutil.rmtree(path, ignore_errors=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:  # a stranger's
        path = Path(tempfile.mkdtemp(prefix="devnest-metrics-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _parent() -> Path:
    if os.access(MEMORY, os.W_OK | os.X_OK) and shutil.disk_usage(MEMORY).free >= LEAST_FREE_BYTES:
        return MEMORY
    return Path(tempfile.gettempdir())
