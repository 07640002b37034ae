"""How much mail a mailbox gets that has not asked for it."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest

from devnest.store import (
    RESET_LIFETIME,
    RESETS,
    UNCONFIRMED,
    Allowance,
    Database,
    claim_mail,
    purge,
)
from devnest.store.queries.accounts import VERIFY_LIFETIME
from devnest.store.queries.mailboxes import mailbox
from devnest.store.queries.mailed_tokens import MAX_VALID_TOKENS

THREE = Allowance("three", 3, timedelta(hours=1))


@pytest.fixture
def email() -> str:
    """An address nobody has."""
    return f"u{uuid4().hex[:20]}@example.org"


async def wait(database: Database, by: timedelta) -> None:
    """Let time go by, for all mailboxes."""
    await database.fetch("UPDATE mailboxes SET counted_until = counted_until - $1::interval", by)


async def claims(
    database: Database, email: str, count: int, allowance: Allowance = THREE
) -> list[bool]:
    return [await claim_mail(database, allowance, email) for _ in range(count)]


async def test_a_mailbox_gets_some_and_then_one_each_period(database: Database, email: str) -> None:
    """What was refused is not counted; after a long time it has its whole allowance again."""
    assert await claims(database, email, 9) == [True] * 3 + [False] * 6
    for _ in range(2):
        await wait(database, THREE.period)
        assert await claims(database, email, 2) == [True, False]
    await wait(database, THREE.period * 100)
    assert await claims(database, email, 4) == [True] * 3 + [False]


async def test_many_at_once_are_counted_like_many_in_a_row(database: Database, email: str) -> None:
    """Whichever server writes them."""
    answers = await asyncio.gather(*(claim_mail(database, THREE, email) for _ in range(20)))
    assert sum(answers) == 3


async def test_each_mailbox_and_each_allowance_has_its_own_count(
    database: Database, email: str
) -> None:
    """Another address, and mail of another kind."""
    assert await claims(database, email, 4) == [True] * 3 + [False]
    assert await claim_mail(database, THREE, f"x{email}")
    assert await claim_mail(database, UNCONFIRMED, email)


@pytest.mark.parametrize(
    ("email", "box"),
    [
        ("ada@example.org", "ada@example.org"),
        ("ADA@Example.ORG", "ada@example.org"),
        ("ada+news@example.org", "ada@example.org"),
        ("ada+a+b@example.org", "ada@example.org"),
        ("ada+@example.org", "ada@example.org"),
        ("+ada@example.org", "+ada@example.org"),
        ("a.da@example.org", "ada@example.org"),
        (".a..d.a.+n.ews@example.org", "ada@example.org"),
        ("...@example.org", "...@example.org"),
        ("ada@other.example.org", "ada@other.example.org"),
    ],
)
def test_a_mailbox_has_many_spellings(email: str, box: str) -> None:
    """In any case, with any tag, and with dots anywhere."""
    assert mailbox(email) == box


async def test_no_address_is_stored_and_none_is_remembered_for_ever(
    database: Database, email: str
) -> None:
    """A hash, until all its mails are accounted for."""
    await database.fetch("DELETE FROM mailboxes")
    await claims(database, email, 2)
    (row,) = await database.fetch("SELECT key, counted_until FROM mailboxes")
    assert len(row["key"]) == 32
    await purge(database)
    assert len(await database.fetch("SELECT FROM mailboxes")) == 1
    await wait(database, THREE.period * 2)
    await purge(database)
    assert await database.fetch("SELECT FROM mailboxes") == []


def test_every_code_that_is_mailed_is_good_for_its_time() -> None:
    """There are never more codes than an account may have, and of resets always one that is
    good.
    """
    for allowance, lifetime in ((RESETS, RESET_LIFETIME), (UNCONFIRMED, VERIFY_LIFETIME)):
        later = (lifetime - timedelta(seconds=1)) // allowance.period
        assert allowance.burst + later <= MAX_VALID_TOKENS
    assert RESETS.period < RESET_LIFETIME
