"""The directory of the embedded PostgreSQL's socket: a 0700 directory in a usable place.

The temporary directory is tried first. It can be unusable: its path may be too long for a Unix
socket, the user that runs PostgreSQL may not enter it, its file system may not support sockets, or
its name may contain a comma, which PostgreSQL reads as a separator. Each place is checked here,
because PostgreSQL itself would fail only after everything else is done.
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

MAX_ADDRESS_BYTES = 103  # `sun_path` holds 108 bytes on Linux and 104 on macOS, with the final zero
SOCKET = ".s.PGSQL.5432"
PLAIN = re.compile(r"/[A-Za-z0-9/._+=:@~-]*")
# Safe in directories that others can write: the new one has mode 0700 and a random name.
OTHERS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108


def make_socket_directory(home: Path, identity: Identity) -> Path:
    """Create a socket directory for the PostgreSQL of one data directory.

    Args:
        home: The data directory.
        identity: The user that runs PostgreSQL, who will own the directory.

    Raises:
        NoSocketDirectory: No place is usable.
    """
    reasons = []
    for parent in _parents(home):
        try:
            return _make(parent, _prefix(home), identity)
        except (OSError, ValueError) as error:
            reasons.append(f"{str(parent)!r}: {getattr(error, 'strerror', None) or error}")
    raise NoSocketDirectory(reasons)


def clear_socket_directories(home: Path, keep: Path | None) -> None:
    """Remove the socket directories that killed processes of this data directory left behind.

    The lock on the data directory guarantees that no running DevNest uses them.

    Args:
        home: The data directory.
        keep: A socket directory that stays.
    """
    for parent in _parents(home):
        for path in parent.glob(f"{_prefix(home)}*"):
            if path != keep:
                shutil.rmtree(path, ignore_errors=True)


def _parents(home: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):  # no temporary directory can be written to
        yield Path(tempfile.gettempdir())
    yield from map(Path, OTHERS)
    yield home


def _prefix(home: Path) -> str:
    found = home.stat()
    return f"devnest-{found.st_dev:x}-{found.st_ino:x}-"


def _make(parent: Path, prefix: str, identity: Identity) -> Path:
    if not PLAIN.fullmatch(str(parent)):
        raise ValueError("its path has characters other than letters, digits and /._+=:@~-")
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
