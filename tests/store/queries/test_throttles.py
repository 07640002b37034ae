"""Counters of failures: free ones, then waits that grow, whoever counts; forgotten one by one."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from devnest.store import (
    Charge,
    Database,
    Rule,
    Subject,
    Throttled,
    charge,
    check,
    count,
    purge,
    refund,
)

# A day: so much is forgotten in a test, however slow the machine is, that the level stays the
# number of failures.
RULE = Rule("test", free=3, period=timedelta(days=1), max_wait=timedelta(seconds=60), max_level=20)
STATE = "SELECT empty_at, blocked_until FROM throttles WHERE key = $1"


@pytest.fixture
def subject() -> Subject:
    """Somebody without failures."""
    return Subject(RULE, uuid4().hex)


async def level_of(database: Database, subject: Subject) -> int:
    """How many failures are remembered."""
    row = await database.fetch_row(
        "SELECT empty_at - now() FROM throttles WHERE key = $1", subject.key
    )
    return 0 if row is None else max(0, round(row[0] / subject.rule.period))


async def age(database: Database, subject: Subject, time: timedelta) -> None:
    """As if the time had passed."""
    await database.fetch(
        "UPDATE throttles SET empty_at = empty_at - $2::interval, blocked_until = blocked_until - $2 WHERE key = $1",
        subject.key, time,
    )  # fmt: skip


async def end_wait(database: Database, subject: Subject) -> None:
    """As if it were over, and nothing forgotten meanwhile."""
    await database.fetch(
        "UPDATE throttles SET blocked_until = '-infinity' WHERE key = $1", subject.key
    )


async def fail(database: Database, subject: Subject, times: int) -> None:
    """So many failures, without waiting for anything."""
    for _ in range(times):
        await count(database, subject)


async def make_wait(database: Database, subject: Subject) -> None:
    """Leave somebody with ten failures in a wait of ten minutes."""
    await fail(database, subject, 10)
    await database.fetch(
        "UPDATE throttles SET blocked_until = now() + interval '10 minutes' WHERE key = $1",
        subject.key,
    )


async def is_free(database: Database, subject: Subject, *, room: int | None = None) -> bool:
    """Whether a try would be let through."""
    try:
        await check(database, subject, max_failures=room)
    except Throttled:
        return False
    return True


@pytest.mark.parametrize("add", [charge, count])
async def test_waits_double_up_to_the_longest(
    database: Database, subject: Subject, add: Callable[[Database, Subject], Awaitable[Any]]
) -> None:
    """Three free, then 1, 2, 4 … 60 seconds, whether a failure is counted before it happens or
    after.
    """
    for _ in range(3):
        await add(database, subject)
        assert await is_free(database, subject)
    for expected_s in (1, 2, 4, 8, 16, 32, 60, 60):
        before = await database.fetch_value("SELECT clock_timestamp()")
        await add(database, subject)
        after = await database.fetch_value("SELECT clock_timestamp()")
        until = (await database.fetch(STATE, subject.key))[0]["blocked_until"]
        assert until - after <= timedelta(seconds=expected_s) <= until - before
        await end_wait(database, subject)


async def test_failures_are_forgotten_one_by_one(database: Database, subject: Subject) -> None:
    """One in each period, and no other counter of failures or successes keeps that from
    happening.
    """
    await fail(database, subject, 5)
    for left in (4, 3, 2, 1, 0, 0):
        await refund(database, await charge_without_wait(database, subject))
        await age(database, subject, RULE.period)
        assert await level_of(database, subject) == left
    await count(database, subject)
    assert await level_of(database, subject) == 1


async def charge_without_wait(database: Database, subject: Subject) -> Charge:
    await end_wait(database, subject)
    return await charge(database, subject)


async def test_a_long_attack_is_over_some_time_after_its_end(
    database: Database, subject: Subject
) -> None:
    """The level has a top."""
    await fail(database, subject, 3 * RULE.max_level)
    await age(database, subject, (RULE.max_level - RULE.free) * RULE.period)
    assert await level_of(database, subject) <= RULE.free + 1


async def test_refused_tries_do_not_lengthen_the_wait(database: Database, subject: Subject) -> None:
    """Hammering changes nothing.

    The first refusal of a wait is marked, and the wait that is told is the real one.
    """
    await make_wait(database, subject)
    before = await database.fetch(STATE, subject.key)
    first = []
    for _ in range(5):
        with pytest.raises(Throttled) as caught:
            await charge(database, subject)
        assert 0 < caught.value.retry_after <= 600
        assert caught.value.waits[subject.key] <= caught.value.retry_after
        first.append(caught.value.first)
    assert first == [True, False, False, False, False]
    assert await database.fetch(STATE, subject.key) == before


async def test_who_was_told_is_not_the_first(database: Database, subject: Subject) -> None:
    """Such a refusal marks nothing: the next one that is not told is the first.

    Addresses beside are told as ever.
    """
    address = Subject(RULE, uuid4().hex)
    await make_wait(database, subject)
    first = []
    for told in (True, False, True):
        with pytest.raises(Throttled) as caught:
            await charge(database, subject, told=told)
        assert set(caught.value.waits) == {subject.key}
        first.append(caught.value.first)
    await make_wait(database, address)
    for _ in range(2):
        with pytest.raises(Throttled) as caught:
            await charge(database, subject, also_check=address, told=True)
        first.append(caught.value.first)
    assert first == [False, True, False, True, False]


async def test_of_many_refusals_at_once_one_is_the_first(
    database: Database, subject: Subject
) -> None:
    """Of each wait, that of another failure too."""
    for _ in range(2):
        await make_wait(database, subject)
        refused = await asyncio.gather(
            *(check(database, subject) for _ in range(20)), return_exceptions=True
        )
        assert [isinstance(one, Throttled) and one.first for one in refused].count(True) == 1
        await end_wait(database, subject)


async def test_guesses_at_once_are_counted_like_guesses_in_a_row(
    database: Database, subject: Subject
) -> None:
    """Of forty at the same moment, one gets through where one in a row would."""
    await fail(database, subject, 10)
    await end_wait(database, subject)
    answers = await asyncio.gather(
        *(charge(database, subject) for _ in range(40)), return_exceptions=True
    )
    assert sum(isinstance(answer, Charge) for answer in answers) == 1
    assert sum(isinstance(answer, Throttled) for answer in answers) == 39


async def test_failures_count_while_there_is_a_wait_too(
    database: Database, subject: Subject
) -> None:
    """What was let through before the wait began, and failed later: it is no way to have more
    tries.
    """
    await asyncio.gather(*(count(database, subject) for _ in range(12)))
    assert await level_of(database, subject) == 12
    with pytest.raises(Throttled) as caught:
        await check(database, subject)
    assert caught.value.retry_after > 30


async def test_nobody_is_charged_while_somebody_beside_waits(
    database: Database, subject: Subject
) -> None:
    """Who is refused for one reason is not counted for another."""
    address = Subject(RULE, uuid4().hex)
    await charge(database, subject, also_check=address)
    await make_wait(database, address)
    for _ in range(10):
        with pytest.raises(Throttled) as caught:
            await charge(database, subject, also_check=address)
        assert set(caught.value.waits) == {address.key}
    assert await level_of(database, subject) == 1
    await make_wait(database, subject)
    with pytest.raises(Throttled) as caught:
        await charge(database, subject, also_check=address)
    assert set(caught.value.waits) == {address.key, subject.key}


async def test_there_is_room_for_so_many_failures_and_no_more(
    database: Database, subject: Subject
) -> None:
    """For who is charged and who only asks.

    It is no wait: nobody is told, and nothing is remembered.
    """
    address = Subject(replace(RULE, free=100), uuid4().hex)
    await fail(database, address, 5)
    await charge(database, subject, also_check=address, max_failures=5)
    assert await is_free(database, address, room=5)
    for work in (
        charge(database, subject, also_check=address, max_failures=4),
        check(database, address, max_failures=4),
    ):
        with pytest.raises(Throttled) as caught:
            await work
        assert (caught.value.retry_after, caught.value.first, dict(caught.value.waits)) == (
            1,
            False,
            {},
        )
    assert await level_of(database, subject) == 1


async def test_a_wait_that_begins_meanwhile_charges_nobody(
    database: Database, subject: Subject
) -> None:
    """Also where the charge saw no wait and then waited for the guess that began one."""
    await charge(database, subject)
    async with database.connection() as connection:
        async with connection.transaction():
            await connection.execute(
                "UPDATE throttles SET blocked_until = now() + interval '10 minutes' WHERE key = $1",
                subject.key,
            )
            charging = asyncio.create_task(charge(database, subject))
            while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.005)
        with pytest.raises(Throttled) as caught:
            await charging
    assert 30 < caught.value.retry_after <= 600
    assert await level_of(database, subject) == 1


@pytest.mark.parametrize("failures", range(8))
async def test_what_is_paid_back_has_never_been(
    database: Database, subject: Subject, failures: int
) -> None:
    """Neither its failure nor its wait; the failures before it stay.

    So no success is seen by who guesses.
    """
    await fail(database, subject, failures)
    await end_wait(database, subject)
    before = await database.fetch(STATE, subject.key)
    await refund(database, await charge(database, subject))
    after = await database.fetch(STATE, subject.key)
    assert await level_of(database, subject) == failures
    if before:
        assert after == before
    assert await is_free(database, subject)


async def test_what_is_paid_back_leaves_the_wait_of_another(
    database: Database, subject: Subject
) -> None:
    """Who guesses meanwhile does not gain by the holder's success."""
    await fail(database, subject, 3)
    right = await charge(database, subject)
    await end_wait(database, subject)
    wrong = await charge(database, subject)
    await refund(database, right)
    assert not await is_free(database, subject)
    assert await level_of(database, subject) == 4
    await refund(database, wrong)
    assert await is_free(database, subject)


