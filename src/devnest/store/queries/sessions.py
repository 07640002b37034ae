"""Sessions: one for each sign-in, with a family of refresh tokens of which only the newest is good.

A refresh answers with a new token, and the old one is replaced. An old token that comes back was copied, by a thief or
from one, and nobody can tell which of the two holders is honest: the session ends for both (RFC 9700, 4.14.2).

One old token is innocent: that of a client which lost the answer, or sent the same request twice. So a token's
successor is no fresh random number but HMAC-SHA-256 of the token under a random seed that is stored beside it. Once
within `GRACE`, until the successor is used, the same token gets the same successor again: a family never forks. The
database holds hashes and seeds, of which no token can be made; a seed is deleted when its successor was used or told
twice.

That grace is also a thief's: who knows when the holder refreshes, and comes within it, stays unseen. So nothing that
an access token can read moves with a refresh. `Session.last_used_at` is a day, and today's use shows tomorrow: a value
that changed at the first refresh of a day would be a signal to whoever polls it.

All old tokens of a session are kept: one that were forgotten could come back unnoticed, and a thief who refreshes often
could have the honest holder's forgotten. What bounds them is `MAX_REFRESHES`, after which the session ends.
"""

import hmac
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec
from uuid_utils.compat import uuid7

from devnest.store.connections import Connection
from devnest.store.database import Database
from devnest.store.errors import RefreshRefused
from devnest.store.queries.accounts import MAX_ENDED_PER_SIGN_IN, MAX_SESSIONS
from devnest.store.queries.audit import NO_ORIGIN, Event, Origin
from devnest.store.queries.tokens import new_token, token_sha256

__all__ = [
    "END_ALL",
    "Opened",
    "Opening",
    "Refreshed",
    "Session",
    "create_session",
    "create_sessions",
    "end_session",
    "end_sessions",
    "end_surplus",
    "list_sessions",
    "open_session",
    "refresh_session",
]

GRACE = timedelta(seconds=10)
MAX_INACTIVITY = timedelta(days=14)
MAX_LIFETIME = timedelta(days=30)  # "SHOULD be no more than 30 days": NIST SP 800-63B-4, 2.1.3
MAX_REFRESHES = 10_000  # one every 4 minutes for 30 days; an access token lasts 15
MAX_LISTED = MAX_SESSIONS  # all there are: with a shorter list a thief's could be behind its end
# Sessions that other sign-ins may open between the look-up of an account and the end of its hash.
MAX_CONCURRENT_SIGN_INS = 15


# Locked: whoever disables or deletes the account or sets another password now ends this session too, or comes before.
OPEN = """
WITH opened AS (
    INSERT INTO sessions (id, account_id, expires_at, address, user_agent)
    SELECT g.session_id, a.id, now() + $9, g.address, g.user_agent
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[])
        AS g (session_id, account_id, password_hash, address, user_agent)
    JOIN accounts a ON a.id = g.account_id AND a.password_hash = g.password_hash AND disabled_at IS NULL
    ORDER BY a.id FOR SHARE OF a RETURNING *
), more AS (
    SELECT * FROM unnest($1::uuid[], $6::bytea[], $7::uuid[], $8::text[]) AS m (session_id, token, line_id, request_id)
    JOIN opened ON opened.id = m.session_id
), tokens AS (
    INSERT INTO refresh_tokens (token_sha256, session_id, expires_at) SELECT token, id, now() + $10 FROM more
)
INSERT INTO audit_log (id, event, succeeded, account_id, session_id, address, user_agent, request_id)
SELECT line_id, $11, true, account_id, id, address, user_agent, request_id FROM more RETURNING session_id"""
OPEN_UNLOCKED = OPEN.replace("FOR SHARE OF a", "FOR SHARE OF a SKIP LOCKED")

# The new token after the old; the seed that made the old one has served. Each is found by an index: refreshing an old
# session takes no longer than a young one.
DAY = "(last_used_at AT TIME ZONE 'UTC')::date"
TODAY = "(now() AT TIME ZONE 'UTC')::date"
REPLACE = f"""
WITH served AS (
    UPDATE refresh_tokens SET seed = NULL WHERE session_id = $1 AND number = $3 - 1 AND seed IS NOT NULL
), replaced AS (
    UPDATE refresh_tokens SET seed = $4, replaced_at = now() WHERE token_sha256 = $2
), used AS (
    UPDATE sessions SET last_used_at = now(), refreshed_from = $7,
        used_before = CASE WHEN {DAY} < {TODAY} THEN {DAY} ELSE used_before END
    WHERE id = $1 RETURNING id, expires_at
)
INSERT INTO refresh_tokens (token_sha256, session_id, number, expires_at)
SELECT $5, id, $3 + 1, least(now() + $6, expires_at) FROM used"""  # noqa: S608 (constants only)

