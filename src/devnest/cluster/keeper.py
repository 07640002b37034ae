"""A place for a child that is always filled: its keeper replaces the child whenever it ends or hangs."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec
import structlog

from devnest.cluster.child import Child, ChildFailed
from devnest.process_registry import ProcessRegistry

__all__ = ["Keeper"]

STABLE_S = 5.0  # a child that lived so long was no failed start
BACKOFF_FIRST_S, MAX_BACKOFF_S = 0.1, 10.0
MAX_FAILED_STARTS = 5  # in a row, and the keeper gives up
KILL_S = 2.0
log = structlog.get_logger("devnest.cluster")


class Keeper:
    """One place. `spawn`, `fill` and `keep` in this order; `leave` at any time after `spawn`."""

    def __init__(
        self,
        make: Callable[[], Child],
        settings: Callable[[], msgspec.Struct],
        registry: ProcessRegistry,
    ) -> None:
        self._make = make
        self._settings = settings
        self._registry = registry
        self._failed_starts = 0
        self._keeper: asyncio.Task[None] | None = None
        self.child = make()
        self.name = self.child.name

    async def spawn(self) -> None:
        """Start the child's interpreter, which loads its modules; raises `ChildFailed`."""
        await self.child.spawn()
        self._registry.started(self.name, self.child.pid)

    async def fill(self) -> None:
        """Configure the child and wait until it is ready; raises `ChildFailed`."""
        self.child.configure(self._settings())
        await self.child.wait_ready()

    @property
    def serves(self) -> bool:
        """Whether its child is ready and lives."""
        return self.child.is_ready and not self.child.has_ended()

    def keep(
        self,
        gave_up: Callable[[ChildFailed], None],
        others_serve: Callable[[], bool] = lambda: False,
    ) -> None:
        """Replace the child whenever it ends; `gave_up` is called when none starts any more.

        It is not while `others_serve`: what keeps this child from starting must not end them.
        """

        async def keep() -> None:
            try:
                while True:
                    await self._replace(await self.child.watch(), others_serve)
            except ChildFailed as error:
                gave_up(error)

        self._keeper = asyncio.create_task(keep())

    async def leave(self, patience_s: float) -> None:
        """Drain the child, and let nobody follow."""
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        await self.child.stop(patience_s)
        self._registry.left(self.name)

    async def _replace(self, how: str, others_serve: Callable[[], bool]) -> None:
        """At once after a long life, later and later after short ones."""
        lived_s = time.monotonic() - self.child.started_at
        log.warning(
            "child died", child=self.name, pid=self.child.pid, how=how, lived_s=round(lived_s, 1)
        )
        self._registry.died(self.name)
        self._failed_starts = (
            0 if self.child.is_ready and lived_s > STABLE_S else self._failed_starts
        )
        while True:
            if self._failed_starts:
                await asyncio.sleep(
                    min(MAX_BACKOFF_S, BACKOFF_FIRST_S * 2 ** min(self._failed_starts, 10))
                )
            self._failed_starts += 1  # until it has lived for a while
            self.child = self._make()
            try:
                await self.spawn()
                await self.fill()
            except ChildFailed as error:
                log.warning(
                    "child did not start",
                    child=self.name,
                    reason=error.reason,
                    tries=self._failed_starts,
                )
                await self.child.stop(KILL_S)
                self._registry.died(self.name)
                if (
                    self._failed_starts >= MAX_FAILED_STARTS
                    and not error.passing
                    and not others_serve()
                ):
                    raise
            else:
                log.info("child started", child=self.name, pid=self.child.pid)
                return
