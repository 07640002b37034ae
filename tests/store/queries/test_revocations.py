"""Ended sessions are known to every server, notified or not."""

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
import structlog

from devnest.store import (
    Database,
    DatabaseUnavailable,
    EmbeddedPostgres,
    Opening,
    RevokedSessions,
    create_account,
    create_session,
    end_session,
)
from devnest.store.queries import revocations as module
from devnest.store.queries.revocations import APPLICATION
from tests.support import PATIENCE_S

KILL = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1"


@pytest.fixture
async def session(database: Database) -> tuple[UUID, UUID]:
    """A new account and a session of it."""
    name = f"u{uuid4().hex[:20]}"
    account = await create_account(database, name, f"{name}@example.org", "hash")
    session = await create_session(database, Opening(account.id, "hash"))
    assert session is not None
    return account.id, session[0]


@pytest.fixture
async def revoked(postgres: EmbeddedPostgres, database: Database) -> AsyncIterator[RevokedSessions]:
    """The set of one server."""
    async with RevokedSessions(postgres.url, 900) as revoked:
        yield revoked


async def known(revoked: RevokedSessions, session_id: UUID) -> bool:
    """Whether the set comes to hold the session, within the tests' patience."""
    deadline = time.monotonic() + PATIENCE_S
    while session_id not in revoked and time.monotonic() < deadline:
        await asyncio.sleep(0.005)
    return session_id in revoked


async def test_every_listener_is_told(
    postgres: EmbeddedPostgres,
    database: Database,
    revoked: RevokedSessions,
    session: tuple[UUID, UUID],
) -> None:
    """Two servers, one end."""
    async with RevokedSessions(postgres.url, 900) as other:
        assert session[1] not in revoked
        await end_session(database, *session)
        assert await known(revoked, session[1])
        assert await known(other, session[1])


async def test_an_end_by_hand_is_told_too(
    postgres: EmbeddedPostgres,
    database: Database,
    session: tuple[UUID, UUID],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The trigger tells, whoever changes the row; the next reading is an hour away."""
    monkeypatch.setattr("devnest.store.queries.revocations.CHECK_INTERVAL_S", 3600)
    async with RevokedSessions(postgres.url, 900) as revoked:
        await database.fetch("UPDATE sessions SET ended_at = now() WHERE id = $1", session[1])
        assert await known(revoked, session[1])


async def test_a_late_listener_reads_what_ended_before(
    postgres: EmbeddedPostgres, database: Database, session: tuple[UUID, UUID]
) -> None:
    """A server that starts after the end; but nothing that no access token outlives."""
    await end_session(database, *session)
    async with RevokedSessions(postgres.url, 900) as revoked:
        assert session[1] in revoked
    await database.fetch(
        "UPDATE sessions SET ended_at = now() - interval '901 seconds' WHERE id = $1", session[1]
    )
    async with RevokedSessions(postgres.url, 900) as revoked:
        assert session[1] not in revoked


async def test_a_killed_connection_loses_nothing(
    database: Database, revoked: RevokedSessions, session: tuple[UUID, UUID]
) -> None:
    """The session ends while nobody listens; the new connection reads it, and hears again."""
    assert await database.fetch_value(KILL, APPLICATION) >= 1
    await end_session(database, *session)
    assert await known(revoked, session[1])
    another = await create_session(database, Opening(session[0], "hash"))
    assert another is not None
    await end_session(database, session[0], another[0])
    assert await known(revoked, another[0])


async def test_a_lost_notification_is_made_up_for(
    database: Database,
    postgres: EmbeddedPostgres,
    session: tuple[UUID, UUID],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Even where the connection lives and tells nothing."""
    monkeypatch.setattr("devnest.store.queries.revocations.CHECK_INTERVAL_S", 0.01)
    monkeypatch.setattr("devnest.store.queries.revocations.CHANNEL", "another")
    async with RevokedSessions(postgres.url, 900) as revoked:
        await end_session(database, *session)
        assert await known(revoked, session[1])


async def test_an_ended_session_is_forgotten_after_its_tokens(
    postgres: EmbeddedPostgres, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The set does not grow for ever; noise on the channel does not hurt it."""
    monkeypatch.setattr("devnest.store.queries.revocations.CHECK_INTERVAL_S", 0.01)
    async with RevokedSessions(postgres.url, 0.0) as revoked:
        await database.fetch("SELECT pg_notify('devnest_session_ended', 'no uuid')")
        revoked.add(uuid4())
        assert len(revoked) == 1
        deadline = time.monotonic() + PATIENCE_S
        while len(revoked) and time.monotonic() < deadline:
            await asyncio.sleep(0.005)
        assert len(revoked) == 0


async def test_no_database_at_the_start_is_told() -> None:
    """The server does not start without."""
    with pytest.raises(DatabaseUnavailable):
        await RevokedSessions("postgresql://nobody@127.0.0.1:1/nothing", 900).__aenter__()


async def test_an_error_of_the_database_is_no_end(
    database: Database,
    revoked: RevokedSessions,
    session: tuple[UUID, UUID],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not even one that no lost connection explains: a table that is away while a backup is put
    back.
    """
    monkeypatch.setattr(module, "CHECK_INTERVAL_S", 0.01)
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    with structlog.testing.capture_logs() as logs:
        await database.fetch("ALTER TABLE sessions RENAME TO away")
        try:
            await database.fetch(KILL, APPLICATION)
            async with asyncio.timeout(PATIENCE_S):
                while not any(line["event"] == "no notifications" for line in logs):
                    await asyncio.sleep(0.01)
        finally:
            await database.fetch("ALTER TABLE away RENAME TO sessions")
        assert await end_session(database, *session)
        async with asyncio.timeout(PATIENCE_S):
            while session[1] not in revoked:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("turns", range(5))
async def test_its_end_comes_also_when_its_connection_does(
    postgres: EmbeddedPostgres, turns: int
) -> None:
    """In whatever turn of the loop: both happen where a DevNest is killed as a whole."""
    async with asyncio.timeout(PATIENCE_S), RevokedSessions(postgres.url, 900) as revoked:
        for _ in range(5):  # turns until it waits
            await asyncio.sleep(0)
        revoked._lost.set()
        for _ in range(turns):
            await asyncio.sleep(0)


def test_memory_is_bounded_and_forgets_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound the oldest ends go, and with them every token that old.

    Younger ones stay good.
    """
    monkeypatch.setattr(module, "MAX_REMEMBERED", 10)
    monkeypatch.setattr(module, "MAX_CLOCK_SKEW_S", 0.0)
    revoked, before, live = RevokedSessions("", 900), time.time() - 1, uuid4()
    first = [uuid4() for _ in range(10)]
    for session_id in first:
        revoked.add(session_id)
    assert not revoked.has_ended(live, before)
    for _ in range(5):
        revoked.add(uuid4())
    assert len(revoked) == 10
    assert all(revoked.has_ended(session_id, before) for session_id in first)
    assert revoked.has_ended(live, before)
    assert not revoked.has_ended(live, time.time() + 1)


def test_an_end_that_is_told_again_makes_nothing_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last minute is read every few seconds."""
    monkeypatch.setattr(module, "MAX_REMEMBERED", 10)
    revoked, ended = RevokedSessions("", 900), [uuid4() for _ in range(10)]
    for session_id in [*ended, *ended]:
        revoked.add(session_id)
    assert all(session_id in revoked for session_id in ended)
    assert not revoked.has_ended(uuid4(), time.time() - 800)