LIST = f"""
SELECT id, created_at,
    (CASE WHEN {DAY} < {TODAY} THEN {DAY} ELSE coalesce(used_before, {DAY}) END)::timestamp AT TIME ZONE 'UTC',
    expires_at, address, user_agent, id = $2
FROM sessions
WHERE account_id = $1 AND ended_at IS NULL AND expires_at > now() AND last_used_at > now() - $3::interval
ORDER BY created_at DESC, id DESC LIMIT $4"""  # noqa: S608 (constants only)

END_ALL = (
    "UPDATE sessions SET ended_at = now() WHERE account_id = $1 AND ended_at IS NULL RETURNING id"
)

# Passing over what somebody refreshes or ends at this moment.
END_SURPLUS = """
WITH ended AS (
    UPDATE sessions SET ended_at = now() WHERE id IN (
        SELECT id FROM sessions WHERE ended_at IS NULL AND id IN (
            SELECT id FROM sessions WHERE account_id = $1 AND ended_at IS NULL ORDER BY last_used_at, id
            LIMIT (SELECT least($3, greatest(0, count(*) - $2)) FROM sessions
                WHERE account_id = $1 AND ended_at IS NULL))
        FOR UPDATE SKIP LOCKED) RETURNING id
), numbered AS (
    SELECT id, row_number() OVER () AS number FROM ended
)
INSERT INTO audit_log (id, event, succeeded, account_id, session_id, address, user_agent, request_id)
SELECT line_id, $5, true, $1, numbered.id, $6, $7, $8
FROM numbered JOIN unnest($4::uuid[]) WITH ORDINALITY AS line (line_id, number) USING (number)
RETURNING session_id"""


class Opening(NamedTuple):
    """A session that is to be, for who gave the password of this hash."""

    account_id: UUID
    password_hash: str
    origin: Origin = NO_ORIGIN


class Opened(NamedTuple):
    """A session that is, and its first refresh token."""

    id: UUID
    refresh_token: str


class Session(msgspec.Struct, frozen=True):
    """A sign-in that lasts: where from, and until when. `current` is the one that asks.

    `last_used_at` is the beginning of a day, in UTC, and says nothing of today, except where the session began today.
    """

    id: UUID
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    address: str | None
    user_agent: str | None
    current: bool


class Refreshed(msgspec.Struct, frozen=True):
    """A session that goes on, and its next refresh token.

    `repeated`: the same one was given before, within `GRACE`. `moved`: that was to another network.
    """

    account_id: UUID
    session_id: UUID
    refresh_token: str
    repeated: bool = False
    moved: bool = False


async def create_session(database: Database, opening: Opening) -> Opened | None:
    """Open a session; None where the account has gone, is disabled, or has another hash by now.

    The session's line in the audit log is written with it: there is no session without one.
    """
    async with database.connection() as connection:
        return await open_session(connection, opening)


async def open_session(
    connection: Connection, opening: Opening, event: Event = Event.LOGIN
) -> Opened | None:
    """The same, in a transaction that is under way; `event` is what the audit log calls it."""
    (opened,) = await _open(connection, OPEN, [opening], event)
    return opened


async def create_sessions(database: Database, openings: Sequence[Opening]) -> list[Opened | None]:
    """Open several sessions by one statement, in their order.

    None also where somebody is changing the account now: one account is not to keep the others waiting. Whether there
    can be a session `create_session` tells, which waits.
    """
    async with database.connection() as connection:
        return await _open(connection, OPEN_UNLOCKED, openings, Event.LOGIN)


async def _open(
    connection: Connection, statement: str, openings: Sequence[Opening], event: Event
) -> list[Opened | None]:
    sessions = [Opened(uuid7(), new_token()) for _ in openings]
    accounts, hashes, origins = zip(*openings, strict=True)
    addresses, user_agents, request_ids = zip(*origins, strict=True)
    rows = await connection.fetch(
        statement, [session.id for session in sessions], accounts, hashes, addresses, user_agents,
        [token_sha256(session.refresh_token) for session in sessions], [uuid7() for _ in sessions], request_ids,
        MAX_LIFETIME, MAX_INACTIVITY, event,
    )  # fmt: skip
    opened = {row["session_id"] for row in rows}
    return [session if session.id in opened else None for session in sessions]


