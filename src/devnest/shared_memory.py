"""Memory shared by the processes of one DevNest: each writes a slot of its own and reads all.

The memory is an anonymous file that the supervisor creates and its children inherit. It has no
name, so nothing else can remove, truncate or write it, as logind or a cleaner can with files in
`/dev/shm`. It is read and written with `pread` and `pwrite` and never mapped: where no memory is
left, a system call fails with an error, while access to a mapped page would end the process with
SIGBUS.
"""

import errno
import os
import struct
import tempfile
import zlib
from contextlib import suppress
from typing import Self

__all__ = ["MAX_SLOTS", "SharedMemory"]

MAX_SLOTS = 66  # the supervisor, the pool, and at most 64 servers
MAX_CONTENT_BYTES = 1 << 20  # one process's metrics take a tenth of it, with every route and status
MAX_READS = 5  # attempts to read a slot while its writer replaces the content
# A slot is a header and two buffers. The header's sequence number says which buffer is current: the
# even or the odd one. The writer fills the other buffer and then replaces the header.
HEADER = struct.Struct("<QII")  # sequence number, content length in bytes, CRC-32 of the content
SEQUENCE_MODULUS = 1 << 64  # numbers wrap: a damaged header may hold the largest one
CONTENT_OFFSET_BYTES = 64
SLOT_BYTES = CONTENT_OFFSET_BYTES + 2 * MAX_CONTENT_BYTES  # only written pages take memory


class SharedMemory:
    """The slots of all processes. The descriptor is closed with the last reference."""

    def __init__(self, fd: int) -> None:
        """Take ownership of an inherited descriptor."""
        os.set_inheritable(fd, False)
        self.fd = fd

    def __del__(self) -> None:
        with suppress(OSError):
            os.close(self.fd)

    @classmethod
    def create(cls) -> Self:
        """Create empty slots: in memory on Linux, elsewhere in an unnamed temporary file.

        Raises:
            OSError: There is no place for them.
        """
        if hasattr(os, "memfd_create"):
            with suppress(OSError):  # a sandbox may not allow the call
                return cls(os.memfd_create("devnest"))
        with tempfile.TemporaryFile() as file:
            return cls(os.dup(file.fileno()))

    @classmethod
    def discarding(cls) -> Self:
        """Create slots that keep nothing, for a machine that has no place for them."""
        return cls(os.open(os.devnull, os.O_RDWR))

    def write(self, slot: int, content: bytes) -> None:
        """Replace the content of a slot. Readers see all of it or none.

        Args:
            slot: The number of the slot, below `MAX_SLOTS`; no other process writes it.
            content: At most `MAX_CONTENT_BYTES`.

        Raises:
            OSError: The content is too long, or there is no memory for it.
        """
        assert 0 <= slot < MAX_SLOTS
        if len(content) > MAX_CONTENT_BYTES:
            raise OSError(errno.EFBIG, f"{len(content)} bytes are more than a slot takes")
        start = slot * SLOT_BYTES
        number = (self._header(start)[0] + 1) % SEQUENCE_MODULUS
        self._write_all(start + _content_offset(number), content)
        self._write_all(start, HEADER.pack(number, len(content), zlib.crc32(content)))

    def read(self, slot: int) -> bytes:
        """Return the content of a slot, empty if nothing was written.

        Raises:
            ValueError: The content does not match its checksum.
        """
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
