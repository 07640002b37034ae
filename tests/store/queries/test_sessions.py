"""Sessions: families of refresh tokens, and their ends."""

import asyncio
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from devnest.store import (
    Account,
    Database,
    Opening,
    Origin,
    PasswordChanged,
    Refreshed,
    RefreshRefused,
    change_password,
    create_account,
    create_session,
    create_sessions,
    delete_account,
    end_session,
    end_sessions,
    end_surplus,
    find_credentials,
    list_sessions,
    purge,
    refresh_session,
)
from devnest.store.queries.accounts import MAX_SESSIONS
from devnest.store.queries.sessions import MAX_INACTIVITY, MAX_REFRESHES, REPLACE
from tests.support import PATIENCE_S

UNSEEN = uuid4()


@pytest.fixture
async def account(database: Database) -> Account:
    """A new account."""
    name = f"u{uuid4().hex[:20]}"
    return await create_account(database, name, f"{name}@example.org", "hash")


async def opened(database: Database, account: Account) -> tuple[UUID, str]:
    session = await create_session(
        database, Opening(account.id, "hash", Origin("192.0.2.1", "a browser"))
    )
    assert session is not None
    return session


async def refresh(database: Database, token: str, network: str = "192.0.2.1") -> Refreshed:
    return await refresh_session(database, token, network)


async def refusal(database: Database, token: str) -> str:
    with pytest.raises(RefreshRefused) as caught:
        await refresh(database, token)
    return caught.value.reason


async def live(database: Database, account: Account) -> list[UUID]:
    return [session.id for session in await list_sessions(database, account.id, UNSEEN)]


async def test_a_family_goes_on_with_its_newest_token(database: Database, account: Account) -> None:
    """Ten refreshes, ten different tokens, one session."""
    session_id, token = await opened(database, account)
    seen = {token}
    for _ in range(10):
        refreshed = await refresh(database, token)
        assert (refreshed.account_id, refreshed.session_id) == (account.id, session_id)
        token = refreshed.refresh_token
        seen.add(token)
    assert len(seen) == 11


async def test_a_lost_answer_is_given_again(database: Database, account: Account) -> None:
    """The same successor, so that the family does not fork; two at once too."""
    _, token = await opened(database, account)
    answers = await asyncio.gather(*(refresh(database, token) for _ in range(2)))
    assert len({answer.refresh_token for answer in answers}) == 1
    assert (await refresh(database, answers[0].refresh_token)).refresh_token != answers[
        0
    ].refresh_token


async def test_an_old_token_ends_the_family(database: Database, account: Account) -> None:
    """Once its successor was used, a token is a copy; the newest one dies with it."""
    session_id, first = await opened(database, account)
    second = (await refresh(database, first)).refresh_token
    third = (await refresh(database, second)).refresh_token
    assert await refusal(database, first) == "reused"
    assert await refusal(database, third) == "ended"
    assert session_id not in await live(database, account)


async def test_the_grace_is_short(database: Database, account: Account) -> None:
    """Ten seconds later the same request is a reuse."""
    session_id, first = await opened(database, account)
    await refresh(database, first)
    await database.fetch(
        "UPDATE refresh_tokens SET replaced_at = replaced_at - interval '10 seconds' WHERE session_id = $1",
        session_id,
    )
    assert await refusal(database, first) == "reused"


async def test_the_grace_is_there_once(database: Database, account: Account) -> None:
    """A third request within it is a reuse, for all three holders.

    Each rotation has a grace of its own.
    """
    session_id, token = await opened(database, account)
    for _ in range(2):
        successor = await refresh(database, token)
        again = await refresh(database, token)
        assert again.refresh_token == successor.refresh_token
        assert (successor.repeated, again.repeated) == (False, True)
        token, before = successor.refresh_token, token
    assert session_id in await live(database, account)
    assert await refusal(database, before) == "reused"
    assert await refusal(database, token) == "ended"


async def test_of_many_at_once_two_are_answered(database: Database, account: Account) -> None:
    """The others are reuses, and the session has ended."""
    session_id, token = await opened(database, account)
    answers = await asyncio.gather(
        *(refresh(database, token) for _ in range(8)), return_exceptions=True
    )
    tokens = [answer.refresh_token for answer in answers if isinstance(answer, Refreshed)]
    assert (len(tokens), len(set(tokens))) == (2, 1)
    assert session_id not in await live(database, account)


