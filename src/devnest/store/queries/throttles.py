"""Counters of failures, in the database, so that they hold for all servers of all machines together.

A counter is a leaky bucket: each failure raises its level by one, and it falls by one every so often, down to nothing.
Beyond the free failures each makes the next try wait, twice as long each time. While a key waits, tries are refused
and not counted, so nobody lengthens another's wait by hammering.

What is stored is the moment at which the level will have fallen to nothing (`empty_at`), from which it follows for any
other moment: nothing has to be written for it to fall. Prior art: the generic cell rate algorithm, ITU-T I.371.

There are two ways to count. `charge` counts before it is known whether there is a failure, and `refund` takes that
back as if it had never been: of a thousand guesses at once as many are made as of a thousand in a row. `count` is for
what has failed already.
"""

import hashlib
import math
from dataclasses import dataclass
from datetime import timedelta

import asyncpg

from devnest.store.database import Database
from devnest.store.errors import Throttled

__all__ = ["Charge", "Rule", "Subject", "charge", "check", "count", "refund"]


@dataclass(frozen=True)
class Rule:
    """What failures cost whom.

    Args:
        name: Keeps the keys of different rules apart.
        free: Failures without a wait, at least one.
        period: In which the level falls by one.
        longest: The longest wait.
        most: The level rises no higher, so that a long attack is over some time after its end.
    """

    name: str
    free: int
    period: timedelta
    max_wait: timedelta
    max_level: int


@dataclass(frozen=True)
class Subject:
    """Whose failures are counted: a rule, and an address or a name. The database sees a hash of it."""

    rule: Rule
    value: str

    @property
    def key(self) -> bytes:
        """What the counter is found by."""
        return hashlib.sha256(f"{self.rule.name}\0{self.value}".encode()).digest()


@dataclass(frozen=True)
class Charge:
    """What `refund` takes back: one failure of a subject, and the wait that it began, by its end."""

    subject: Subject
    ends_at: float


# $1 to $5: the key, the period, the free failures, the longest wait, the highest level.
EMPTY_AT = "least(greatest(t.empty_at, now()), now() + $5::int * $2::interval) + $2"
# Rounded: of two that charge at once, the one that comes second may have begun first, and its now() is earlier.
OVER = f"round(extract(epoch FROM {EMPTY_AT} - now()) / extract(epoch FROM $2)) - $3::int"
WAIT_ENDS_AT = f"""CASE WHEN {OVER} <= 0 THEN '-infinity'
    ELSE now() + least($4::interval, make_interval(secs => 2 ^ least({OVER} - 1, 20)::float8)) END"""
COUNT = f"""
INSERT INTO throttles AS t (key, empty_at, blocked_until, told) VALUES ($1, now() + $2::interval, '-infinity', false)
ON CONFLICT (key) DO UPDATE SET empty_at = {EMPTY_AT}, blocked_until = greatest(t.blocked_until, {WAIT_ENDS_AT}),
    told = t.told AND t.blocked_until > now()"""  # noqa: S608 (constants only)
# {also} has to wait too where its level is over {max_ahead}; that is no wait of its own, and nobody has to be told.
WAITS = """
SELECT key, CASE WHEN blocked_until > now() THEN extract(epoch FROM blocked_until - now())::float8 ELSE 1 END AS wait_s,
    CASE WHEN blocked_until > now() THEN told END AS told, NULL::float8 AS ends_at
FROM throttles WHERE key = {key} AND blocked_until > now()
    OR key = {also} AND (blocked_until > now() OR empty_at > now() + {max_ahead}::interval)"""
