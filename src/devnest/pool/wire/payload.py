"""Objects on their way between processes: pickled, the large ones in a sealed memory file.

Pickle can run any code while it loads. It is used only between processes of one user, each of which checked
the other's user id (``peer.py``), and never in the pool server, which passes payloads on without opening
them.

Small: ``data`` is the pickle itself. Large, on Linux: the pickle and its out-of-band buffers lie one after
another in one memory file (``memfd_create``), sealed so that neither side can change or cut it any more; its
descriptor travels with the frame, and ``data`` holds the lengths. So a frame stays small whatever is sent,
large data is copied once by the sender, and a receiver that can use a memory view (NumPy's arrays,
PickleBuffer) copies nothing. Elsewhere everything is in the pickle.
"""

import contextlib
import fcntl
import mmap
import os
import pickle
import struct
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["MIN_SEGMENT_BYTES", "Packed", "Segment", "pack", "pack_call", "unpack"]

MIN_SEGMENT_BYTES = 256 * 1024  # from here on a memory file costs less than a socket
ALIGNMENT_BYTES = 64  # of each buffer in the file, for vector instructions

_HAS_MEMFD = sys.platform == "linux" and hasattr(os, "memfd_create")
_SEALS = 0x0F  # F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE
_ADD_SEALS, _GET_SEALS = 1033, 1034  # linux/fcntl.h


class Segment:
    """A descriptor of a memory file; closed with the last reference to it, whichever way a task ends."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.fd)


class Packed(NamedTuple):
    """An object ready to travel."""

    data: bytes
    segment: Segment | None = None


class _Large:
    """Stands for a ``bytes`` or ``bytearray``, which pickle itself never puts out of band."""

    __slots__ = ("value",)

    def __init__(self, value: bytes | bytearray) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Callable[[Any], Any], tuple[pickle.PickleBuffer]]:
        return type(self.value), (pickle.PickleBuffer(self.value),)


def pack(value: Any) -> Packed:
    """Pickle a value; raises whatever its pickling raises."""
    if type(value) in (bytes, bytearray) and len(value) >= MIN_SEGMENT_BYTES:
        value = _Large(value)
    buffers: list[memoryview] = []

    def keep_inside(buffer: pickle.PickleBuffer) -> bool:
        try:
            view = buffer.raw()
        except BufferError:  # not contiguous
            return True
        if view.nbytes < MIN_SEGMENT_BYTES:
            return True
        buffers.append(view)
        return False

    data = pickle.dumps(value, 5, buffer_callback=keep_inside if _HAS_MEMFD else None)
    if not _HAS_MEMFD or (not buffers and len(data) < MIN_SEGMENT_BYTES):
        return Packed(data)
    try:
        return _to_segment([memoryview(data), *buffers])
    except OSError:  # no descriptor or no memory for a file; the socket does it as well
        return Packed(pickle.dumps(value, 5))


def pack_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Packed:
    """Pickle a call's arguments. A large ``bytes`` that is itself an argument travels out of band too."""
    if any(type(arg) in (bytes, bytearray) and len(arg) >= MIN_SEGMENT_BYTES for arg in args):
        args = tuple(
            _Large(arg)
            if type(arg) in (bytes, bytearray) and len(arg) >= MIN_SEGMENT_BYTES
            else arg
            for arg in args
        )
    return pack((args, kwargs) if kwargs else (args,))


def unpack(packed: Packed) -> Any:
    """Return the object; raises whatever its unpickling raises, ``ValueError`` for a file without seals."""
    if packed.segment is None:
        return pickle.loads(packed.data)
    lengths = struct.unpack(f"<{len(packed.data) // 8}Q", packed.data)
    fd = packed.segment.fd
    size = sum(_aligned(length) for length in lengths)
    # Without the seals the sender could cut the file while it is mapped here, which ends this process by
    # SIGBUS.
    if (
        fcntl.fcntl(fd, _GET_SEALS) & _SEALS != _SEALS
        or os.fstat(fd).st_size != size
        or not lengths
    ):
        raise ValueError("the memory file is not sealed, or not of the announced size")
    # Private: what the receiver writes stays its own.
    memory = memoryview(mmap.mmap(fd, size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE))
    parts = []
    start = 0
    for length in lengths:
        parts.append(memory[start : start + length])
        start += _aligned(length)
    return pickle.loads(parts[0], buffers=parts[1:])


def _to_segment(parts: list[memoryview]) -> Packed:
    segment = Segment(os.memfd_create("devnest.pool", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
    start = 0
    for part in parts:
        done = 0
        while done < part.nbytes:  # one write takes at most 2 GiB
            done += os.pwrite(segment.fd, part[done:], start + done)
        start += _aligned(done)
    os.ftruncate(segment.fd, start)
    fcntl.fcntl(segment.fd, _ADD_SEALS, _SEALS)
    return Packed(struct.pack(f"<{len(parts)}Q", *(part.nbytes for part in parts)), segment)


def _aligned(length: int) -> int:
    return -(-length // ALIGNMENT_BYTES) * ALIGNMENT_BYTES or ALIGNMENT_BYTES