@pytest.mark.parametrize("network", ["192.0.2.1", "198.51.100.1"])
async def test_a_repeat_from_elsewhere_is_told(
    database: Database, account: Account, network: str
) -> None:
    """Than the rotation came from, wherever the session began.

    A phone that changes networks goes on.
    """
    _, token = await opened(database, account)
    successor = await refresh(database, token, "192.0.2.1")
    again = await refresh(database, token, network)
    assert (successor.moved, again.moved) == (False, network != "192.0.2.1")
    assert not (await refresh(database, again.refresh_token, "203.0.113.1")).moved


async def test_the_list_does_not_move_with_a_refresh(database: Database, account: Account) -> None:
    """Nor does its order: who polls it learns the day of the last use before today, from
    tomorrow on that of today.
    """
    opened_before = [(await opened(database, account)) for _ in range(3)]
    for days, (session_id, _) in enumerate(opened_before):
        await database.fetch(
            "UPDATE sessions SET created_at = created_at - interval '20 days' + $2 * interval '1 minute',"
            " last_used_at = date_trunc('day', now(), 'UTC') - $2 * interval '1 day' - interval '1 minute'"
            " WHERE id = $1",
            session_id, days,
        )  # fmt: skip
    today = await opened(database, account)
    before = await list_sessions(database, account.id, today[0])
    assert [session.id for session in before] == [
        today[0],
        *(session_id for session_id, _ in opened_before[::-1]),
    ]
    midnight = before[0].last_used_at
    assert midnight == datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    assert [(midnight - session.last_used_at).days for session in before] == [0, 3, 2, 1]
    for _, token in (opened_before[1], opened_before[0], today):
        await refresh(database, (await refresh(database, token)).refresh_token)
        assert await list_sessions(database, account.id, today[0]) == before
    await database.fetch(  # a day goes by
        "UPDATE sessions SET last_used_at = last_used_at - interval '1 day', used_before = used_before - 1"
        " WHERE account_id = $1",
        account.id,
    )
    later = await list_sessions(database, account.id, today[0])
    assert [(midnight - session.last_used_at).days for session in later] == [1, 4, 1, 1]


async def test_eviction_and_inactivity_know_the_moment(
    database: Database, account: Account
) -> None:
    """What the list does not tell, the database has."""
    session_id, token = await opened(database, account)
    await database.fetch(
        "UPDATE sessions SET last_used_at = now() - interval '3 days' WHERE id = $1", session_id
    )
    await refresh(database, token)
    age_s = "SELECT extract(epoch FROM now() - last_used_at)::float8 FROM sessions WHERE id = $1"
    assert await database.fetch_value(age_s, session_id) < PATIENCE_S


async def test_a_change_of_password_ends_every_session(
    database: Database, account: Account
) -> None:
    """That of who changed it too, under which a copy of it would live on.

    The new one has its line in the log.
    """
    sessions = [await opened(database, account) for _ in range(3)]
    latest = (await refresh(database, sessions[0][1])).refresh_token
    assert await change_password(database, account.id, "wrong", "new hash") is None
    changed = await change_password(
        database, account.id, "hash", "new hash", Origin("192.0.2.9", "a browser", "r")
    )
    assert changed is not None
    assert sorted(changed.ended) == sorted(session_id for session_id, _ in sessions)
    assert await live(database, account) == [changed.session.id]
    for token in (latest, *(token for _, token in sessions)):
        assert await refusal(database, token) == "ended"
    assert (await refresh(database, changed.session.refresh_token)).session_id == changed.session.id
    lines = await database.fetch(
        "SELECT event, session_id, address FROM audit_log WHERE account_id = $1 ORDER BY id DESC LIMIT 1",
        account.id,
    )
    assert [tuple(line) for line in lines] == [("password_change", changed.session.id, "192.0.2.9")]


@pytest.mark.parametrize("rotations", [0, 3])
async def test_of_a_change_and_a_refresh_at_once_no_old_token_lives(
    database: Database, account: Account, rotations: int
) -> None:
    """In any order."""
    _, token = await opened(database, account)
    for _ in range(rotations):
        token = (await refresh(database, token)).refresh_token
    refreshed, changed = await asyncio.gather(
        refresh(database, token),
        change_password(database, account.id, "hash", "new"),
        return_exceptions=True,
    )
    assert isinstance(changed, PasswordChanged)
    for old in (token, refreshed.refresh_token if isinstance(refreshed, Refreshed) else token):
        assert await refusal(database, old) == "ended"
    assert await live(database, account) == [changed.session.id]


