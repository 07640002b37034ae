"""One look-up for all who ask the same at once, and never an answer older than its question."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from devnest.api.http.singleflight import SingleFlight


class Desk:
    """Look-ups that end when the test says so."""

    def __init__(self) -> None:
        self.open: list[asyncio.Future[int]] = []

    async def look_up(self) -> int:
        self.open.append(asyncio.get_running_loop().create_future())
        return await self.open[-1]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_who_asks_during_a_load_shares_the_next(desk: Desk) -> None:
    """Its look-up begins after they asked."""
    flights = SingleFlight[int](pause_factor=0)
    first = asyncio.create_task(flights.get("q", desk.look_up))
    await settle()
    later = [asyncio.create_task(flights.get("q", desk.look_up)) for _ in range(10)]
    await settle()
    assert len(desk.open) == 1
    desk.open[0].set_result(1)
    assert await first == 1
    await settle()
    assert len(desk.open) == 2
    assert not any(task.done() for task in later)
    desk.open[1].set_result(2)
    assert await asyncio.gather(*later) == [2] * 10
    assert not flights._newest


async def test_other_questions_do_not_wait(desk: Desk) -> None:
    """A load is for one key."""
    flights = SingleFlight[int](pause_factor=0)
    tasks = [asyncio.create_task(flights.get(question, desk.look_up)) for question in "abc"]
    await settle()
    assert len(desk.open) == 3
    for number, future in enumerate(desk.open):
        future.set_result(number)
    assert await asyncio.gather(*tasks) == [0, 1, 2]


async def test_a_failure_is_told_to_all_of_its_load_and_to_no_other(desk: Desk) -> None:
    """The next load is another question to the database."""
    flights = SingleFlight[int](pause_factor=0)
    first = asyncio.create_task(flights.get("q", desk.look_up))
    await settle()
    second = asyncio.create_task(flights.get("q", desk.look_up))
    desk.open[0].set_exception(OSError("gone"))
    with pytest.raises(OSError, match="gone"):
        await first
    await settle()
    desk.open[1].set_result(2)
    assert await second == 2


@pytest.mark.parametrize(
    "ends", [lambda future: future.set_result(1), lambda future: future.set_exception(OSError())]
)
async def test_who_leaves_takes_nothing_along(
    desk: Desk, ends: Callable[[asyncio.Future[int]], None]
) -> None:
    """Not the answer of the others, and no warning about an answer that nobody heard."""
    flights = SingleFlight[int](pause_factor=0)
    leaver, stayer = (asyncio.create_task(flights.get("q", desk.look_up)) for _ in range(2))
    await settle()
    next_one = asyncio.create_task(flights.get("q", desk.look_up))
    await settle()
    leaver.cancel()
    ends(desk.open[0])
    await asyncio.gather(leaver, stayer, return_exceptions=True)
    assert leaver.cancelled()
    assert not stayer.cancelled()
    next_one.cancel()
    await settle()
    desk.open[1].set_exception(OSError("nobody hears this"))
    await settle()
    assert not flights._newest


async def test_a_chain_of_loads_is_as_long_as_the_questions_last() -> None:
    """Asked without a pause, each answer is newer than its question."""
    flights = SingleFlight[int](pause_factor=0)
    clock = 0

    async def tick() -> int:
        nonlocal clock
        clock += 1
        begun = clock
        await asyncio.sleep(0)
        return begun

    async def reader(ask: Callable[[], Awaitable[int]]) -> None:
        for _ in range(50):
            before = clock
            assert await ask() > before

    await asyncio.gather(*(reader(lambda: flights.get("q", tick)) for _ in range(8)))
    assert clock < 8 * 50


async def test_a_key_of_several_callers_pauses_after_its_load() -> None:
    """As long as the look-up took, or a multiple of it.

    Other questions do not, nor does who asks alone.
    """
    flights = SingleFlight[float](pause_factor=1)
    loop = asyncio.get_running_loop()

    async def look_up() -> float:
        began_at = loop.time()
        await asyncio.sleep(0.005)
        return began_at

    alone = await flights.get("q", look_up)
    assert not flights._paused_until
    first, _ = await asyncio.gather(flights.get("q", look_up), flights.get("q", look_up))
    second, third, other = await asyncio.gather(
        *(flights.get(question, look_up) for question in ("q", "q", "r"))
    )
    assert second == third
    assert second - first >= 0.009  # of 0.01, for timers are not exact
    assert alone < first < other <= second


async def test_after_a_failure_there_is_no_rest(desk: Desk) -> None:
    """The next one asks at once."""
    flights = SingleFlight[int](pause_factor=1000)
    for _ in range(3):
        asking = asyncio.create_task(flights.get("q", desk.look_up))
        await settle()
        desk.open[-1].set_exception(OSError("gone"))
        with pytest.raises(OSError, match="gone"):
            await asking
    assert len(desk.open) == 3


async def test_what_rests_is_bounded() -> None:
    """Questions come from clients."""
    flights = SingleFlight[int]()

    async def look_up() -> int:
        return 1

    for number in range(3000):
        await asyncio.gather(flights.get(number, look_up), flights.get(number, look_up))
    assert 0 < len(flights._paused_until) <= 1000


async def test_the_end_of_the_loop_is_no_error() -> None:
    """A look-up that is cancelled from outside, as all are when a server ends, says nothing."""
    flights, loop = SingleFlight[None](), asyncio.get_running_loop()
    failed: list[object] = []
    loop.set_exception_handler(lambda _, context: failed.append(context))
    asking = asyncio.create_task(flights.get("q", asyncio.Event().wait))  # type: ignore[arg-type]
    await settle()
    flights._newest["q"].task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not failed
    assert not flights._newest
