"""Who refers to itself is collected, but not while many requests are in progress."""

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from devnest.cluster.gc_control import MAX_REQUESTS_IN_PROGRESS, MIN_MIDDLE_COLLECTIONS, collecting
from tests.support import PATIENCE_S

LOOK_S = 0.01


class Knot:
    """Refers to itself, so that no count of references frees it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def thaw() -> Iterator[None]:
    """What the server freezes, the tests' process goes on to collect."""
    yield
    gc.unfreeze()


def old_garbage(looks: int = MIN_MIDDLE_COLLECTIONS) -> "weakref.ref[Knot]":
    """A knot that nobody uses any more, but that has been looked at while it was in use, twice
    or more often.
    """
    knot = Knot()
    for _ in range(looks):
        gc.collect(1)
    return weakref.ref(knot)


async def is_gone(knot: "weakref.ref[Knot]", looks: int) -> bool:
    """Whether it is, after so many looks at most."""
    for _ in range(looks):
        await asyncio.sleep(LOOK_S)
        if knot() is None:
            return True
    return False


async def test_old_garbage_goes_when_few_requests_are_in_progress() -> None:
    """Not before."""
    requests = MAX_REQUESTS_IN_PROGRESS + 1
    async with collecting(lambda: requests, LOOK_S):
        knot = old_garbage()
        assert not await is_gone(knot, 20)
        requests = MAX_REQUESTS_IN_PROGRESS
        assert await is_gone(knot, int(PATIENCE_S / LOOK_S))


async def test_old_garbage_goes_at_last_where_it_never_gets_quiet() -> None:
    """Else it would fill the memory."""
    async with collecting(lambda: MAX_REQUESTS_IN_PROGRESS + 1, LOOK_S, 10 * LOOK_S):
        assert await is_gone(old_garbage(), int(PATIENCE_S / LOOK_S))


async def test_where_nothing_can_be_found_nobody_looks() -> None:
    """A pass over everything is for a reason."""
    async with collecting(lambda: 0, LOOK_S):
        knot = old_garbage(MIN_MIDDLE_COLLECTIONS - 1)
        assert not await is_gone(knot, 20)


async def test_python_collects_by_itself_again_afterwards() -> None:
    """As it did before."""
    before = gc.get_threshold()
    async with collecting(lambda: 0):
        assert gc.get_threshold() != before
    assert gc.get_threshold() == before