async def test_a_disabled_account_changes_no_password(database: Database, account: Account) -> None:
    """Nor gets a session for it."""
    await database.fetch("UPDATE accounts SET disabled_at = now() WHERE id = $1", account.id)
    assert await change_password(database, account.id, "hash", "new") is None


async def test_an_old_session_is_refreshed_by_as_few_rows_as_a_young_one(
    database: Database, account: Account
) -> None:
    """No statement reads the tokens that came before."""
    session_id, first = await opened(database, account)
    second = (await refresh(database, first)).refresh_token
    await database.fetch(
        "INSERT INTO refresh_tokens (token_sha256, session_id, number, expires_at, replaced_at)"
        " SELECT sha256(n::text::bytea), $1, n, now(), now() FROM generate_series(2, 3000) AS n",
        session_id,
    )
    await database.fetch(
        "UPDATE refresh_tokens SET number = 3001 + number WHERE session_id = $1 AND number < 2",
        session_id,
    )
    await database.fetch("ANALYZE refresh_tokens")
    async with database.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        arguments = (session_id, hashed(second), 3002, b"seed", b"new", MAX_INACTIVITY, "192.0.2.1")
        plan = json.loads(
            await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {REPLACE}", *arguments)
        )
        await transaction.rollback()
    rows = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    tokens = [
        node for node in nodes(plan[0]["Plan"]) if node.get("Relation Name") == "refresh_tokens"
    ]
    assert tokens
    assert all(sum(node.get(kind, 0) for kind in rows) <= 1 for node in tokens), tokens
    assert len((await refresh(database, second)).refresh_token) == 43
    seeds = await database.fetch(
        "SELECT number FROM refresh_tokens WHERE session_id = $1 AND seed IS NOT NULL", session_id
    )
    assert [row["number"] for row in seeds] == [3002]


def hashed(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


async def test_a_session_ends_after_so_many_refreshes(database: Database, account: Account) -> None:
    """So its old tokens are bounded, and all are known as long as it lives."""
    session_id, first = await opened(database, account)
    await database.fetch(
        "UPDATE refresh_tokens SET number = $2 WHERE session_id = $1", session_id, MAX_REFRESHES - 1
    )
    last = (await refresh(database, first)).refresh_token
    assert session_id in await live(database, account)
    assert await refusal(database, last) == "spent"
    assert session_id not in await live(database, account)
    assert [await refusal(database, token) for token in (first, last)] == ["ended", "ended"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE sessions SET expires_at = now() WHERE id = $1", "ended"),
        ("UPDATE sessions SET ended_at = now() WHERE id = $1", "ended"),
        ("UPDATE refresh_tokens SET expires_at = now() WHERE session_id = $1", "inactive"),
    ],
)
async def test_a_session_s_lives_end(
    database: Database, account: Account, change: str, reason: str
) -> None:
    """By age, by hand, by inactivity."""
    session_id, token = await opened(database, account)
    await database.fetch(change, session_id)
    assert await refusal(database, token) == reason


async def test_lifetimes_are_what_the_documents_say(database: Database, account: Account) -> None:
    """A token lives 14 days and never longer than its session, which lives 30."""
    session_id, token = await opened(database, account)
    lifetimes = (
        "SELECT s.expires_at - s.created_at AS session, max(t.expires_at - s.created_at) AS token"
        " FROM sessions s JOIN refresh_tokens t ON t.session_id = s.id WHERE s.id = $1 GROUP BY s.id"
    )
    row = await database.fetch_row(lifetimes, session_id)
    assert row is not None
    assert (row["session"].days, row["token"].days) == (30, 14)
    await database.fetch(
        "UPDATE sessions SET expires_at = now() + interval '3 days' WHERE id = $1", session_id
    )
    await refresh(database, token)
    newest = await database.fetch_value(
        "SELECT t.expires_at <= s.expires_at FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id"
        " WHERE s.id = $1 AND replaced_at IS NULL",
        session_id,
    )
    assert newest is True


