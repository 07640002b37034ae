"""Counters of failures, in the database, so that they hold for all servers of all machines together.

Each failure beyond the free ones makes the next try wait, twice as long each time. An attempt is charged before it is
made and paid back when it succeeds: a thousand guesses at once are counted like a thousand in a row. While a key
waits, tries are refused and not counted, so nobody lengthens another's wait by hammering. An hour without a failure
forgets them all.
"""

import hashlib
import math
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from devnest.store.database import Database
from devnest.store.errors import Throttled

__all__ = ["Rule", "Subject", "charge", "clear_charges", "pay_back"]

FORGET = timedelta(hours=1)


@dataclass(frozen=True)
class Rule:
    """How many failures are free within an hour, and the longest wait after more."""

    name: str
    free: int
    longest: timedelta


@dataclass(frozen=True)
class Subject:
    """Whose failures are counted: a rule, and an address or a name. The database sees a hash of it."""

    rule: Rule
    value: str

    @property
    def key(self) -> bytes:
        """What the counter is found by."""
        return hashlib.sha256(f"{self.rule.name}\0{self.value}".encode()).digest()


FAILURES = f"CASE WHEN t.last_at < now() - interval '{FORGET.total_seconds():.0f} s' THEN 1 ELSE t.failures + 1 END"
# In the order of the keys, so that two charges of the same keys wait for each other and never in a circle.
CHARGE = f"""
INSERT INTO throttles AS t (key, failures, free, longest, last_at, blocked_until, told)
SELECT key, 1, free, longest, now(), '-infinity', false
FROM unnest($1::bytea[], $2::int[], $3::interval[]) AS given (key, free, longest) ORDER BY key
ON CONFLICT (key) DO UPDATE SET
    failures = {FAILURES}, last_at = now(), told = false,
    blocked_until = CASE WHEN {FAILURES} <= t.free THEN '-infinity'
        ELSE now() + least(t.longest, make_interval(secs => 2 ^ least({FAILURES} - t.free - 1, 20))) END
WHERE t.blocked_until <= now()
RETURNING key"""  # noqa: S608 (constants only)


async def charge(database: Database, *subjects: Subject) -> None:
    """Count one failure for each subject, or for none and raise `Throttled` where one has to wait."""
    keys = [subject.key for subject in subjects]
    async with database.connection() as connection:
        with suppress(_NotAll):
            async with connection.transaction():
                charged = await connection.fetch(
                    CHARGE, keys, [s.rule.free for s in subjects], [s.rule.longest for s in subjects]
                )
                if len(charged) < len(keys):
                    raise _NotAll
            return
        waits = await connection.fetch(
            "UPDATE throttles t SET told = true FROM (SELECT key, told FROM throttles WHERE key = ANY($1)) before"
            " WHERE t.key = before.key AND blocked_until > now()"
            " RETURNING extract(epoch FROM blocked_until - now())::float8 AS wait_s, before.told",
            keys,
        )
    wait_s = max((row["wait_s"] for row in waits), default=1.0)
    raise Throttled(max(1, math.ceil(wait_s)), first=any(not row["told"] for row in waits))


class _NotAll(Exception):
    """Some subject has to wait, so the charge of the others is rolled back."""


async def pay_back(database: Database, subject: Subject) -> None:
    """Take one charge back: the attempt succeeded."""
    await database.fetch(
        "UPDATE throttles SET failures = greatest(failures - 1, 0), blocked_until = '-infinity' WHERE key = $1",
        subject.key,
    )


async def clear_charges(database: Database, subject: Subject) -> None:
    """Forget all failures of a subject."""
    await database.fetch("DELETE FROM throttles WHERE key = $1", subject.key)
