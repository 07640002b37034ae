"""Sessions: one per sign-in, each with a family of refresh tokens.

Only the newest token of a family is valid. A refresh replaces it by a new one. If an old token
comes back, it was copied. Nobody can tell whether the thief or the honest client sent it, so the
session ends for both (RFC 9700, 4.14.2).

One old token is accepted: the client may have lost the response, or sent the request twice.
Therefore a token's successor is not random. It is the HMAC-SHA-256 of the token under a random seed
that is stored with it. Within `GRACE`, and until the successor is used, the same token gets the
same successor once more, so a family never forks. The database holds only hashes and seeds, from
which no token can be computed. A seed is deleted when its successor has been used or returned
twice.

A thief could use this grace too. If a thief knows when the client refreshes, and uses a stolen
token within the grace, nobody notices. So an access token must not reveal the time of a refresh.
Therefore `Session.last_used_at` is only a day, and it shows today's use from tomorrow on: if it
changed with the first refresh of a day, a thief who asks for it again and again would see that
moment.

All old tokens of a session are kept. If old ones were deleted, one could come back unnoticed, and a
thief who refreshes often could push out the honest client's token. `MAX_REFRESHES` bounds their
number; then the session ends.
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

GRACE = timedelta(seconds=10)  # a client repeats a refresh whose response it lost within this time
MAX_INACTIVITY = timedelta(days=14)  # a session that is not refreshed for so long ends
MAX_LIFETIME = timedelta(days=30)  # NIST SP 800-63B-4, 2.1.3: "SHOULD be no more than 30 days"
# The most refreshes of one session: one every 4 minutes for 30 days, although an access token lasts
# 15 minutes.
MAX_REFRESHES = 10_000
MAX_LISTED = MAX_SESSIONS  # all live sessions: a shorter list could omit a thief's
# Sessions that other sign-ins may open between the look-up of an account and the end of its hash.
# `end_surplus` may end so many more than the look-up counted.
MAX_CONCURRENT_SIGN_INS = 15


# The account is locked. Disabling or deleting it, or changing its password, either happens before
# and prevents the session, or happens after and ends it.
OPEN = """
WITH opened AS (
    INSERT INTO sessions (id, account_id, expires_at, address, user_agent)
    SELECT g.session_id, a.id, now() + $9, g.address, g.user_agent
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[])
        AS g (session_id, account_id, password_hash, address, user_agent)
    JOIN accounts a ON a.id = g.account_id AND a.password_hash = g.password_hash
        AND disabled_at IS NULL
    ORDER BY a.id FOR SHARE OF a RETURNING *
), more AS (
    SELECT * FROM unnest($1::uuid[], $6::bytea[], $7::uuid[], $8::text[])
        AS m (session_id, token, line_id, request_id)
    JOIN opened ON opened.id = m.session_id
), tokens AS (
    INSERT INTO refresh_tokens (token_sha256, session_id, expires_at)
        SELECT token, id, now() + $10 FROM more
)
INSERT INTO audit_log (id, event, succeeded, account_id, session_id, address, user_agent,
    request_id)
SELECT line_id, $11, true, account_id, id, address, user_agent, request_id FROM more
    RETURNING session_id"""
OPEN_UNLOCKED = OPEN.replace("FOR SHARE OF a", "FOR SHARE OF a SKIP LOCKED")

# Insert the new token, mark the old one as replaced, and delete the seed that made the old one.
# Each row is found by an index, so old sessions refresh as fast as new ones.
DAY = "(last_used_at AT TIME ZONE 'UTC')::date"
TODAY = "(now() AT TIME ZONE 'UTC')::date"
REPLACE = f"""
WITH served AS (
    UPDATE refresh_tokens SET seed = NULL WHERE session_id = $1 AND number = $3 - 1
        AND seed IS NOT NULL
), replaced AS (
    UPDATE refresh_tokens SET seed = $4, replaced_at = now() WHERE token_sha256 = $2
), used AS (
    UPDATE sessions SET last_used_at = now(), refreshed_from = $7,
        used_before = CASE WHEN {DAY} < {TODAY} THEN {DAY} ELSE used_before END
    WHERE id = $1 RETURNING id, expires_at
)
INSERT INTO refresh_tokens (token_sha256, session_id, number, expires_at)
SELECT $5, id, $3 + 1, least(now() + $6, expires_at) FROM used"""  # noqa: S608

LIST = f"""
SELECT id, created_at,
    (CASE WHEN {DAY} < {TODAY} THEN {DAY}
        ELSE coalesce(used_before, {DAY}) END)::timestamp AT TIME ZONE 'UTC',
    expires_at, address, user_agent, id = $2