async def test_no_token_can_be_made_from_the_database(database: Database, account: Account) -> None:
    """Only hashes are stored, and the seed of a used token is gone."""
    session_id, token = await opened(database, account)
    tokens = [token]
    for _ in range(3):
        tokens.append((await refresh(database, tokens[-1])).refresh_token)
    rows = await database.fetch("SELECT * FROM refresh_tokens WHERE session_id = $1", session_id)
    assert all(token not in str(rows) for token in tokens)
    assert len(rows) == 4
    assert len([row for row in rows if row["seed"] is not None]) == 1


async def test_unknown_tokens_are_refused(database: Database) -> None:
    """Whatever they look like."""
    for token in ("", "x", "\0", "ü" * 100):
        assert await refusal(database, token) == "unknown"


async def test_ending_is_for_the_owner_alone(database: Database, account: Account) -> None:
    """And counts once."""
    session_id, _ = await opened(database, account)
    assert not await end_session(database, uuid4(), session_id)
    assert await end_session(database, account.id, session_id)
    assert not await end_session(database, account.id, session_id)


async def test_ending_all(database: Database, account: Account) -> None:
    """They are named."""
    ids = [(await opened(database, account))[0] for _ in range(3)]
    assert sorted(await end_sessions(database, account.id)) == sorted(ids)
    assert await live(database, account) == []


async def test_those_unused_for_longest_make_room(database: Database, account: Account) -> None:
    """Where an account has all the sessions it may have, and a line in the audit log tells of
    each that ends.
    """

    origin = Origin("192.0.2.9", "newest", "r")
    await open_many(database, account, MAX_SESSIONS - 1)
    assert await surplus(database, account) == 0
    assert await end_surplus(database, account.id, 1, origin) == []
    await open_many(database, account, 1)
    assert await surplus(database, account) == 1
    await open_many(database, account, 2)  # by whoever signed in since that look-up
    ended = await end_surplus(database, account.id, 1, origin)
    assert await surplus(database, account) == 0
    rows = await database.fetch(
        "SELECT id FROM sessions WHERE account_id = $1 ORDER BY last_used_at, id LIMIT 3",
        account.id,
    )
    assert sorted(ended) == sorted(row["id"] for row in rows)
    lines = await database.fetch(
        "SELECT session_id, succeeded, address, user_agent, request_id FROM audit_log"
        " WHERE event = 'session_evict' AND account_id = $1",
        account.id,
    )
    assert sorted(line["session_id"] for line in lines) == sorted(ended)
    assert {tuple(line)[1:] for line in lines} == {(True, "192.0.2.9", "newest", "r")}


async def test_room_is_made_a_little_at_a_time(database: Database, account: Account) -> None:
    """And of sessions that are being refreshed at this moment none ends."""
    await open_many(database, account, MAX_SESSIONS + 150)
    async with database.connection() as connection, connection.transaction():
        busy = await connection.fetchval(
            "SELECT id FROM sessions WHERE account_id = $1 ORDER BY last_used_at LIMIT 1 FOR UPDATE",
            account.id,
        )
        ended = [
            await end_surplus(database, account.id, await surplus(database, account), Origin())
            for _ in range(3)
        ]
    assert [len(ids) for ids in ended] == [99, 51, 0]
    assert busy not in (*ended[0], *ended[1])


async def surplus(database: Database, account: Account) -> int:
    found = await find_credentials(database, email=None, username=account.username)
    assert found is not None
    return found.surplus


async def open_many(database: Database, account: Account, count: int) -> None:
    await database.fetch(
        "INSERT INTO sessions (id, account_id, last_used_at)"
        " SELECT gen_random_uuid(), $1, now() - n * interval '1 minute' FROM generate_series(1, $2) AS n",
        account.id, count,
    )  # fmt: skip


async def test_a_disabled_account_opens_none(database: Database, account: Account) -> None:
    """Like one that is gone."""
    await database.fetch("UPDATE accounts SET disabled_at = now() WHERE id = $1", account.id)
    assert await create_session(database, Opening(account.id, "hash")) is None


async def test_a_sign_in_and_its_line_are_one(database: Database, account: Account) -> None:
    """A session has one line in the audit log, with where it came from.

    A refused sign-in has none from here.
    """
    session_id, _ = await opened(database, account)
    await database.fetch("UPDATE accounts SET disabled_at = now() WHERE id = $1", account.id)
    assert await create_session(database, Opening(account.id, "hash", Origin("192.0.2.1"))) is None
    lines = await database.fetch(
        "SELECT event, succeeded, session_id, address, user_agent FROM audit_log WHERE account_id = $1 ORDER BY id",
        account.id,
    )
    assert [tuple(line) for line in lines] == [
        ("register", True, None, None, None),
        ("login", True, session_id, "192.0.2.1", "a browser"),
    ]