async def refresh_session(database: Database, token: str, network: str) -> Refreshed:
    """Replace a refresh token by its successor, for a client in a network.

    1. The newest of its family: its successor is made.
    2. Replaced within `GRACE`, the successor unused: the same successor again, once.
    3. Replaced otherwise: reuse; the session ends.
    4. The newest, after `MAX_REFRESHES`: the session ends.

    Raises:
        RefreshRefused: The token is not good; in cases 3 and 4 its session has ended for it.
    """
    hashed = token_sha256(token)
    async with database.connection() as connection, connection.transaction():
        # The session's lock first, by itself: all changes of a family happen one after another under it, and
        # the next statement sees what the one before us did.
        session = await connection.fetchrow(
            "SELECT s.id, account_id, refreshed_from, ended_at IS NULL AND s.expires_at > now() AS lives"
            " FROM sessions s WHERE id = (SELECT session_id FROM refresh_tokens WHERE token_sha256 = $1)"
            " FOR UPDATE",
            hashed,
        )
        if session is None:
            raise RefreshRefused("unknown")
        found = await connection.fetchrow(
            "SELECT number, seed, replaced_at, replaced_at > now() - $2::interval AS recent,"
            " expires_at > now() AS fresh FROM refresh_tokens WHERE token_sha256 = $1",
            hashed, GRACE,
        )  # fmt: skip
        refused = _refusal(session, found)
        if refused is None and found is not None:
            repeated = found["replaced_at"] is not None
            seed = found["seed"] or secrets.token_bytes(32)
            successor = _successor(token, seed)
            if repeated:  # without the seed there is no other time
                await connection.execute(
                    "UPDATE refresh_tokens SET seed = NULL WHERE token_sha256 = $1", hashed
                )
            else:
                await connection.execute(
                    REPLACE,
                    session["id"],
                    hashed,
                    found["number"],
                    seed,
                    token_sha256(successor),
                    MAX_INACTIVITY,
                    network,
                )
        elif refused in ("reused", "spent"):
            await connection.execute(
                "UPDATE sessions SET ended_at = now() WHERE id = $1", session["id"]
            )
    if refused is not None:
        raise RefreshRefused(refused, session["account_id"], session["id"])
    moved = repeated and session["refreshed_from"] not in (network, None)
    return Refreshed(
        session["account_id"], session["id"], successor, repeated=repeated, moved=moved
    )


def _refusal(session: asyncpg.Record, found: asyncpg.Record | None) -> str | None:
    if found is None or not session["lives"]:
        return "ended"
    if found["replaced_at"] is not None:
        return None if found["recent"] and found["seed"] is not None else "reused"
    if not found["fresh"]:
        return "inactive"
    return None if found["number"] < MAX_REFRESHES else "spent"


async def list_sessions(database: Database, account_id: UUID, current: UUID) -> list[Session]:
    """The account's live sessions, the newest sign-in first, at most 300."""
    rows = await database.fetch(LIST, account_id, current, MAX_INACTIVITY, MAX_LISTED)
    return [Session(*row) for row in rows]


async def end_session(database: Database, account_id: UUID, session_id: UUID) -> bool:
    """End one session of the account; False where it has no such live session."""
    ended = await database.fetch_value(
        "UPDATE sessions SET ended_at = now()"
        " WHERE id = $1 AND account_id = $2 AND ended_at IS NULL AND expires_at > now() RETURNING true",
        session_id, account_id,
    )  # fmt: skip
    return ended is not None


async def end_sessions(database: Database, account_id: UUID) -> list[UUID]:
    """End the account's sessions; the ids of those that lived."""
    return [row["id"] for row in await database.fetch(END_ALL, account_id)]


async def end_surplus(
    database: Database, account_id: UUID, surplus: int, origin: Origin
) -> list[UUID]:
    """Make room for the session of a sign-in from `origin`: end those unused for longest; their ids.

    Each has its line in the audit log. `surplus` is what a look-up counted (`Credentials.surplus`), and some more may
    end for those who have signed in since; where there are many more, the next sign-ins go on.
    """
    most = min(MAX_ENDED_PER_SIGN_IN, surplus + MAX_CONCURRENT_SIGN_INS)
    rows = await database.fetch(
        END_SURPLUS, account_id, MAX_SESSIONS - 1, most, [uuid7() for _ in range(most)],
        Event.SESSION_EVICT, *origin,
    )  # fmt: skip
    return [row["session_id"] for row in rows]


def _successor(token: str, seed: bytes) -> str:
    return urlsafe_b64encode(hmac.digest(seed, token.encode(), "sha256")).rstrip(b"=").decode()
