"""The engine in this process, on a clock that the test moves."""

import asyncio
from time import perf_counter

import pytest

from devnest.load.engine import Engine
from devnest.load.profile import GeneratorContext, Scenario
from devnest.load.schedule import constant
from devnest.load.target import Target as Url
from devnest.load.user import Session, VirtualUser
from tests.load.targets import answer, constantly, serving

HOUR_S = 3600.0


@pytest.mark.parametrize("stopped", [False, True])
async def test_a_request_that_is_never_answered_has_failed(
    monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    """When the time for it is over, with what it waited.

    One that the person cuts off had no time, and is none.
    """
    moved_s = 0.0
    monkeypatch.setattr("devnest.load.engine.perf_counter", lambda: perf_counter() + moved_s)
    waiting: list[int] = []

    async def iteration(vu: VirtualUser) -> None:
        waiting.append(vu.number)
        if vu.number < 2:
            await vu.request("hangs", "GET", "/")
        if vu.number > 0:
            await vu.think(HOUR_S)

    async with serving(constantly(answer(200), delay_s=HOUR_S)) as target:
        session = Session(
            await Url.parse(target.url).reached(), seed=1, timeout_s=HOUR_S, run_tag="t"
        )
        engine = Engine(
            GeneratorContext(session), [Scenario("default", iteration, constant(3, HOUR_S / 2))]
        )
        running = asyncio.create_task(engine.run())
        while len(waiting) < 3 or len(target.requests) < 2:
            await asyncio.sleep(0.01)
        if stopped:
            engine.stop()
        while not running.done():
            moved_s += HOUR_S
            await asyncio.sleep(0.01)
        await running
    figures = session.tally.take()
    failed = 0 if stopped else 2
    assert [(*key, len(waits)) for *key, waits in figures.durations] == (
        [("hangs", 0, False, 2 * 8)] if failed else []
    )
    assert figures.errors == ([("hangs", "no answer by the end of the run", 2)] if failed else [])
    assert len(figures.iterations) == (
        0 if stopped else 8
    )  # the first one's, which had nothing else to do
    assert figures.interrupted == (3 if stopped else 2)


async def test_a_wanted_number_replaces_the_stages() -> None:
    """More virtual users than the stages have, then fewer; scenarios share them by their sizes."""
    present: dict[str, set[int]] = {"small": set(), "large": set()}

    def scenario(name: str, vus: int) -> Scenario:
        async def iteration(vu: VirtualUser) -> None:
            present[name].add(vu.number)
            await vu.think(0.001)

        return Scenario(name, iteration, constant(vus, HOUR_S))

    async with serving(constantly(answer(200))) as target:
        session = Session(await Url.parse(target.url).reached(), seed=1, timeout_s=9, run_tag="t")
        engine = Engine(GeneratorContext(session), [scenario("small", 1), scenario("large", 3)])
        running = asyncio.create_task(engine.run())
        for number, sizes in ((None, (1, 3)), (12, (3, 9)), (2, (0, 2)), (0, (0, 0))):
            if number is not None:
                engine.want(number)
            wanted = {"small": set(range(sizes[0])), "large": set(range(sizes[1]))}
            while present != wanted:
                present["small"].clear()
                present["large"].clear()
                await asyncio.sleep(0.05)
        engine.stop()
        await running
    assert engine.take_max_vus() == 12
