"""Lets virtual users come, act and go in one process, as the scenarios say.

Closed model: VUs are compared with the stages many times a second; one too many leaves after its iteration.
Open model: iterations are due at fixed moments, and each is timed from the moment it was due, however late it
began: a target that stalls cannot slow the clock that measures it. An iteration due while every VU is busy is
dropped and counted.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass
from time import perf_counter

from devnest.load.profile import Crew, Scenario
from devnest.load.schedule import vus_at
from devnest.load.user import VirtualUser

__all__ = ["GRACE_S", "Engine"]

GRACE_S = 30.0  # for iterations that run when the last stage ends
_TICK_S = 0.02
_TIMER_STEP_S = 0.0015  # a start this late is the step of the event loop's timer and not a delay
_AFTER_ERROR_S = 1.0
_AT_ONCE = 100  # arrivals that are late, before the others have a turn
_TURNS = 5  # of the event loop, in which a VU counts a request that failed, and its iteration if that was the last

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Slot:
    vu: VirtualUser
    wanted: bool = False
    started: bool = False
    task: asyncio.Task[None] | None = None


class Engine:
    """Runs this crew's share of every scenario; owned by one event loop."""

    def __init__(self, crew: Crew, scenarios: list[Scenario]) -> None:
        self._crew = crew
        self._session = crew.session
        self._scenarios = scenarios
        self._running: set[asyncio.Task[None]] = set()
        self._present = 0
        self._most = 0
        self._stopped = asyncio.Event()
        self._shown_error = False

    def take_vus(self) -> int:
        """The most virtual users that were present at once since the last call."""
        most, self._most = self._most, self._present
        return most

    def stop(self) -> None:
        """End the run now: no new iteration, and those that run are interrupted."""
        self._stopped.set()

    async def run(self) -> None:
        begin = perf_counter()
        try:
            async with asyncio.TaskGroup() as scenarios:
                for scenario in self._scenarios:
                    play = self._play_stages if scenario.rate is None else self._play_arrivals
                    scenarios.create_task(play(scenario, begin))
            await self._let_finish()
        finally:
            for connection in list(self._session.connections):
                connection.abort()

    async def _let_finish(self) -> None:
        """Wait for the iterations that run, at most `GRACE_S`, or not at all after `stop`."""
        end = perf_counter() + GRACE_S
        while self._running and not self._stopped.is_set() and perf_counter() < end:
            await asyncio.wait(self._running, timeout=_TICK_S)
        if self._running and not self._stopped.is_set():
            await self._fail_unanswered()
        self._session.tally.interrupted += len(self._running)
        for task in self._running:
            task.cancel()
        while self._running:
            await asyncio.wait(self._running)

    async def _fail_unanswered(self) -> None:
        """A target that never answers must not look like one that was not asked. After `stop` it had no time to."""
        for connection in list(self._session.connections):
            if connection.is_waiting:
                connection.fail("no answer by the end of the run")
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    async def _pause(self, seconds: float) -> None:
        """Sleep, or wake at once after `stop`."""
        if seconds <= _TICK_S:
            await asyncio.sleep(seconds)
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._stopped.wait()

    def _slots(self, scenario: Scenario) -> list[_Slot]:
        sources = scenario.sources or ("",)
        return [
            _Slot(
                VirtualUser(
                    self._session,
                    number,
                    think_s=scenario.think_s,
                    jitter=scenario.jitter,
                    source=sources[number % len(sources)],
                )
            )
            for number in range(self._crew.share(scenario.most_vus))
        ]

    def _spawn(self, slot: _Slot, life: Coroutine[None, None, None]) -> None:
        slot.task = task = asyncio.create_task(life)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    # closed model

    async def _play_stages(self, scenario: Scenario, begin: float) -> None:
        slots = self._slots(scenario)
        present = 0
        while (
            elapsed := perf_counter() - begin
        ) < scenario.duration_s and not self._stopped.is_set():
            wanted = self._crew.share(vus_at(scenario.stages, elapsed))
            for slot in slots[wanted:present]:
                slot.wanted = False
            for slot in slots[present:wanted]:
                slot.wanted = True
                if slot.task is None or slot.task.done():  # else it comes back before it has left
                    self._spawn(slot, self._live(scenario, slot))
            present = wanted
            await asyncio.sleep(_TICK_S)
        for slot in slots:
            slot.wanted = False

    def _enter(self) -> None:
        self._present += 1
        self._most = max(self._most, self._present)

    async def _live(self, scenario: Scenario, slot: _Slot) -> None:
        self._enter()
        try:
            await self._arrive(scenario, slot)
            while slot.wanted:
                await self._iterate(scenario, slot, perf_counter())
        finally:
            self._present -= 1
            slot.vu.close()

    async def _arrive(self, scenario: Scenario, slot: _Slot) -> None:
        while slot.wanted and not slot.started:
            slot.started = scenario.start is None or await self._guarded(scenario.start(slot.vu))

    # open model; its clock starts when the VUs stand ready, or for those that are when they take too long

    async def _play_arrivals(self, scenario: Scenario, begin: float) -> None:
        assert scenario.rate is not None
        free: deque[_Slot] = deque()
        slots = self._slots(scenario)
        for slot in slots:
            self._spawn(slot, self._stand_ready(scenario, slot, free))
        while (
            len(free) < len(slots)
            and perf_counter() - begin < scenario.duration_s
            and not self._stopped.is_set()
        ):
            await self._pause(_TICK_S)
        begin = perf_counter()
        number = self._crew.index  # of the arrival, among those of all generators
        late = 0  # arrivals since the clock was last ahead
        while number < scenario.rate * scenario.duration_s and not self._stopped.is_set():
            due = begin + number / scenario.rate
            now = perf_counter()
            if due > now:
                await self._pause(due - now)
                late = 0
                continue
            late += 1
            if late % _AT_ONCE == 0:
                await asyncio.sleep(0)
            if free:
                slot = free.popleft()
                slot.vu.intended = due if now - due > _TIMER_STEP_S else now
                self._spawn(slot, self._serve(scenario, slot, free, slot.vu.intended))
            else:
                self._session.tally.dropped += 1
            number += self._crew.generators
        for slot in slots:
            slot.wanted = False

    async def _stand_ready(self, scenario: Scenario, slot: _Slot, free: deque[_Slot]) -> None:
        self._enter()
        slot.wanted = True
        await self._arrive(scenario, slot)
        free.append(slot)

    async def _serve(self, scenario: Scenario, slot: _Slot, free: deque[_Slot], due: float) -> None:
        await self._iterate(scenario, slot, due)
        slot.vu.intended = None
        free.append(slot)

    async def _iterate(self, scenario: Scenario, slot: _Slot, begin: float) -> None:
        if await self._guarded(scenario.iteration(slot.vu)):
            self._session.tally.iterations.append(perf_counter() - begin)
        await asyncio.sleep(0)  # an iteration that waits for nothing must not hold the loop

    async def _guarded(self, habit: Awaitable[object]) -> bool:
        """Do it; an exception of the profile's own code is counted, shown once, and slows that VU down.

        False after an exception, and where the habit itself says False.
        """
        try:
            return await habit is not False
        except Exception as error:
            self._session.tally.error("profile", f"{type(error).__name__}: {error}"[:200])
            if not self._shown_error:
                self._shown_error = True
                _log.exception("a virtual user failed (shown once, counted always)")
            await asyncio.sleep(_AFTER_ERROR_S)
            return False
