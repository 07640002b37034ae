"""FairQueue: bounded, fair between sources, and never lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devnest.api.http.fair_queue import FairQueue, FairQueueFull
from tests.support import PATIENCE_S


class Callers:
    """Who asks for turns; each holds its own until it is told to end."""

    def __init__(self, running: int = 1, waiting: int = 100) -> None:
        self.queue = FairQueue(running, waiting, PATIENCE_S)
        self.began: list[str] = []
        self.held: dict[asyncio.Task[None], asyncio.Event] = {}
        self.tasks: list[asyncio.Task[None]] = []

    async def ask(self, source: str) -> asyncio.Task[None]:
        """One more of a source, which waits in line now, or runs."""
        self.start(source)
        await settle()
        return self.tasks[-1]

    def start(self, source: str) -> None:
        """One more, that has yet to run."""

        async def hold() -> None:
            async with self.queue.turn(source):
                self.began.append(source)
                task = asyncio.current_task()
                assert task is not None
                self.held[task] = asyncio.Event()
                try:
                    await self.held[task].wait()
                finally:
                    del self.held[task]

        self.tasks.append(asyncio.create_task(hold()))

    async def end_one(self) -> None:
        """Whoever has run longest."""
        next(iter(self.held.values())).set()
        await settle()

    async def end_all(self) -> None:
        while self.held:
            await self.end_one()


async def settle() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


@pytest.fixture
async def callers() -> AsyncIterator[Callers]:
    callers = Callers()
    yield callers
    await callers.end_all()
    assert callers.queue.waiting == 0


async def test_sources_take_turns(callers: Callers) -> None:
    """Whoever asks often makes another source wait for one turn."""
    for source in "aaaaabbc":
        await callers.ask(source)
    await callers.end_all()
    assert "".join(callers.began) == "a" + "abcabaa"


async def test_as_many_run_as_may(callers: Callers) -> None:
    """And no more."""
    callers = Callers(running=3)
    for _ in range(10):
        await callers.ask("a")
        assert len(callers.held) <= 3
    assert len(callers.held) == 3
    assert callers.queue.waiting == 7
    await callers.end_one()
    assert len(callers.held) == 3
    await callers.end_all()
    assert len(callers.began) == 10


async def test_a_full_queue_refuses_whoever_has_most_in_it(callers: Callers) -> None:
    """Its newest; a newcomer that would have most itself."""
    callers = Callers(waiting=4)
    crowd = [await callers.ask("a") for _ in range(5)]
    refused = await callers.ask("a")
    with pytest.raises(FairQueueFull) as full:
        await refused
    assert 1 <= full.value.retry_after <= 30
    stranger = await callers.ask("b")
    with pytest.raises(FairQueueFull):
        await crowd[-1]
    assert callers.queue.waiting == 4
    other = await callers.ask("b")  # now each has two
    with pytest.raises(FairQueueFull):
        await crowd[-2]
    with pytest.raises(FairQueueFull):
        await (await callers.ask("b"))
    await callers.end_all()
    await asyncio.gather(stranger, other, *crowd[:3])
    assert "".join(callers.began) == "a" + "abab"


async def test_nobody_waits_longer_than_the_patience(callers: Callers) -> None:
    """And whoever gave up is in nobody's way."""
    await callers.ask("a")
    callers.queue._max_wait_s = 0.01
    impatient = await callers.ask("b")
    with pytest.raises(FairQueueFull):
        await impatient
    callers.queue._max_wait_s = PATIENCE_S
    await callers.ask("c")
    await callers.end_all()
    assert "".join(callers.began) == "ac"


async def test_after_a_turn_there_is_a_rest() -> None:
    """As long as it took, or a multiple of that; nobody who has had a turn waits for it."""
    queue, loop = FairQueue(1, 10, PATIENCE_S, pause_factor=2.0), asyncio.get_running_loop()
    times = list[float]()

    async def work() -> None:
        async with queue.turn("a"):
            times.append(loop.time())
            await asyncio.sleep(0.01)

    await asyncio.gather(work(), work())
    began, next_began = times
    assert (
        next_began - began >= 3 * 0.01 * 0.9
    )  # whatever a slow machine adds; timers are not exact
    async with queue.turn("a"):
        pass


async def test_whoever_goes_leaves_the_queue(callers: Callers) -> None:
    """Waiting, running, and in the moment in which its turn has come and it has not begun."""
    running, first, second, third = [await callers.ask("a") for _ in range(4)]
    first.cancel()
    await settle()
    assert callers.queue.waiting == 2
    next(iter(callers.held.values())).set()
    while not running.done():
        await asyncio.sleep(0)
    second.cancel()
    await settle()
    assert second.cancelled()
    third.cancel()
    await settle()
    assert (callers.queue.waiting, callers.held) == (0, {})
    last = await callers.ask("a")
    await callers.end_all()
    await last


async def test_whoever_goes_when_it_is_refused_has_no_turn(callers: Callers) -> None:
    """It has not heard of the refusal yet, and no error is left that nobody heard."""
    callers = Callers(waiting=2)
    for _ in range(3):
        await callers.ask("a")
    newest = callers.tasks[-1]
    callers.start("b")
    await asyncio.sleep(0)
    newest.cancel()
    await settle()
    assert newest.cancelled()
    assert len(callers.held) == 1
    await callers.end_all()
    assert "".join(callers.began) == "aab"


STEPS = st.tuples(st.sampled_from("aaabgx"), st.integers(0, 9), st.integers(0, 2))


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 2), st.integers(1, 4), st.lists(STEPS, max_size=50))
def test_no_turn_is_lost(running: int, waiting: int, history: list[tuple[str, int, int]]) -> None:
    """Whatever callers do: as many run as may while anybody waits, and in the end all is as in
    the beginning.
    """

    async def live() -> None:
        callers = Callers(running, waiting)
        for step, number, rounds in history:
            if step in "ab":
                callers.start(step)
            elif step == "g" and callers.held:
                list(callers.held.values())[number % len(callers.held)].set()
            elif alive := [task for task in callers.tasks if not task.done()]:
                alive[number % len(alive)].cancel()
            for _ in range(rounds):
                await asyncio.sleep(0)
            assert len(callers.held) <= running
            assert callers.queue.waiting <= waiting
        await settle()
        assert not callers.queue.waiting or len(callers.held) == running
        await callers.end_all()
        for task in callers.tasks:
            with suppress(FairQueueFull, asyncio.CancelledError):
                await task
        assert (callers.queue._free, callers.queue.waiting, len(callers.queue._queues)) == (
            running,
            0,
            0,
        )

    asyncio.run(live())
