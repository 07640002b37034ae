"""Counters of failures in the database, shared by all servers of all machines.

A counter is a leaky bucket: each failure raises its level by one, and the level falls by one per
period, down to zero. Each failure beyond the free ones makes the next try wait, twice as long each
time. Tries during a wait are refused and not counted, so hammering does not lengthen another
person's wait.

The database stores the time at which the level will be zero (`empty_at`). The level at any time
follows from it, so nothing is written while the level falls. Prior art: the generic cell rate
algorithm, ITU-T I.371.

There are two ways to count. `charge` counts before the outcome is known, and `refund` undoes it
after a success: of a thousand concurrent guesses, no more are tried than of a thousand guesses in a
row. `count` records a failure that has already happened.
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
    """What failures cost.

    Attributes:
        name: Separates the counters of different rules.
        free: Failures without a wait, at least one.
        period: The time in which the level falls by one.
        max_wait: The longest wait.
        max_level: The highest level, so that a long attack is forgotten some time after its end.
    """

    name: str
    free: int
    period: timedelta
    max_wait: timedelta
    max_level: int


@dataclass(frozen=True)
class Subject:
    """Whose failures are counted.

    Attributes:
        rule: The rule that applies.
        value: An address or a name, of which the database stores only a hash.
    """

    rule: Rule
    value: str

    @property
    def key(self) -> bytes:
        """The key of the counter."""
        return hashlib.sha256(f"{self.rule.name}\0{self.value}".encode()).digest()


@dataclass(frozen=True)
class Charge:
    """A failure that `refund` can undo.

    Attributes:
        subject: Whose failure was counted.
        ends_at: The Unix time at which the wait ends that it began.
    """

    subject: Subject
    ends_at: float


# The parameters $1 to $5 are the key, the period, the free failures, the longest wait and the
# highest level.
EMPTY_AT = "least(greatest(t.empty_at, now()), now() + $5::int * $2::interval) + $2"
# Rounded: of two concurrent charges the one that runs second may have begun first, and its now() is
# earlier.
OVER = f"round(extract(epoch FROM {EMPTY_AT} - now()) / extract(epoch FROM $2)) - $3::int"
WAIT_ENDS_AT = f"""CASE WHEN {OVER} <= 0 THEN '-infinity'
    ELSE now() + least($4::interval,
        make_interval(secs => 2 ^ least({OVER} - 1, 20)::float8)) END"""
COUNT = f"""
INSERT INTO throttles AS t (key, empty_at, blocked_until, told)
    VALUES ($1, now() + $2::interval, '-infinity', false)
ON CONFLICT (key) DO UPDATE SET empty_at = {EMPTY_AT},
    blocked_until = greatest(t.blocked_until, {WAIT_ENDS_AT}),
    told = t.told AND t.blocked_until > now()"""  # noqa: S608
# In WAITS, the subject {also} has to wait too if its level is above {max_ahead}. That is not a wait
# of its own, so it is not reported.
WAITS = """
SELECT key, CASE WHEN blocked_until > now() THEN extract(epoch FROM blocked_until - now())::float8
    ELSE 1 END AS wait_s,
    CASE WHEN blocked_until > now() THEN told END AS told, NULL::float8 AS ends_at
FROM throttles WHERE key = {key} AND blocked_until > now()
    OR key = {also} AND (blocked_until > now() OR empty_at > now() + {max_ahead}::interval)"""
CHECK = WAITS.format(key="$1", also="$1", max_ahead="$2")
# A refusal writes nothing: otherwise, in a flood, each refusal would wait for the one before.
CHARGE = f"""
WITH waits AS ({WAITS.format(key="$1", also="$6", max_ahead="$7")}), charged AS (
    INSERT INTO throttles AS t (key, empty_at, blocked_until, told)
    SELECT $1, now() + $2::interval, '-infinity', false WHERE NOT EXISTS (SELECT FROM waits)
    ON CONFLICT (key) DO UPDATE SET empty_at = {EMPTY_AT}, blocked_until = {WAIT_ENDS_AT},
        told = false
    WHERE t.blocked_until <= now()
    RETURNING key, extract(epoch FROM blocked_until)::float8 AS ends_at
)
SELECT * FROM waits UNION ALL SELECT key, NULL, NULL, ends_at FROM charged"""  # noqa: S608
# In the order of the keys: two that report the same two waits cannot deadlock.
TELL = """
UPDATE throttles t SET told = true
FROM (SELECT key, told FROM throttles WHERE key = ANY($1) ORDER BY key FOR UPDATE) before
WHERE t.key = before.key AND blocked_until > now() AND NOT before.told RETURNING t.key"""
# The wait is removed if this charge began it, or if the level is low enough for none.
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
    """Count one failure of a subject before the outcome is known.

    Args:
        database: Where the counters are.
        subject: Whose failure it is.
        also_check: Another subject, which must not have to wait either and is not charged.
        max_failures: The most failures that `also_check` may have; None for any number.
        told: The subject's wait was reported before, so this refusal is not the first. Nothing is
            written for it.

    Returns:
        The charge, for `refund` after a success.

    Raises:
        Throttled: The subject or `also_check` has to wait. Nothing was counted.
    """
    rows = await database.fetch(
        CHARGE,
        *_arguments(subject),
        also_check.key if also_check else None,
        _max_ahead(also_check or subject, max_failures),
    )
    if not rows:  # a wait began at the same moment
        rows = await database.fetch(CHECK, subject.key, None)
    if not rows or rows[0]["ends_at"] is None:
        raise await _throttled(database, rows, told=subject if told else None)
    return Charge(subject, rows[0]["ends_at"])


async def check(database: Database, subject: Subject, *, max_failures: int | None = None) -> None:
    """Check that a subject may try.

    Args:
        database: Where the counters are.
        subject: Whose try it is.
        max_failures: The most failures that it may have; None for any number.

    Raises:
        Throttled: The subject has to wait, or has more failures.
    """
    if rows := await database.fetch(CHECK, subject.key, _max_ahead(subject, max_failures)):
        raise await _throttled(database, rows)


async def count(database: Database, subject: Subject) -> None:
    """Count one failure, whether or not the subject has to wait."""
    await database.fetch(COUNT, *_arguments(subject))


async def refund(database: Database, charge: Charge) -> None:
    """Undo a charge, because the try succeeded. Earlier failures stay."""
    rule = charge.subject.rule
    await database.fetch(PAY_BACK, charge.subject.key, rule.period, rule.free, charge.ends_at)


def _arguments(subject: Subject) -> tuple[bytes, timedelta, int, timedelta, int]:
    rule = subject.rule
    return subject.key, rule.period, rule.free, rule.max_wait, rule.max_level


def _max_ahead(subject: Subject, max_failures: int | None) -> timedelta | None:
    """Return the time in which `max_failures` would leak away, with half a failure of tolerance."""
    return None if max_failures is None else (max_failures + 0.5) * subject.rule.period


async def _throttled(
    database: Database, waits: list[asyncpg.Record], told: Subject | None = None
) -> Throttled:
    """Return the refusal. The first one of each wait is marked, unless `told` was told before."""
    untold = [
        row["key"]
        for row in waits
        if row["told"] is False and (told is None or row["key"] != told.key)
    ]
    first = bool(untold and await database.fetch(TELL, untold))
    longest = max((row["wait_s"] for row in waits), default=1.0)
    own = {row["key"]: row["wait_s"] for row in waits if row["told"] is not None}
    return Throttled(max(1, math.ceil(longest)), first=first, waits=own)