FROM sessions
WHERE account_id = $1 AND ended_at IS NULL AND expires_at > now()
    AND last_used_at > now() - $3::interval
ORDER BY created_at DESC, id DESC LIMIT $4"""  # noqa: S608

END_ALL = (
    "UPDATE sessions SET ended_at = now() WHERE account_id = $1 AND ended_at IS NULL RETURNING id"
)

# Sessions that are being refreshed or ended at this moment are skipped.
END_SURPLUS = """
WITH ended AS (
    UPDATE sessions SET ended_at = now() WHERE id IN (
        SELECT id FROM sessions WHERE ended_at IS NULL AND id IN (
            SELECT id FROM sessions WHERE account_id = $1 AND ended_at IS NULL
                ORDER BY last_used_at, id
            LIMIT (SELECT least($3, greatest(0, count(*) - $2)) FROM sessions
                WHERE account_id = $1 AND ended_at IS NULL))
        FOR UPDATE SKIP LOCKED) RETURNING id
), numbered AS (
    SELECT id, row_number() OVER () AS number FROM ended
)
INSERT INTO audit_log (id, event, succeeded, account_id, session_id, address, user_agent,
    request_id)
SELECT line_id, $5, true, $1, numbered.id, $6, $7, $8
FROM numbered JOIN unnest($4::uuid[]) WITH ORDINALITY AS line (line_id, number) USING (number)
RETURNING session_id"""


class Opening(NamedTuple):
    """A session to be opened for somebody who gave the password of this hash."""

    account_id: UUID
    password_hash: str
    origin: Origin = NO_ORIGIN


class Opened(NamedTuple):
    """A session that was opened, with its first refresh token."""

    id: UUID
    refresh_token: str


class Session(msgspec.Struct, frozen=True):
    """A session that has not ended.

    Attributes:
        last_used_at: The start of a day in UTC. Today's use is not shown, unless the session began
            today.
        current: Whether the request came from this session.
    """

    id: UUID
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    address: str | None
    user_agent: str | None
    current: bool


class Refreshed(msgspec.Struct, frozen=True):
    """A refreshed session, with its next refresh token.

    Attributes:
        repeated: The same token was returned before, within `GRACE`.
        moved: That earlier response went to another network.
    """

    account_id: UUID
    session_id: UUID
    refresh_token: str
    repeated: bool = False
    moved: bool = False


async def create_session(database: Database, opening: Opening) -> Opened | None:
    """Open a session with its line in the audit log.

    Returns:
        None if the account is missing, disabled, or has another password hash now.
    """
    async with database.connection() as connection:
        return await open_session(connection, opening)


async def open_session(
    connection: Connection, opening: Opening, event: Event = Event.LOGIN
) -> Opened | None:
    """Open a session in a running transaction, like `create_session`.

    Args:
        connection: The connection of the transaction.
        opening: The session to open.
        event: The event in the audit log.
    """
    (opened,) = await _open(connection, OPEN, [opening], event)
    return opened


async def create_sessions(database: Database, openings: Sequence[Opening]) -> list[Opened | None]:
    """Open several sessions by one statement.

    Returns:
        One result per opening, in order. None if the account is missing, disabled, or has another
            password hash, and also if the account is being changed at this moment, so that it does
            not delay the others. `create_session` waits instead and gives the final answer.
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
        [token_sha256(session.refresh_token) for session in sessions],
        [uuid7() for _ in sessions], request_ids, MAX_LIFETIME, MAX_INACTIVITY, event,
    )  # fmt: skip
    opened = {row["session_id"] for row in rows}
    return [session if session.id in opened else None for session in sessions]


