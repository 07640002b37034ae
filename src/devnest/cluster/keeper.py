"""Keeps one child running: replaces it whenever it ends or hangs."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec
import structlog

from devnest.cluster.child import Child, ChildFailed
from devnest.process_registry import ProcessRegistry

__all__ = ["Keeper"]

# A child that was ready and ran for longer than this does not count as a failed start when it ends.
MIN_STABLE_S = 5.0
# The pause before another try doubles with each failed start, from the first value to the second.
MIN_BACKOFF_S, MAX_BACKOFF_S = 0.1, 10.0
# A keeper gives up after this many failed starts in a row.
MAX_FAILED_STARTS = 5
# A child that did not start gets this long to end by itself.
FAILED_CHILD_GRACE_S = 2.0
log = structlog.get_logger("devnest.cluster")


class Keeper:
    """Runs one child and its successors. Call `spawn`, `make_ready` and `keep` in this order.

    `stop` may be called at any time after `spawn`.

    Args:
        make: Makes a child that has not been started. All have the same name.
        settings: Returns the settings that the next child gets.
        registry: Where the metrics find which processes run.
    """

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
        """Start the child's interpreter, which loads its modules.

        Raises:
            ChildFailed: The process could not be started.
        """
        await self.child.spawn()
        self._registry.started(self.name, self.child.pid)

    async def make_ready(self) -> None:
        """Send the child its settings and wait until it is ready.

        Raises:
            ChildFailed: It reported why it cannot work, or it ended.
        """
        self.child.configure(self._settings())
        await self.child.wait_ready()

    @property
    def is_serving(self) -> bool:
        """Whether the child is ready and has not ended."""
        return self.child.is_ready and not self.child.has_ended()

    def keep(
        self,
        on_give_up: Callable[[ChildFailed], None],
        others_serve: Callable[[], bool] = lambda: False,
    ) -> None:
        """Replace the child whenever it ends, from now on and in the background.

        Args:
            on_give_up: Called with the last error after `MAX_FAILED_STARTS` failed starts in a row.
            others_serve: Returns whether other children do the same work. While they do, this
                keeper goes on trying, because giving up would end them too.
        """

        async def keep() -> None:
            try:
                while True:
                    await self._replace(await self.child.watch(), others_serve)
            except ChildFailed as error:
                on_give_up(error)

        self._keeper = asyncio.create_task(keep())

    async def stop(self, grace_s: float) -> None:
        """Stop the child, and start no other.

        Args:
            grace_s: How long the child may drain, in seconds.
        """
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        await self.child.stop(grace_s)
        self._registry.left(self.name)

    async def _replace(self, how: str, others_serve: Callable[[], bool]) -> None:
        """Start a successor: at once after a long life, with growing pauses after short ones."""
        lived_s = time.monotonic() - self.child.started_at
        log.warning(
            "child died", child=self.name, pid=self.child.pid, how=how, lived_s=round(lived_s, 1)
        )
        self._registry.died(self.name)
        self._failed_starts = (
            0 if self.child.is_ready and lived_s > MIN_STABLE_S else self._failed_starts
        )
        while True:
            if self._failed_starts:
                await asyncio.sleep(
                    min(MAX_BACKOFF_S, MIN_BACKOFF_S * 2 ** min(self._failed_starts, 10))
                )
            self._failed_starts += 1  # reset above, once a child has run for long enough
            self.child = self._make()
            try:
                await self.spawn()
                await self.make_ready()
            except ChildFailed as error:
                log.warning(
                    "child did not start",
                    child=self.name,
                    reason=error.reason,
                    tries=self._failed_starts,
                )
                await self.child.stop(FAILED_CHILD_GRACE_S)
                self._registry.died(self.name)
                if (
                    self._failed_starts >= MAX_FAILED_STARTS
                    and not error.transient
                    and not others_serve()
                ):
                    raise
            else:
                log.info("child started", child=self.name, pid=self.child.pid)
                return
