"""The file of signing keys, watched: a rotation needs no restart and no signal."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Self

import structlog

from devnest.keys import KeySet, KeysUnusable, load_keys

__all__ = ["KeyWatch"]

PERIOD_S = 2.0  # looked at, not waited for: no event for a file is portable, and one on a network share has none
log = structlog.get_logger("devnest.cluster")


class KeyWatch:
    """Gives the keys to `use` whenever the file has changed, while it is open.

    A file that has gone or is damaged changes nothing but the log: the keys there are stay.
    """

    def __init__(self, path: Path, use: Callable[[KeySet], None]) -> None:
        self._path = path
        self._use = use
        self._seen: tuple[int, ...] | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.look()
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None, "not open"
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def look(self) -> None:
        """Read the file if it is not the one that was read last."""
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
            await asyncio.sleep(PERIOD_S)
            self.look()
