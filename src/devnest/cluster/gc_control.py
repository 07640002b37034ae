"""Garbage collection that requests hardly wait for.

Reference counts free what a request has made; the collector is for the little that refers to itself. But it looks at
what lives, too, and in a flood a thousand sign-ins wait with a hundred objects each: Python's own passes over them took
60 to 80 ms, in which a server answered nobody. So young objects are looked at in small portions, and all of them when
there is little to look at.
"""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

__all__ = ["collecting"]

YOUNG = 2_000  # objects made and not freed between two looks at them: about a millisecond
PORTIONS = 5  # before those that were still in use are looked at once more
NEVER = 1_000_000_000  # of the second looks, before Python looks at everything by itself
ENOUGH = 10  # of them, and there may be something to find
FEW = 100  # requests in progress
LOOK_S = 10.0
PATIENCE_S = 600.0  # with many requests in progress for so long, they wait once


@asynccontextmanager
async def collecting(
    requests: Callable[[], int], look_s: float = LOOK_S, patience_s: float = PATIENCE_S
) -> AsyncIterator[None]:
    """Take the collector over; `requests` says how many are in progress. What exists now is never looked at again."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, PORTIONS, NEVER)
    task = asyncio.create_task(_collect_when_quiet(requests, look_s, patience_s))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        gc.set_threshold(*before)


async def _collect_when_quiet(
    requests: Callable[[], int], look_s: float, patience_s: float
) -> None:
    waited_s = 0.0
    while True:
        await asyncio.sleep(look_s)
        waited_s += look_s
        if gc.get_count()[2] >= ENOUGH and (requests() <= FEW or waited_s >= patience_s):
            gc.collect()
            waited_s = 0.0