CHECK = WAITS.format(key="$1", also="$1", max_ahead="$2")
# Who is refused writes nothing: of a flood, every refusal would wait for the one before it.
CHARGE = f"""
WITH waits AS ({WAITS.format(key="$1", also="$6", max_ahead="$7")}), charged AS (
    INSERT INTO throttles AS t (key, empty_at, blocked_until, told)
    SELECT $1, now() + $2::interval, '-infinity', false WHERE NOT EXISTS (SELECT FROM waits)
    ON CONFLICT (key) DO UPDATE SET empty_at = {EMPTY_AT}, blocked_until = {WAIT_ENDS_AT}, told = false
    WHERE t.blocked_until <= now()
    RETURNING key, extract(epoch FROM blocked_until)::float8 AS ends_at
)
SELECT * FROM waits UNION ALL SELECT key, NULL, NULL, ends_at FROM charged"""  # noqa: S608 (constants only)
# In the order of the keys, so that two that tell of the same two wait for each other and never in a circle.
TELL = """
UPDATE throttles t SET told = true
FROM (SELECT key, told FROM throttles WHERE key = ANY($1) ORDER BY key FOR UPDATE) before
WHERE t.key = before.key AND blocked_until > now() AND NOT before.told RETURNING t.key"""
# The wait goes where it is the charge's own, or none is left to wait for.
PAY_BACK = """
UPDATE throttles SET empty_at = empty_at - $2::interval, blocked_until =
    CASE WHEN extract(epoch FROM blocked_until)::float8 = $4
        OR round(extract(epoch FROM empty_at - $2 - now()) / extract(epoch FROM $2)) <= $3::int
    THEN '-infinity' ELSE blocked_until END
WHERE key = $1"""


async def charge(
    database: Database,
    subject: Subject,
    *,
    also_check: Subject | None = None,
    max_failures: int | None = None,
    told: bool = False,
) -> Charge:
    """Count one failure before it is one, or none and raise `Throttled` where the subject has to wait.

    Args:
        database: Where the counters are.
        subject: Whose failure it will be.
        also_check: Who must not have to wait either, and is not charged.
        max_failures: How many failures `also_check` may have at most; None for any number.
        told: Of the subject's wait enough has been told: its refusal is not the first, and nothing is written.
    """
    rows = await database.fetch(
        CHARGE,
        *_arguments(subject),
        also_check.key if also_check else None,
        _max_ahead(also_check or subject, max_failures),
    )
    if not rows:  # a wait began in the same moment
        rows = await database.fetch(CHECK, subject.key, None)
    if not rows or rows[0]["ends_at"] is None:
        raise await _throttled(database, rows, told=subject if told else None)
    return Charge(subject, rows[0]["ends_at"])


async def check(database: Database, subject: Subject, *, max_failures: int | None = None) -> None:
    """Raise `Throttled` where the subject has to wait, or has more failures than `room`."""
    if rows := await database.fetch(CHECK, subject.key, _max_ahead(subject, max_failures)):
        raise await _throttled(database, rows)


async def count(database: Database, subject: Subject) -> None:
    """Count one failure, whether the subject has to wait or not."""
    await database.fetch(COUNT, *_arguments(subject))


async def refund(database: Database, charge: Charge) -> None:
    """Take a charge back: there was no failure. Failures before it stay."""
    rule = charge.subject.rule
    await database.fetch(PAY_BACK, charge.subject.key, rule.period, rule.free, charge.ends_at)


def _arguments(subject: Subject) -> tuple[bytes, timedelta, int, timedelta, int]:
    rule = subject.rule
    return subject.key, rule.period, rule.free, rule.max_wait, rule.max_level


def _max_ahead(subject: Subject, max_failures: int | None) -> timedelta | None:
    """The time in which a full room would empty; half a failure more, for the level is no whole number."""
    return None if max_failures is None else (max_failures + 0.5) * subject.rule.period


async def _throttled(
    database: Database, waits: list[asyncpg.Record], told: Subject | None = None
) -> Throttled:
    """The refusal; the first of a wait is marked, whichever server finds it, but for who is told already."""
    untold = [
        row["key"]
        for row in waits
        if row["told"] is False and (told is None or row["key"] != told.key)
    ]
    first = bool(untold and await database.fetch(TELL, untold))
    longest = max((row["wait_s"] for row in waits), default=1.0)
    own = {row["key"]: row["wait_s"] for row in waits if row["told"] is not None}
    return Throttled(max(1, math.ceil(longest)), first=first, waits=own)
