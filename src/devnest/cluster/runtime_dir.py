"""Makes the directory of the pool's socket, and removes it at the end."""

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
# Used if the path of the temporary directory is too long. What we make there has mode 0700.
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108


@contextmanager
def runtime_directory(data_dir: Path) -> Iterator[Path]:
    """Make an empty directory with mode 0700, and remove it when the context ends.

    Its name is derived from the data directory, which one DevNest uses at a time, so the next start
    replaces the directory of a DevNest that was killed. It is in the temporary directory, unless
    the path would be too long for the address of a Unix socket.

    Args:
        data_dir: The data directory, which exists.

    Raises:
        ChildFailed: No directory could be made.
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
    with suppress(FileExistsError):  # another user's, which we could not remove
        path.mkdir(mode=0o700)
        return path
    return Path(tempfile.mkdtemp(prefix=f"{path.name}-", dir=path.parent))