async def test_what_is_paid_back_ends_a_wait_that_it_made_too_long(
    database: Database, subject: Subject
) -> None:
    """The free failures are those of others: two wrong ones and a right one before are no wait
    for the third.
    """
    right = await charge(database, subject)
    await fail(database, subject, 2)
    await charge(database, subject)
    assert not await is_free(database, subject)
    await refund(database, right)
    assert await is_free(database, subject)


async def test_those_who_tell_of_two_waits_do_not_block_each_other(database: Database) -> None:
    """Whatever order they ask in."""
    one, two = (Subject(RULE, uuid4().hex) for _ in range(2))
    for _ in range(5):
        await asyncio.gather(make_wait(database, one), make_wait(database, two))
        pairs = itertools.islice(itertools.cycle([(one, two), (two, one)]), 30)
        refused = await asyncio.gather(
            *(charge(database, first, also_check=second) for first, second in pairs),
            return_exceptions=True,
        )
        assert all(isinstance(answer, Throttled) for answer in refused)
        await asyncio.gather(end_wait(database, one), end_wait(database, two))


async def test_housekeeping_deletes_what_nobody_needs(database: Database, subject: Subject) -> None:
    """Counters without failures and without a wait, and no others."""
    waiting, failed = (Subject(RULE, uuid4().hex) for _ in range(2))
    await charge(database, failed)
    await make_wait(database, waiting)
    await database.fetch("UPDATE throttles SET empty_at = now() WHERE key = $1", waiting.key)
    await refund(database, await charge(database, subject))
    await purge(database)
    assert not await database.fetch(STATE, subject.key)
    assert await database.fetch(STATE, waiting.key)
    assert await database.fetch(STATE, failed.key)
