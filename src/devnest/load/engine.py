"""Runs the virtual users of one generator process, as its scenarios say.

Closed model: the number of VUs is compared with the stages many times a second, or with the number
that the user has asked for since. A VU that is no longer wanted leaves after its iteration.

Open model: iterations are due at fixed moments, and each is timed from the moment it was due,
however late it began. So a target that stalls does not hide its delays by slowing the generator
down (coordinated omission). An iteration that is due while every VU is busy is dropped and counted.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass
from time import perf_counter

from devnest.load.limits import need_descriptors
from devnest.load.profile import GeneratorContext, Scenario
from devnest.load.schedule import shares, vus_at
from devnest.load.user import VirtualUser

__all__ = ["GRACE_S", "Engine"]

GRACE_S = 30.0  # for iterations that still run when the last stage ends; k6's `gracefulStop`
_TICK_S = 0.02  # between two looks at the stages
# A start at most this late comes from the resolution of the event loop's timer and counts as on
# time.
_MAX_TIMER_DELAY_S = 0.0015
_ERROR_PAUSE_S = 1.0  # of a VU after an exception in the profile's code
_MAX_LATE_STARTS = 100  # overdue iterations started in a row, before other tasks run
# Passes of the event loop after the unanswered requests were failed: enough for each VU to count
# its failed request, and its iteration if that was the last request in it.
_LOOP_PASSES = 5

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _VuState:
    """A virtual user, whether it is wanted now, and its task."""

    vu: VirtualUser
    wanted: bool = False
    started: bool = False
    task: asyncio.Task[None] | None = None


class Engine:
    """Runs this generator's share of every scenario, on one event loop."""

    def __init__(self, context: GeneratorContext, scenarios: list[Scenario]) -> None:
        self._context = context
        self._session = context.session
        self._scenarios = scenarios
        self._running: set[asyncio.Task[None]] = set()
        self._present = 0
        self._max_present = 0
        self._wanted: int | None = None  # VUs of all closed scenarios; None: as the stages say
        self._stopped = asyncio.Event()
        self._shown_error = False

    def take_max_vus(self) -> int:
        """Return the most virtual users that were present at once since the last call."""
        max_present, self._max_present = self._max_present, self._present
        return max_present

    def stop(self) -> None:
        """End the run now. No iteration begins any more, and those that run are interrupted."""
        self._stopped.set()

    def want(self, vus: int) -> None:
        """Have that many VUs until the end of the run, in all generators, whatever the stages say.

        The scenarios of the closed model share them in proportion to their largest numbers.
        """
        need_descriptors(vus, self._context.generators)
        self._wanted = vus

    async def run(self) -> None:
        """Run all scenarios to their end, or until `stop`."""
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
        """Wait up to `GRACE_S` for the iterations that run, or not at all after `stop`."""
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
        """Count each request that has no answer by now as failed.

        After `stop` they are interrupted instead: the target did not have its time to answer.
        """
        for connection in list(self._session.connections):
            if connection.is_waiting:
                connection.fail("no answer by the end of the run")
        for _ in range(_LOOP_PASSES):
            await asyncio.sleep(0)

    async def _pause(self, seconds: float) -> None:
        """Sleep, or wake at once after `stop`."""
        if seconds <= _TICK_S:
            await asyncio.sleep(seconds)
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._stopped.wait()

    def _vu_states(
        self, scenario: Scenario, begin: int = 0, end: int | None = None
    ) -> list[_VuState]:
        """Make the VUs with these numbers; by default all that the stages can want."""
        end = self._context.share(scenario.max_vus) if end is None else end
        sources = scenario.sources or ("",)
        return [
            _VuState(
                VirtualUser(
                    self._session,
                    number,
                    think_s=scenario.think_s,
                    jitter=scenario.jitter,
                    source=sources[number % len(sources)],
                )
            )
            for number in range(begin, end)
        ]

    def _spawn(self, state: _VuState, life: Coroutine[None, None, None]) -> None:
        state.task = task = asyncio.create_task(life)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    # The closed model.

    async def _play_stages(self, scenario: Scenario, begin: float) -> None:
        states = self._vu_states(scenario)
        present = 0
        while (
            elapsed := perf_counter() - begin
        ) < scenario.duration_s and not self._stopped.is_set():
            wanted = self._context.share(self._vus_of(scenario, elapsed))
            states += self._vu_states(scenario, len(states), wanted)
            for state in states[wanted:present]:
                state.wanted = False
            for state in states[present:wanted]:
                state.wanted = True
                if state.task is None or state.task.done():  # else its old task goes on
                    self._spawn(state, self._live(scenario, state))
            present = wanted
            await asyncio.sleep(_TICK_S)
        for state in states:
            state.wanted = False

    def _vus_of(self, scenario: Scenario, elapsed_s: float) -> int:
        if self._wanted is None:
            return vus_at(scenario.stages, elapsed_s)
        closed = [each for each in self._scenarios if each.rate is None]
        parts = shares(self._wanted, [each.max_vus for each in closed])
        return next(part for each, part in zip(closed, parts, strict=True) if each is scenario)

    def _enter(self) -> None:
        self._present += 1
        self._max_present = max(self._max_present, self._present)

    async def _live(self, scenario: Scenario, state: _VuState) -> None:
        self._enter()
        try:
            await self._arrive(scenario, state)
            while state.wanted:
                await self._iterate(scenario, state, perf_counter())
        finally:
            self._present -= 1
            state.vu.close()

    async def _arrive(self, scenario: Scenario, state: _VuState) -> None:
        while state.wanted and not state.started:
            state.started = scenario.start is None or await self._guarded(scenario.start(state.vu))

    # The open model. Its clock starts once all VUs are ready, or after the duration of the scenario
    # with those that are.

    async def _play_arrivals(self, scenario: Scenario, begin: float) -> None:
        assert scenario.rate is not None
        free: deque[_VuState] = deque()
        states = self._vu_states(scenario)
        for state in states:
            self._spawn(state, self._stand_ready(scenario, state, free))
        while (
            len(free) < len(states)
            and perf_counter() - begin < scenario.duration_s
            and not self._stopped.is_set()
        ):
            await self._pause(_TICK_S)
        begin = perf_counter()
        number = self._context.index  # of the iteration, among those of all generators
        late = 0  # overdue iterations since the last one that was on time
        while number < scenario.rate * scenario.duration_s and not self._stopped.is_set():
            due = begin + number / scenario.rate
            now = perf_counter()
            if due > now:
                await self._pause(due - now)
                late = 0
                continue
            late += 1
            if late % _MAX_LATE_STARTS == 0:
                await asyncio.sleep(0)
            if free:
                state = free.popleft()
                state.vu.intended = due if now - due > _MAX_TIMER_DELAY_S else now
                self._spawn(state, self._serve(scenario, state, free, state.vu.intended))
            else:
                self._session.tally.dropped += 1
            number += self._context.generators
        for state in states:
            state.wanted = False

    async def _stand_ready(
        self, scenario: Scenario, state: _VuState, free: deque[_VuState]
    ) -> None:
        self._enter()
        state.wanted = True
        await self._arrive(scenario, state)
        free.append(state)

    async def _serve(
        self, scenario: Scenario, state: _VuState, free: deque[_VuState], due: float
    ) -> None:
        await self._iterate(scenario, state, due)
        state.vu.intended = None
        free.append(state)

    async def _iterate(self, scenario: Scenario, state: _VuState, begin: float) -> None:
        if await self._guarded(scenario.iteration(state.vu)):
            self._session.tally.iterations.append(perf_counter() - begin)
        await asyncio.sleep(0)  # other tasks run even if the iteration waited for nothing

    async def _guarded(self, call: Awaitable[object]) -> bool:
        """Await a call of the profile's code; False where it raised an exception or returned False.

        An exception is counted, and the first one is logged. The VU pauses after it.
        """
        try:
            return await call is not False
        except Exception as error:
            self._session.tally.error("profile", f"{type(error).__name__}: {error}"[:200])
            if not self._shown_error:
                self._shown_error = True
                _log.exception("a virtual user failed (shown once, counted always)")
            await asyncio.sleep(_ERROR_PAUSE_S)
            return False
