"""Counters of failures, in the database, so that they hold for all servers of all machines together.

Each failure beyond the free ones makes the next try wait, twice as long each time. An attempt is charged before it is
made and paid back when it succeeds: a thousand guesses at once are counted like a thousand in a row. While a key
waits, tries are refused and not counted, so nobody lengthens another's wait by hammering. An hour without a failure
forgets them all.
"""

import hashlib
import math
from dataclasses import dataclass
from datetime import timedelta

from devnest.store.database import Database
from devnest.store.errors import Throttled

__all__ = ["Rule", "Subject", "charge", "pay_back"]

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
WAITS = """
SELECT key, extract(epoch FROM blocked_until - now())::float8 AS wait_s, told
FROM throttles WHERE key = ANY($1) AND blocked_until > now()"""
# In the order of the keys, so that two charges of the same keys wait for each other and never in a circle. Who is
# refused writes nothing: of a flood, every refusal would wait for the one before it.
CHARGE = f"""
WITH waits AS ({WAITS}), charged AS (
    INSERT INTO throttles AS t (key, failures, free, longest, last_at, blocked_until, told)
    SELECT key, 1, free, longest, now(), '-infinity', false
    FROM unnest($1::bytea[], $2::int[], $3::interval[]) AS given (key, free, longest)
    WHERE NOT EXISTS (SELECT FROM waits) ORDER BY key
    ON CONFLICT (key) DO UPDATE SET
        failures = {FAILURES}, last_at = now(), told = false,
        blocked_until = CASE WHEN {FAILURES} <= t.free THEN '-infinity'
            ELSE now() + least(t.longest, make_interval(secs => 2 ^ least({FAILURES} - t.free - 1, 20))) END
    WHERE t.blocked_until <= now()
    RETURNING key
)
SELECT key, wait_s, told FROM waits UNION ALL SELECT key, NULL, NULL FROM charged"""  # noqa: S608 (constants only)
TELL = """
UPDATE throttles t SET told = true
FROM (SELECT key, told FROM throttles WHERE key = ANY($1) ORDER BY key FOR UPDATE) before
WHERE t.key = before.key AND blocked_until > now() RETURNING before.told"""
# Locked in the order of the keys too.
PAY_BACK = """
UPDATE throttles t SET
    failures = CASE WHEN t.key = $2 THEN 0 ELSE greatest(t.failures - 1, 0) END, blocked_until = '-infinity'
FROM (SELECT key FROM throttles WHERE key = ANY($1) ORDER BY key FOR UPDATE) charged
WHERE t.key = charged.key"""


async def charge(database: Database, *subjects: Subject) -> None:
    """Count one failure for each subject, or for none and raise `Throttled` where one has to wait."""
    by_key = {subject.key: subject for subject in subjects}
    keys = list(by_key)
    rows = await database.fetch(
        CHARGE, keys, [s.rule.free for s in by_key.values()], [s.rule.longest for s in by_key.values()]
    )
    waits = [row for row in rows if row["wait_s"] is not None]
    charged = [by_key[row["key"]] for row in rows if row["wait_s"] is None]
    if len(charged) == len(by_key):
        return
    if charged:  # a wait of another subject began in the same moment
        await pay_back(database, *charged)
    waits = waits or await database.fetch(WAITS, keys)
    first = not all(row["told"] for row in waits) and not all(row["told"] for row in await database.fetch(TELL, keys))
    wait_s = {row["key"]: row["wait_s"] for row in waits}
    raise Throttled(max(1, math.ceil(max(wait_s.values(), default=1.0))), first=first, waits=wait_s)


async def pay_back(database: Database, *subjects: Subject, forget: Subject | None = None) -> None:
    """Take one charge of each subject back, and all of `forget`, which is one of them: the attempt succeeded."""
    await database.fetch(PAY_BACK, [subject.key for subject in subjects], forget.key if forget else None)
