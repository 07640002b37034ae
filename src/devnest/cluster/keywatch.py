"""Reads the file of signing keys again whenever it changes, so that a rotation needs no restart.

It polls the file's metadata. There is no portable event for a changed file, and none at all for
changes that another machine makes on a network file system.
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Self

import structlog

from devnest.keys import KeySet, KeysUnusable, load_keys

__all__ = ["KeyWatch"]

# Bounds how long a server goes on with old keys; `devnest keys --help` promises it.
POLL_INTERVAL_S = 2.0
log = structlog.get_logger("devnest.cluster")


class KeyWatch:
    """Passes the keys to `use` when it is opened, and again whenever the file has changed.

    If the file is missing or damaged, an error is logged and the known keys stay in use.

    Args:
        path: The file of signing keys.
        use: Called with the keys, on the event loop.
    """

    def __init__(self, path: Path, use: Callable[[KeySet], None]) -> None:
        self._path = path
        self._use = use
        self._seen: tuple[int, ...] | None = None  # of the file last read; () if there was none
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.poll()
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None, "not open"
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def poll(self) -> None:
        """Read the file if it has changed since the last time."""
        try:
            found = self._path.stat()
            stamp: tuple[int, ...] = (found.st_ino, found.st_mtime_ns, found.st_size)
        except OSError:
            stamp = ()
        if stamp == self._seen:
            return
        first, self._seen = self._seen is None, stamp
        try:
            self._use(load_keys(self._path))
        except KeysUnusable as error:
            log.error("signing keys not read, those known stay", reason=str(error))
        else:
            if not first:
                log.info("signing keys read again")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(POLL_INTERVAL_S)
            self.poll()
