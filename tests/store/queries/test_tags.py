"""The count of tags, and how seldom it is made."""

import asyncio
import uuid

import pytest

from devnest.store import Database, Tags, create_account, create_post


async def publish(database: Database, *tags: str) -> None:
    name = uuid.uuid4().hex[:20]
    account = await create_account(database, name, f"{name}@example.org", "")
    await create_post(database, account.id, "t", "b", list(tags))


class Counted(Database):
    """Connections that count the questions."""

    asked = 0

    async def fetch(self, query: str, *arguments: object) -> list:  # type: ignore[type-arg]
        self.asked += 1
        return await super().fetch(query, *arguments)


async def test_many_who_ask_cost_one_count(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, and after one another until it is forgotten; then it is new."""
    clock = [1000.0]
    monkeypatch.setattr("devnest.store.queries.tags.time.monotonic", lambda: clock[0])
    await publish(database, first := uuid.uuid4().hex)
    async with Counted(database._url) as counted:
        tags = Tags(counted)
        answers = await asyncio.gather(*(tags.most_used() for _ in range(50)))
        assert all(answer is answers[0] for answer in answers)
        await publish(database, second := uuid.uuid4().hex)
        clock[0] += 0.9
        assert await tags.most_used() is answers[0]
        assert counted.asked == 1
        clock[0] += 0.2
        names = {row.tag for row in await tags.most_used()}
        assert {first, second} <= names or len(names) == 200
        assert counted.asked == 2


async def test_a_long_count_is_remembered_longer(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty times as long as it took."""
    clock = [1000.0]
    monkeypatch.setattr("devnest.store.queries.tags.time.monotonic", lambda: clock[0])

    class Slow(Database):
        async def fetch(self, query: str, *arguments: object) -> list:  # type: ignore[type-arg]
            clock[0] += 2.0
            return await super().fetch(query, *arguments)

    async with Slow(database._url) as slow:
        tags = Tags(slow)
        first = await tags.most_used()
        clock[0] += 99
        assert await tags.most_used() is first
        clock[0] += 2
        assert await tags.most_used() is not first


async def test_a_failure_is_not_remembered(database: Database) -> None:
    """And one who leaves takes nobody's answer away."""
    closed = Database(database._url)
    tags = Tags(closed)
    with pytest.raises(AssertionError):  # not open
        await tags.most_used()
    async with closed:
        leaving = asyncio.create_task(tags.most_used())
        staying = asyncio.create_task(tags.most_used())
        await asyncio.sleep(0)
        leaving.cancel()
        assert isinstance(await staying, list)
        with pytest.raises(asyncio.CancelledError):
            await leaving