async def test_what_ended_long_ago_is_deleted(database: Database, account: Account) -> None:
    """Sessions two weeks after their end, with their tokens; younger ones stay."""
    old, young = [(await opened(database, account))[0] for _ in range(2)]
    await database.fetch(
        "UPDATE sessions SET ended_at = now() - interval '15 days' WHERE id = $1", old
    )
    await database.fetch(
        "UPDATE sessions SET ended_at = now() - interval '13 days' WHERE id = $1", young
    )
    assert await purge(database) >= 1
    left = await database.fetch("SELECT id FROM sessions WHERE account_id = $1", account.id)
    assert [row["id"] for row in left] == [young]
    assert not await database.fetch("SELECT 1 FROM refresh_tokens WHERE session_id = $1", old)


@pytest.mark.parametrize("way", ["disable", "delete", "another password"])
async def test_a_sign_in_at_the_account_s_end_gets_no_session(
    database: Database, account: Account, way: str
) -> None:
    """Whoever ends the account or sets a password ends this session too, or comes before it."""
    async with database.connection() as connection:
        async with (
            connection.transaction()
        ):  # the end begins before the sign-in and is done after it asked
            change = {
                "disable": "disabled_at = now()",
                "delete": "disabled_at = now(), deleted_at = now()",
                "another password": "password_hash = 'another'",
            }[way]
            await connection.execute(f"UPDATE accounts SET {change} WHERE id = $1", account.id)  # noqa: S608
            signing_in = asyncio.create_task(create_session(database, Opening(account.id, "hash")))
            while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.005)
        assert await signing_in is None


async def test_several_sessions_are_opened_by_one_statement(
    database: Database, account: Account
) -> None:
    """In the order of the openings, each with its own token and line; whoever may not has none."""
    name = f"user-{uuid4().hex[:8]}"
    other = await create_account(database, name, f"{name}@example.org", "its hash")
    openings = [
        Opening(account.id, "hash", Origin("192.0.2.1", "a browser", "one")),
        Opening(account.id, "another hash"),
        Opening(uuid4(), "hash"),
        Opening(other.id, "its hash", Origin("192.0.2.2", None, "four")),
        Opening(account.id, "hash", Origin(None, None, "five")),
    ]
    first, *none, fourth, fifth = await create_sessions(database, openings)
    assert first
    assert fourth
    assert fifth
    assert none == [None, None]
    for session, opening in ((first, openings[0]), (fourth, openings[3]), (fifth, openings[4])):
        refreshed = await refresh(database, session.refresh_token)
        assert (refreshed.account_id, refreshed.session_id) == (opening.account_id, session.id)
        line = await database.fetch_row(
            "SELECT account_id, address, user_agent, request_id FROM audit_log WHERE session_id = $1",
            session.id,
        )
        assert line is not None
        assert tuple(line) == (opening.account_id, *opening.origin)


async def test_one_account_does_not_keep_the_others_waiting(
    database: Database, account: Account
) -> None:
    """While somebody changes it there is no session for it together with others.

    Alone it waits and gets one.
    """
    name = f"user-{uuid4().hex[:8]}"
    other = await create_account(database, name, f"{name}@example.org", "hash")
    changed, free = Opening(account.id, "hash"), Opening(other.id, "hash")
    async with database.connection() as connection:
        async with connection.transaction():
            await connection.execute(
                "UPDATE accounts SET username = username WHERE id = $1", account.id
            )
            without, opened = await create_sessions(database, [changed, free])
            assert without is None
            assert opened is not None
            waiting = asyncio.create_task(create_session(database, changed))
            while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.005)
            assert not waiting.done()
        assert await waiting is not None


async def test_of_a_deletion_and_a_sign_in_at_once_no_session_lives(
    database: Database, account: Account
) -> None:
    """In any order."""
    sign_ins = [create_session(database, Opening(account.id, "hash")) for _ in range(8)]
    ended, *_ = await asyncio.gather(delete_account(database, account.id, "hash"), *sign_ins)
    assert ended is not None
    assert await list_sessions(database, account.id, UNSEEN) == []
