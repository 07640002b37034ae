"""A page of memory that the pool shares with one worker: which call of its batch it has begun.

Short calls of one function may share a frame, yet each must behave as if it had been sent alone. If
the worker dies, the calls that it has not begun run elsewhere. If one call takes long, the calls
behind it are taken back and run elsewhere. So the pool must know for certain which calls the worker
never begins.

Before each call the worker writes the call's index and then reads the stop flag. The pool writes
the stop flag, waits for `RECLAIM_DELAY_S` (`core/workers.py`), and then reads the index. By then
the worker has either seen the flag, and begins nothing more, or written its index before. So it
never begins a call behind the index that the pool reads.

Both sides write one byte and then read the other. A processor may delay a write by nanoseconds;
`RECLAIM_DELAY_S` is 10 ms.
"""

import mmap
import os

__all__ = ["ALL", "Progress"]

ALL = 255  # index for a batched function, which takes all calls at once; above any call's index

_BEGUN, _STOP = 0, 1


class Progress:
    """One side's view of the page. The caller keeps the descriptor, and closes it."""

    def __init__(self, fd: int) -> None:
        self._page = mmap.mmap(fd, mmap.PAGESIZE)

    @staticmethod
    def create() -> int:
        """Return the descriptor of a new page."""
        fd = os.memfd_create("devnest.pool.progress", os.MFD_CLOEXEC)
        os.ftruncate(fd, mmap.PAGESIZE)
        return fd

    def reset(self) -> None:
        """Clear the page for the next batch; the pool does so while the worker is idle."""
        self._page[_BEGUN] = self._page[_STOP] = 0

    def begin(self, index: int) -> bool:
        """Record in the worker that a call begins; return whether the worker may begin it."""
        self._page[_BEGUN] = index
        return not self._page[_STOP]

    def stop(self) -> None:
        """Set the stop flag: the worker must begin no further call."""
        self._page[_STOP] = 1

    @property
    def begun(self) -> int:
        """The index of the last call that the worker has begun or is about to begin."""
        return self._page[_BEGUN]

    def close(self) -> None:
        """Unmap the page."""
        self._page.close()
