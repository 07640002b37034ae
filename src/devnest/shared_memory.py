"""Memory that the processes of one DevNest share: a slot for each, which it alone writes and all may read.

It is an anonymous file that the supervisor makes and its children inherit. It has no name, so nothing can remove it,
cut it short or write into it, as logind, a cleaner or a full disk do with files in `/dev/shm`. And it is never mapped:
memory that cannot be had is an error of a system call, where a mapped page would be SIGBUS.
"""

import errno
import os
import struct
import tempfile
import zlib
from contextlib import suppress
from typing import Self

__all__ = ["MAX_SLOTS", "SharedMemory"]

MAX_SLOTS = 66  # the processes, the pool, and the 64 servers there can be
MAX_CONTENT_BYTES = (
    1 << 20
)  # one process's numbers: ten times what all routes with all their statuses take
MAX_READS = 5  # of a slot whose writer is quicker than the reader
# A slot is a header and two places for its content; the writer fills the one that the header does not name.
HEADER = struct.Struct(
    "<QII"
)  # number of the content, which says its place; its bytes; their CRC-32
SEQUENCE_MODULUS = 1 << 64  # what a damaged header says may be the last of them
CONTENT_OFFSET_BYTES = 64
SLOT_BYTES = (
    CONTENT_OFFSET_BYTES + 2 * MAX_CONTENT_BYTES
)  # of which only what was written takes memory


class SharedMemory:
    """The slots. Closed with the last reference to it."""

    def __init__(self, fd: int) -> None:
        """Take over an inherited descriptor."""
        os.set_inheritable(fd, False)
        self.fd = fd

    def __del__(self) -> None:
        with suppress(OSError):
            os.close(self.fd)

    @classmethod
    def create(cls) -> Self:
        """Make empty slots: in memory on Linux, elsewhere in a temporary file without a name. Raises OSError."""
        if hasattr(os, "memfd_create"):
            with suppress(OSError):  # a sandbox that does not know the call
                return cls(os.memfd_create("devnest"))
        with tempfile.TemporaryFile() as file:
            return cls(os.dup(file.fileno()))

    @classmethod
    def discarding(cls) -> Self:
        """Make slots that keep nothing, for a machine that has no place for them."""
        return cls(os.open(os.devnull, os.O_RDWR))

    def write(self, slot: int, content: bytes) -> None:
        """Replace a slot's content, whole or not at all. Raises OSError where there is no memory for it."""
        assert 0 <= slot < MAX_SLOTS
        if len(content) > MAX_CONTENT_BYTES:
            raise OSError(errno.EFBIG, f"{len(content)} bytes are more than a slot takes")
        start = slot * SLOT_BYTES
        number = (self._header(start)[0] + 1) % SEQUENCE_MODULUS
        self._write_all(start + _content_offset(number), content)
        self._write_all(start, HEADER.pack(number, len(content), zlib.crc32(content)))

    def read(self, slot: int) -> bytes:
        """Return a slot's content, empty where there is none. Raises ValueError where it is damaged."""
        start = slot * SLOT_BYTES
        for _ in range(MAX_READS):
            number, length, checksum = self._header(start)
            content = os.pread(
                self.fd, min(length, MAX_CONTENT_BYTES), start + _content_offset(number)
            )
            if len(content) == length and zlib.crc32(content) == checksum:
                return content
        raise ValueError("its checksum is wrong")

    def _header(self, start: int) -> tuple[int, int, int]:
        header = os.pread(self.fd, HEADER.size, start)
        return HEADER.unpack(header) if len(header) == HEADER.size else (0, 0, 0)

    def _write_all(self, at: int, content: bytes) -> None:
        while content:
            written = os.pwrite(self.fd, content, at)
            content, at = content[written:], at + written


def _content_offset(number: int) -> int:
    return CONTENT_OFFSET_BYTES + number % 2 * MAX_CONTENT_BYTES
