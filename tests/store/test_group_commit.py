"""Calls carried out together: each once, each with its own result."""

import asyncio
from collections.abc import Sequence
from functools import partial
from uuid import uuid4

import pytest

from devnest.store import (
    Database,
    DatabaseUnavailable,
    EmbeddedPostgres,
    GroupCommit,
    Opened,
    Opening,
    create_account,
    create_sessions,
)
from tests.support import PATIENCE_S


class Counter:
    """Doubles numbers; holds each group until `go`; a negative number is an error of its own."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.go = asyncio.Semaphore(0)

    async def work(self, items: Sequence[int]) -> Sequence[int | Exception]:
        self.groups.append(list(items))
        await self.go.acquire()
        if 99 in items:
            raise OSError("the whole group")
        return [ValueError(f"{item}") if item < 0 else item * 2 for item in items]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_comes_meanwhile_goes_together() -> None:
    """The first at once, the others as one group of a bounded size; one timer does for all."""
    counter = Counter()
    grouped = GroupCommit(counter.work, 3, pause_factor=0, timeout_s=PATIENCE_S)
    calls = [asyncio.create_task(grouped(1))]
    await settle()
    assert counter.groups == [[1]]
    timer = grouped._timer
    calls += [asyncio.create_task(grouped(number)) for number in range(2, 7)]
    await settle()
    assert counter.groups == [[1]]
    for _ in range(3):
        counter.go.release()
    assert await asyncio.gather(*calls) == [2, 4, 6, 8, 10, 12]
    assert counter.groups == [[1], [2, 3, 4], [5, 6]]
    assert grouped._runner is None
    assert grouped._timer is timer


async def test_an_error_is_its_own_items() -> None:
    """The others of the group have their results.

    An error of the whole group is everyone's, and of no other.
    """
    counter = Counter()
    grouped = GroupCommit(counter.work, 10, pause_factor=0)
    for _ in range(3):
        counter.go.release()
    first = asyncio.create_task(grouped(0))
    await asyncio.sleep(0)
    outcomes = await asyncio.gather(
        *(grouped(number) for number in (1, -2, 3)), return_exceptions=True
    )
    assert (outcomes[0], outcomes[2]) == (2, 6)
    assert await first == 0
    assert isinstance(outcomes[1], ValueError)
    with pytest.raises(OSError, match="whole group"):
        await grouped(99)
    counter.go.release()
    assert await grouped(4) == 8


async def test_who_leaves_before_the_group_begins_is_left_out() -> None:
    """And who leaves later changes nothing for the others."""
    counter = Counter()
    grouped = GroupCommit(counter.work, 10, pause_factor=0)
    running, stays, leaves = (asyncio.create_task(grouped(number)) for number in (1, 2, 3))
    await settle()
    assert counter.groups == [[1, 2, 3]]
    late = [asyncio.create_task(grouped(number)) for number in (4, 5)]
    await settle()
    leaves.cancel()
    late[0].cancel()
    counter.go.release()
    counter.go.release()
    assert [await running, await stays, await late[1]] == [2, 4, 10]
    assert counter.groups == [[1, 2, 3], [5]]
    await asyncio.gather(leaves, late[0], return_exceptions=True)
    assert leaves.cancelled()
    assert late[0].cancelled()


async def test_after_a_group_of_several_there_is_a_rest_as_long() -> None:
    """In which company comes; a call alone leaves none behind."""
    groups: list[tuple[float, list[int]]] = []
    loop = asyncio.get_running_loop()

    async def work(items: Sequence[int]) -> Sequence[int | Exception]:
        groups.append((loop.time(), list(items)))
        await asyncio.sleep(0.005)
        return items

    grouped = GroupCommit(work, 10, pause_factor=1)
    assert await grouped(0) == 0
    assert grouped._paused_until == 0
    assert list(await asyncio.gather(grouped(1), grouped(2))) == [1, 2]
    third = asyncio.create_task(grouped(3))
    await asyncio.sleep(0)
    assert list(await asyncio.gather(third, grouped(4))) == [3, 4]
    _, (first_at, first), (second_at, second) = groups
    assert (first, second) == ([1, 2], [3, 4])
    assert second_at - first_at >= 0.009  # of 0.01, for timers are not exact


async def test_nobody_waits_for_a_group_longer_than_the_bound() -> None:
    """Whenever they came; what was refused is not carried out."""
    counter = Counter()
    grouped = GroupCommit(counter.work, 2, pause_factor=0, timeout_s=0.02)
    running = asyncio.create_task(grouped(1))
    await settle()
    waiting = [asyncio.create_task(grouped(number)) for number in range(2, 7)]
    async with asyncio.timeout(PATIENCE_S):
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {DatabaseUnavailable}
        with pytest.raises(DatabaseUnavailable):
            await grouped(7)
        while grouped._timer is not None:
            await asyncio.sleep(0.005)
    counter.go.release()
    assert await running == 2
    counter.go.release()
    assert await grouped(8) == 16
    assert counter.groups == [[1], [8]]


async def test_work_that_is_cancelled_leaves_nobody_waiting() -> None:
    """Neither the callers of its group nor those behind it; who comes later is served."""
    began, go = asyncio.Event(), asyncio.Event()

    async def work(items: Sequence[int]) -> Sequence[int | Exception]:
        if 1 in items:
            began.set()
            await go.wait()
            raise asyncio.CancelledError
        return items

    grouped = GroupCommit(work, 10, pause_factor=0, timeout_s=PATIENCE_S)
    calls = [asyncio.create_task(grouped(1))]
    await began.wait()
    calls.append(asyncio.create_task(grouped(2)))
    await settle()
    go.set()
    await settle()
    assert all(call.done() for call in calls)
    assert {type(call.exception()) for call in calls} == {DatabaseUnavailable}
    assert await grouped(3) == 3


async def test_while_writes_stall_who_waits_is_refused(
    postgres: EmbeddedPostgres, database: Database
) -> None:
    """And gets no session afterwards."""
    name = f"u{uuid4().hex[:20]}"
    opening = Opening(
        (await create_account(database, name, f"{name}@example.org", "hash")).id, "hash"
    )
    grouped = GroupCommit[Opening, Opened | None](
        partial(create_sessions, database), 10, pause_factor=0, timeout_s=0.02
    )
    async with Database(postgres.url) as other, other.connection() as connection:
        async with asyncio.timeout(PATIENCE_S), connection.transaction():
            await connection.execute("LOCK TABLE sessions IN SHARE MODE")
            first = asyncio.create_task(grouped(opening))
            while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.005)
            behind = await asyncio.gather(
                *(grouped(opening) for _ in range(3)), return_exceptions=True
            )
        assert {type(outcome) for outcome in behind} == {DatabaseUnavailable}
        assert await first is not None
        assert (
            await connection.fetchval(
                "SELECT count(*) FROM sessions WHERE account_id = $1", opening.account_id
            )
            == 1
        )
