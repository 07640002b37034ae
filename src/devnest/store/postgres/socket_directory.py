"""Where the embedded PostgreSQL listens: a 0700 directory of its own, in the first place that will do.

The temporary directory is the usual one. It may be too long for a Unix socket's address, private to root, who does not
run PostgreSQL, on a file system without sockets, or have a comma in its name, which to PostgreSQL and its clients
separates two directories. PostgreSQL would say so in its own words, after everything else was done.
"""

import contextlib
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from devnest.store.errors import NoSocketDirectory
from devnest.store.postgres.binaries import Identity

__all__ = ["clear_socket_directories", "make_socket_directory"]

MAX_ADDRESS_BYTES = 103  # sun_path holds 108 bytes with the final zero on Linux, 104 on macOS
SOCKET = ".s.PGSQL.5432"
PLAIN = re.compile(r"/[A-Za-z0-9/._+=:@~-]*")
OTHERS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 (what we make there is 0700, and its name is not to be guessed)


def make_socket_directory(home: Path, identity: Identity) -> Path:
    """A fresh directory for the PostgreSQL of this data directory; raises `NoSocketDirectory` where there is none."""
    reasons = []
    for parent in _parents(home):
        try:
            return _make(parent, _prefix(home), identity)
        except (OSError, ValueError) as error:
            reasons.append(f"{str(parent)!r}: {getattr(error, 'strerror', None) or error}")
    raise NoSocketDirectory(reasons)


def clear_socket_directories(home: Path, keep: Path | None) -> None:
    """Remove what those that were killed have left; only one DevNest has the data directory at a time."""
    for parent in _parents(home):
        for path in parent.glob(f"{_prefix(home)}*"):
            if path != keep:
                shutil.rmtree(path, ignore_errors=True)


def _parents(home: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):  # none that can be written to
        yield Path(tempfile.gettempdir())
    yield from map(Path, OTHERS)
    yield home


def _prefix(home: Path) -> str:
    found = home.stat()
    return f"devnest-{found.st_dev:x}-{found.st_ino:x}-"


def _make(parent: Path, prefix: str, identity: Identity) -> Path:
    if not PLAIN.fullmatch(str(parent)):
        raise ValueError("other characters than letters, digits and /._+=:@~-")
    if len(f"{parent}/{prefix}XXXXXXXX/{SOCKET}") > MAX_ADDRESS_BYTES:
        raise ValueError("too long for a Unix socket")
    if not identity.can_enter(parent):
        raise ValueError("closed to the user who runs PostgreSQL")
    path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        with socket.socket(socket.AF_UNIX) as test:
            test.bind(str(path / SOCKET))
        (path / SOCKET).unlink()
        identity.give(path)
    except OSError:
        shutil.rmtree(path, ignore_errors=True)
        raise
    return path
