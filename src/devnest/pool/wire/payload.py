"""Pickles objects for another process, and puts large ones in sealed memory files.

Loading a pickle can run any code. Therefore pickles are exchanged only between processes of one
user, each of which has checked the other's user id (`peer.py`). The pool server never loads one: it
passes payloads on unopened.

A small payload is the pickle itself, in `data`. On Linux, a large pickle and its out-of-band
buffers lie one after the other in a memory file (`memfd_create`), and `data` holds their lengths.
The file is sealed, so neither side can change or truncate it. Its descriptor is sent with the
frame. So frames stay small; the sender copies large data once; and a receiver that can use a memory
view (NumPy arrays, `PickleBuffer`) copies nothing. On other systems everything is in the pickle.
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

# A payload or buffer of this size or more goes into a memory file. A smaller one costs less to copy
# through the socket than a file costs to create and map.
MIN_SEGMENT_BYTES = 256 * 1024
ALIGNMENT_BYTES = 64  # of each buffer in a memory file; vector instructions need up to this much

_HAS_MEMFD = sys.platform == "linux" and hasattr(os, "memfd_create")
_SEALS = 0x0F  # F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE
_ADD_SEALS, _GET_SEALS = 1033, 1034  # linux/fcntl.h


class Segment:
    """A descriptor of a memory file, closed with the last reference to this object."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.fd)


class Packed(NamedTuple):
    """A pickled object."""

    data: bytes
    segment: Segment | None = None


class _Large:
    """Wraps `bytes` or `bytearray`, which pickle alone never puts out of band."""

    __slots__ = ("value",)

    def __init__(self, value: bytes | bytearray) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Callable[[Any], Any], tuple[pickle.PickleBuffer]]:
        return type(self.value), (pickle.PickleBuffer(self.value),)


def pack(value: Any) -> Packed:
    """Pickle a value; raises what its pickling raises."""
    if type(value) in (bytes, bytearray) and len(value) >= MIN_SEGMENT_BYTES:
        value = _Large(value)
    buffers: list[memoryview] = []

    def keep_inside(buffer: pickle.PickleBuffer) -> bool:
        try:
            view = buffer.raw()
        except BufferError:  # not contiguous in memory
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
    except OSError:  # no descriptor or memory for a file: send it through the socket
        return Packed(pickle.dumps(value, 5))


def pack_call(
    args: tuple[Any, ...], kwargs: dict[str, Any], context: dict[str, Any] | None = None
) -> Packed:
    """Pickle a call's arguments; large `bytes` among them also go into a memory file.

    Args:
        args: The positional arguments.
        kwargs: The keyword arguments.
        context: Values of ContextVars, by name.
    """
    if any(type(arg) in (bytes, bytearray) and len(arg) >= MIN_SEGMENT_BYTES for arg in args):
        args = tuple(
            _Large(arg)
            if type(arg) in (bytes, bytearray) and len(arg) >= MIN_SEGMENT_BYTES
            else arg
            for arg in args
        )
    if context:
        return pack((args, kwargs, context))
    return pack((args, kwargs) if kwargs else (args,))


def unpack(packed: Packed) -> Any:
    """Return the object; raises what its unpickling raises, `ValueError` for an unsealed file."""
    if packed.segment is None:
        return pickle.loads(packed.data)
    lengths = struct.unpack(f"<{len(packed.data) // 8}Q", packed.data)
    fd = packed.segment.fd
    size = sum(_aligned(length) for length in lengths)
    # Without the seals, the sender could truncate the mapped file and so kill this process by
    # SIGBUS.
    if (
        fcntl.fcntl(fd, _GET_SEALS) & _SEALS != _SEALS
        or os.fstat(fd).st_size != size
        or not lengths
    ):
        raise ValueError("the memory file is not sealed, or not of the announced size")
    # A private mapping: what the receiver writes is not written to the file.
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
        while done < part.nbytes:  # one write accepts at most 2 GiB
            done += os.pwrite(segment.fd, part[done:], start + done)
        start += _aligned(done)
    os.ftruncate(segment.fd, start)
    fcntl.fcntl(segment.fd, _ADD_SEALS, _SEALS)
    return Packed(struct.pack(f"<{len(parts)}Q", *(part.nbytes for part in parts)), segment)


def _aligned(length: int) -> int:
    return -(-length // ALIGNMENT_BYTES) * ALIGNMENT_BYTES or ALIGNMENT_BYTES
