"""The directory of the pool's socket: worth nothing after the end."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from devnest.cluster.child import ChildFailed
from devnest.pool.wire.peer import MAX_PATH_BYTES

__all__ = ["POOL_SOCKET", "runtime_directory"]

POOL_SOCKET = "pool.sock"
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (where the temporary directory will not do; what we make there is 0700)


@contextmanager
def runtime_directory(data_dir: Path) -> Iterator[Path]:
    """A fresh 0700 directory, removed afterwards; raises `ChildFailed` where none can be made.

    Its name comes from the data directory, which only one DevNest has at a time: one that was killed leaves no
    directory for ever. It is in the temporary directory, unless that is too long for the address of a Unix socket.
    """
    found = data_dir.stat()
    name = f"devnest-pool-{found.st_dev:x}-{found.st_ino:x}"
    reason = "no directory has a name short enough for a Unix socket"
    for parent in (Path(tempfile.gettempdir()), SHARED_MEMORY):
        if len(os.fsencode(parent / f"{name}-XXXXXXXX" / POOL_SOCKET)) > MAX_PATH_BYTES:
            continue
        try:
            path = _make(parent / name)
            break
        except OSError as error:
            reason = str(error)
    else:
        raise ChildFailed("pool", f"its socket has no place: {reason}")
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _make(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    with suppress(FileExistsError):  # a stranger's
        path.mkdir(mode=0o700)
        return path
    return Path(tempfile.mkdtemp(prefix=f"{path.name}-", dir=path.parent))
