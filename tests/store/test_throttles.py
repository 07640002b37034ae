"""Counters of failures: free ones, then waits that grow, whoever counts."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from uuid import uuid4

import pytest

from devnest.store import Database, Rule, Subject, Throttled, charge, pay_back, purge

RULE = Rule("test", free=3, longest=timedelta(seconds=60))


@pytest.fixture
def subject() -> Subject:
    """Somebody without failures."""
    return Subject(RULE, uuid4().hex)


async def wait_of(database: Database, subject: Subject) -> float:
    """How long the last charge lets a subject wait, however late we look."""
    wait_s: float = await database.fetch_value(
        "SELECT extract(epoch FROM blocked_until - last_at)::float8 FROM throttles WHERE key = $1", subject.key
    )
    return wait_s


async def serve_the_wait(database: Database, subject: Subject) -> None:
    """As if the time had passed."""
    await database.fetch("UPDATE throttles SET blocked_until = '-infinity' WHERE key = $1", subject.key)


async def make_wait(database: Database, subject: Subject) -> None:
    """Leave somebody in a wait of ten minutes."""
    await charge(database, subject)
    await database.fetch(
        "UPDATE throttles SET failures = 9, blocked_until = now() + interval '10 minutes' WHERE key = $1", subject.key
    )


async def test_waits_double_up_to_the_longest(database: Database, subject: Subject) -> None:
    """Three free, then 1, 2, 4 … 60 seconds."""
    for _ in range(3):
        await charge(database, subject)
    waits = []
    for _ in range(8):
        await charge(database, subject)
        waits.append(await wait_of(database, subject))
        await serve_the_wait(database, subject)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


async def test_refused_tries_do_not_lengthen_the_wait(database: Database, subject: Subject) -> None:
    """Hammering changes nothing; the first refusal of a wait is marked."""
    await make_wait(database, subject)
    before = await wait_of(database, subject)
    first = []
    for _ in range(5):
        with pytest.raises(Throttled) as caught:
            await charge(database, subject)
        assert 0 < caught.value.retry_after <= 600
        first.append(caught.value.first)
    assert first == [True, False, False, False, False]
    assert await wait_of(database, subject) == before


async def test_guesses_at_once_are_counted_like_guesses_in_a_row(database: Database, subject: Subject) -> None:
    """Of forty at the same moment, one gets through where one in a row would."""
    await make_wait(database, subject)
    await serve_the_wait(database, subject)
    answers = await asyncio.gather(*(charge(database, subject) for _ in range(40)), return_exceptions=True)
    assert sum(answer is None for answer in answers) == 1
    assert sum(isinstance(answer, Throttled) for answer in answers) == 39
    assert await wait_of(database, subject) == 60  # longer than forty charges take anywhere


async def test_all_or_none_is_charged(database: Database, subject: Subject) -> None:
    """Who is refused for one reason is not counted for another."""
    other = Subject(RULE, uuid4().hex)
    await make_wait(database, subject)
    for _ in range(10):
        with pytest.raises(Throttled):
            await charge(database, other, subject)
    assert not await database.fetch("SELECT 1 FROM throttles WHERE key = $1", other.key)


async def test_crossed_pairs_do_not_block_each_other(database: Database) -> None:
    """Many charges of the same two in both orders."""
    one, two = (Subject(Rule("wide", free=10_000, longest=timedelta(seconds=1)), uuid4().hex) for _ in range(2))
    await asyncio.gather(*(charge(database, *pair) for pair in [(one, two), (two, one)] * 30))


async def test_a_wait_that_begins_meanwhile_charges_nobody_else(database: Database, subject: Subject) -> None:
    """All or none also where the charge saw no wait and then waited for the guess that began one."""
    others = [Subject(RULE, uuid4().hex) for _ in range(8)]  # their keys come before the subject's and after it
    async with database.connection() as connection:
        async with connection.transaction():
            await charge(database, subject)
            await connection.execute(
                "UPDATE throttles SET blocked_until = now() + interval '10 minutes' WHERE key = $1", subject.key
            )
            charging = asyncio.create_task(charge(database, *others, subject))
            while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.005)
        with pytest.raises(Throttled):
            await charging
        failures = await connection.fetch(
            "SELECT failures FROM throttles WHERE key = ANY($1)", [other.key for other in others]
        )
    assert all(row["failures"] == 0 for row in failures)


async def test_success_pays_back_and_forgets(database: Database, subject: Subject) -> None:
    """A paid attempt leaves no failure; one of the subjects is forgotten whole, its wait too."""
    address = Subject(RULE, uuid4().hex)
    for _ in range(20):
        await charge(database, address, subject)
        await pay_back(database, address, subject)
    await charge(database, address, subject)
    await make_wait(database, subject)
    await pay_back(database, address, forget=subject)
    with pytest.raises(Throttled):
        await charge(database, subject)
    await pay_back(database, address, subject, forget=subject)
    for _ in range(3):  # the free ones
        await charge(database, subject)
    await charge(database, address)
    assert await database.fetch_value("SELECT failures FROM throttles WHERE key = $1", address.key) == 1


@pytest.mark.parametrize("work", [charge, pay_back])
async def test_both_lock_in_the_order_of_the_keys(
    database: Database, work: Callable[[Database, Subject, Subject], Coroutine[None, None, None]]
) -> None:
    """Whatever order the table or the caller has them in: or a charge and a payment could wait for each other."""
    last, first = sorted((Subject(RULE, uuid4().hex) for _ in range(2)), key=lambda subject: subject.key, reverse=True)
    for subject in (last, first):
        await charge(database, subject)
    lock = "SELECT FROM throttles WHERE key = $1 FOR UPDATE NOWAIT"
    async with database.connection() as connection:
        async with connection.transaction():
            await connection.execute(lock, first.key)
            working = asyncio.create_task(work(database, last, first))
            while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.005)
            await connection.execute(lock, last.key)  # raises where the work has it already
        await working


async def test_an_hour_without_failure_forgets(database: Database, subject: Subject) -> None:
    """The counter starts again, and housekeeping deletes what nobody needs."""
    for _ in range(4):
        await charge(database, subject)
    past = "UPDATE throttles SET last_at = now() - interval '61 minutes', blocked_until = now() WHERE key = $1"
    await database.fetch(past, subject.key)
    await charge(database, subject)
    assert await database.fetch_value("SELECT failures FROM throttles WHERE key = $1", subject.key) == 1
    await database.fetch(past, subject.key)
    await purge(database)
    assert not await database.fetch("SELECT 1 FROM throttles WHERE key = $1", subject.key)
