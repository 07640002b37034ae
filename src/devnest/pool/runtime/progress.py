"""A page of memory that a pool and one worker share: which call of its batch a worker has come to.

Quick calls of one function ride together in a frame, and yet each must stay as free as if it had been sent alone:
where the worker dies, those it had not begun run elsewhere; where one call takes long, those behind it are taken
back. The worker writes the index of each call before it begins it, and then looks whether the pool has said stop.
The pool says stop, waits ``SETTLE_S``, and reads the index: by then the worker has either seen the stop and begins
nothing more, or written its index before. So a call that lies behind the index read is never begun by that worker.
(Both sides write one byte and then read the other. A processor may hold a write back, for some nanoseconds;
``SETTLE_S`` is a million times that.)
"""

import mmap
import os

__all__ = ["ALL", "Progress"]

ALL = 255  # every call of the batch is begun: they are one call of a batched function

_BEGUN, _STOP = 0, 1


class Progress:
    """One side's view of the page. The descriptor it was made from remains its caller's."""

    def __init__(self, fd: int) -> None:
        self._page = mmap.mmap(fd, mmap.PAGESIZE)

    @staticmethod
    def create() -> int:
        """Return the descriptor of a new page."""
        fd = os.memfd_create("devnest.pool.progress", os.MFD_CLOEXEC)
        os.ftruncate(fd, mmap.PAGESIZE)
        return fd

    def reset(self) -> None:
        """Prepare the page for the next batch; the pool does so while the worker is idle."""
        self._page[_BEGUN] = self._page[_STOP] = 0

    def begin(self, index: int) -> bool:
        """Note, in the worker, that a call begins; False: the pool has said stop, and it must not begin."""
        self._page[_BEGUN] = index
        return not self._page[_STOP]

    def stop(self) -> None:
        """Say that no further call is to begin."""
        self._page[_STOP] = 1

    @property
    def begun(self) -> int:
        """The index of the newest call that has begun, or is just about to."""
        return self._page[_BEGUN]

    def close(self) -> None:
        """Give the page up."""
        self._page.close()