async def refresh_session(database: Database, token: str, network: str) -> Refreshed:
    """Replace a refresh token by its successor.

    1. The newest token of its family: its successor is created.
    2. A token that was replaced less than `GRACE` ago and whose successor is unused: the same
       successor is returned once more.
    3. Any other replaced token was reused: the session ends.
    4. The newest token after `MAX_REFRESHES`: the session ends.

    Args:
        database: Where the sessions are.
        token: The refresh token that the client sent.
        network: The network of the client.

    Raises:
        RefreshRefused: The token is not valid. Cases 3 and 4 end its session. A token that is
            unknown or has expired, or whose session has ended already, is refused too.
    """
    hashed = token_sha256(token)
    async with database.connection() as connection, connection.transaction():
        # The session is locked before the token is read. All changes of a family run one after
        # another under this lock. A statement that did both could read the token as it was before
        # it waited for the lock.
        session = await connection.fetchrow(
            "SELECT s.id, account_id, refreshed_from,"
            " ended_at IS NULL AND s.expires_at > now() AS lives FROM sessions s"
            " WHERE id = (SELECT session_id FROM refresh_tokens WHERE token_sha256 = $1)"
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
            if repeated:  # without a seed there is no third time
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
    """Return the live sessions of an account, at most 300, the newest sign-in first.

    Args:
        database: Where the sessions are.
        account_id: The account.
        current: The session of the request, which is marked as such.
    """
    rows = await database.fetch(LIST, account_id, current, MAX_INACTIVITY, MAX_LISTED)
    return [Session(*row) for row in rows]


async def end_session(database: Database, account_id: UUID, session_id: UUID) -> bool:
    """End one session of an account.

    Returns:
        False if the account has no such live session.
    """
    ended = await database.fetch_value(
        "UPDATE sessions SET ended_at = now()"
        " WHERE id = $1 AND account_id = $2 AND ended_at IS NULL AND expires_at > now()"
        " RETURNING true",
        session_id, account_id,
    )  # fmt: skip
    return ended is not None


async def end_sessions(database: Database, account_id: UUID) -> list[UUID]:
    """End all sessions of an account, and return the ids of those that were live."""
    return [row["id"] for row in await database.fetch(END_ALL, account_id)]


async def end_surplus(
    database: Database, account_id: UUID, surplus: int, origin: Origin
) -> list[UUID]:
    """End the sessions that were not used for longest, so that a sign-in can open another.

    Each ended session gets a line in the audit log. Some more than `surplus` may end, for sign-ins
    that opened sessions since the look-up. If far too many are open, later sign-ins end the others.

    Args:
        database: Where the sessions are.
        account_id: The account.
        surplus: The number that a look-up counted (`Credentials.surplus`).
        origin: Where the sign-in came from, for the audit log.

    Returns:
        The ids of the ended sessions.
    """
    most = min(MAX_ENDED_PER_SIGN_IN, surplus + MAX_CONCURRENT_SIGN_INS)
    rows = await database.fetch(
        END_SURPLUS, account_id, MAX_SESSIONS - 1, most, [uuid7() for _ in range(most)],
        Event.SESSION_EVICT, *origin,
    )  # fmt: skip
    return [row["session_id"] for row in rows]


def _successor(token: str, seed: bytes) -> str:
    return urlsafe_b64encode(hmac.digest(seed, token.encode(), "sha256")).rstrip(b"=").decode()
