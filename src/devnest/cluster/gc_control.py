"""Runs the garbage collector so that requests hardly wait for it.

Reference counting frees nearly everything that a request creates; the collector is needed only for
reference cycles. A full collection visits every live object and stops the event loop meanwhile: for
tens of milliseconds when a thousand requests are waiting. So young objects are collected in small
portions, and full collections run when few requests are in progress.
"""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

__all__ = ["collecting"]

# The three arguments of `gc.set_threshold`. A collection of the youngest generation begins when
# this many objects have been allocated and not freed, ...
YOUNGEST_THRESHOLD = 2_000
# ... one of the middle generation after this many of the youngest, ...
MIDDLE_THRESHOLD = 5
# ... and a full one, by Python itself, after this many of the middle: in effect never.
FULL_THRESHOLD = 1_000_000_000
# A full collection is worth its pause after this many collections of the middle generation: below
# that it would find little.
MIN_MIDDLE_COLLECTIONS = 10
# A full collection waits until no more requests than this are in progress.
MAX_REQUESTS_IN_PROGRESS = 100
# Between two checks whether a full collection is due.
CHECK_INTERVAL_S = 10.0
# A full collection is delayed by requests for no longer than this, so that garbage stays bounded.
MAX_DELAY_S = 600.0


@asynccontextmanager
async def collecting(
    requests: Callable[[], int],
    check_interval_s: float = CHECK_INTERVAL_S,
    max_delay_s: float = MAX_DELAY_S,
) -> AsyncIterator[None]:
    """Control the garbage collector while the context is open, then restore its thresholds.

    Objects that exist at the beginning are frozen: no collection visits them again.

    Args:
        requests: Returns how many requests are in progress.
        check_interval_s: Seconds between two checks whether a full collection is due.
        max_delay_s: Seconds for which requests in progress can delay a full collection.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNGEST_THRESHOLD, MIDDLE_THRESHOLD, FULL_THRESHOLD)
    task = asyncio.create_task(_collect_when_quiet(requests, check_interval_s, max_delay_s))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        gc.set_threshold(*before)


async def _collect_when_quiet(
    requests: Callable[[], int], check_interval_s: float, max_delay_s: float
) -> None:
    waited_s = 0.0
    while True:
        await asyncio.sleep(check_interval_s)
        waited_s += check_interval_s
        is_due = gc.get_count()[2] >= MIN_MIDDLE_COLLECTIONS
        if is_due and (requests() <= MAX_REQUESTS_IN_PROGRESS or waited_s >= max_delay_s):
            gc.collect()
            waited_s = 0.0
