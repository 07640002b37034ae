"""The address of a shared pool's socket, and the check that both sides belong to the same user."""

import asyncio
import contextlib
import errno
import fcntl
import os
import socket
import stat
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from devnest.pool.errors import InvalidTask

__all__ = [
    "MAX_PATH_BYTES",
    "bind",
    "connect",
    "is_same_user",
    "open_directory",
    "parse_url",
    "peer_pid",
    "peer_uid",
]

MAX_PATH_BYTES = 103  # with the final zero, a path may have 104 bytes on macOS, 108 on Linux

_PEERCRED = struct.Struct("iII")  # struct ucred of Linux: pid, uid, gid
# struct xucred of macOS: version, uid, and then groups
_XUCRED_BYTES, _XUCRED_HEAD = 76, struct.Struct("II")
_SOL_LOCAL, _LOCAL_PEERCRED, _LOCAL_PEERPID = 0, 1, 2  # sys/un.h of macOS


def parse_url(url: str) -> Path:
    """Return the path in `unix:///path`, or raise `InvalidTask`."""
    path = url.removeprefix("unix://")
    if path == url or not path.startswith("/"):
        raise InvalidTask(f"a pool's address looks like unix:///run/devnest/pool.sock, not {url!r}")
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise InvalidTask(
            f"the path of a Unix socket may have {MAX_PATH_BYTES} bytes, and this has more: {path}"
        )
    return Path(path)


def peer_uid(sock: socket.socket) -> int:
    """Return the user id of the process at the other end of a Unix socket, from the kernel."""
    if sys.platform == "linux":
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
        return int(_PEERCRED.unpack(raw)[1])
    raw = sock.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED_BYTES)
    return int(_XUCRED_HEAD.unpack_from(raw)[1])


def peer_pid(sock: socket.socket) -> int:
    """Return the id of the process that listens at the other end of a Unix socket."""
    if sys.platform == "linux":
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
        return int(_PEERCRED.unpack(raw)[0])
    return sock.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID)


def is_same_user(sock: socket.socket) -> bool:
    """Whether the other end belongs to the user of this process.

    Root counts as another user too, because each side loads the other's pickles.
    """
    return peer_uid(sock) == os.geteuid()


async def connect(loop: asyncio.AbstractEventLoop, path: Path) -> socket.socket | None:
    """Return a connection to a server of this user, or `None` if it cannot be made now."""
    try:
        sock = socket.socket(socket.AF_UNIX)
    except OSError:
        return None
    sock.setblocking(False)
    try:
        await loop.sock_connect(sock, str(path))
        if is_same_user(sock):
            return sock
    except OSError:
        pass
    except BaseException:
        sock.close()
        raise
    sock.close()
    return None


def bind(path: Path) -> socket.socket:
    """Return a listening socket at `path`, in a directory that only this user may enter.

    A missing directory is created with mode 0700. The socket file of a dead server is replaced.

    Raises:
        PermissionError: Others may enter the directory, or it belongs to another user. It is not
        changed.
        FileExistsError: A live server answers at `path`.
        OSError: The socket cannot be made for another reason.
        InvalidTask: The path is too long.
    """
    parse_url(f"unix://{path}")
    with _locked(path.parent):
        if path.exists() and _answers(path):
            raise FileExistsError(f"another pool server answers at {path}")
        path.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.bind(str(path))
            path.chmod(0o600)
            sock.listen(socket.SOMAXCONN)
        except OSError:
            sock.close()
            raise
    return sock


def open_directory(directory: Path) -> int:
    """Make a missing directory for sockets, and return a descriptor of it.

    Raises:
        PermissionError: Others may enter it, or it belongs to another user. It is not changed.
        OSError: It cannot be made or opened.
    """
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    status = os.fstat(fd)
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        os.close(fd)
        problem = "must belong to this user and be closed to others (chmod 700)"
        raise PermissionError(errno.EPERM, problem, str(directory))
    return fd


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Lock the directory, so that of two servers that start at once only one binds the path."""
    fd = open_directory(directory)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:  # a live server whose backlog is full
            return True
        except OSError:
            return False
        return True
