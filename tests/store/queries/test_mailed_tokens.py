"""Mailed tokens: made for whom they may be, and locked in the order of everything else."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import uuid4

import pytest

from devnest.store import (
    Account,
    Database,
    Purpose,
    change_password,
    confirm_address,
    create_account,
    create_mailed_token,
    find_proof,
    set_password,
)
from devnest.store.queries.mailed_tokens import MAX_VALID_TOKENS

ELSEWHERE = "elsewhere@example.org"


@pytest.fixture
async def account(database: Database) -> Account:
    """A new account whose hash is `hash`."""
    name = f"u{uuid4().hex[:20]}"
    return await create_account(database, name, f"{name}@example.org", "hash")


def address(account: Account) -> str:
    assert account.email is not None
    return account.email


async def test_another_address_needs_the_password_of_now(
    database: Database, account: Account
) -> None:
    """A code for it is made while the password is the one that was given.

    One for the account's own address always.
    """
    own = address(account).upper()
    assert await create_mailed_token(database, account.id, Purpose.VERIFY, ELSEWHERE) is None
    assert (
        await create_mailed_token(database, account.id, Purpose.VERIFY, ELSEWHERE, "hash")
        is not None
    )
    assert await change_password(database, account.id, "hash", "new") is not None
    assert (
        await create_mailed_token(database, account.id, Purpose.VERIFY, ELSEWHERE, "hash") is None
    )
    for purpose in Purpose:
        assert await create_mailed_token(database, account.id, purpose, own) is not None
        assert await create_mailed_token(database, uuid4(), purpose, own) is None


async def use(database: Database, purpose: Purpose, token: str) -> object:
    if purpose is Purpose.VERIFY:
        return await confirm_address(database, token)
    return await set_password(database, purpose, token, "new")


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("which", [0, -1])
async def test_several_are_good_until_one_is_used(
    database: Database, account: Account, purpose: Purpose, which: int
) -> None:
    """Mails overtake each other; and what was made at the same moment counts too."""
    making = (
        create_mailed_token(database, account.id, purpose, address(account))
        for _ in range(MAX_VALID_TOKENS - 1)
    )
    tokens = [
        await create_mailed_token(database, account.id, purpose, address(account)),
        *await asyncio.gather(*making),
    ]
    good = [token for token in tokens if token is not None]
    assert len(set(good)) == MAX_VALID_TOKENS
    assert await use(database, purpose, good[which]) is not None
    assert [await use(database, purpose, token) for token in good] == [None] * MAX_VALID_TOKENS


@pytest.mark.parametrize("purpose", Purpose)
async def test_there_are_only_so_many(
    database: Database, account: Account, purpose: Purpose
) -> None:
    """No new one makes one void that was mailed; when those are too old there are others."""
    making = (
        create_mailed_token(database, account.id, purpose, address(account))
        for _ in range(2 * MAX_VALID_TOKENS)
    )
    tokens = [token for token in await asyncio.gather(*making) if token is not None]
    assert len(tokens) == MAX_VALID_TOKENS
    await database.fetch(
        "UPDATE mailed_tokens SET expires_at = now() WHERE account_id = $1", account.id
    )
    assert await create_mailed_token(database, account.id, purpose, address(account)) is not None
    assert await use(database, purpose, tokens[0]) is None


async def test_another_address_makes_those_for_the_last_one_void(
    database: Database, account: Account
) -> None:
    """Whoever mistyped an address and names another one does not belong to the first one's
    reader.
    """
    mistyped = await create_mailed_token(
        database, account.id, Purpose.VERIFY, "mistyped@example.org", "hash"
    )
    assert mistyped is not None
    right = f"right-{account.email}"
    codes = [
        await create_mailed_token(database, account.id, Purpose.VERIFY, right, "hash")
        for _ in range(2)
    ]
    assert await confirm_address(database, mistyped) is None
    assert codes[0] is not None
    assert await confirm_address(database, codes[0]) is not None


@pytest.mark.parametrize("purpose", Purpose)
async def test_a_disabled_account_gets_none(
    database: Database, account: Account, purpose: Purpose
) -> None:
    """Nor does one that has gone, which is disabled too."""
    await database.fetch("UPDATE accounts SET disabled_at = now() WHERE id = $1", account.id)
    assert await create_mailed_token(database, account.id, purpose, address(account)) is None


@pytest.mark.parametrize(
    ("purpose", "use"),
    [
        (
            Purpose.RESET,
            lambda database, token: set_password(database, Purpose.RESET, token, "new"),
        ),
        (
            Purpose.VERIFY,
            lambda database, token: set_password(database, Purpose.VERIFY, token, "new"),
        ),
        (Purpose.VERIFY, confirm_address),
    ],
)
async def test_the_account_is_locked_before_its_tokens(
    database: Database,
    account: Account,
    purpose: Purpose,
    use: Callable[[Database, str], Coroutine[Any, Any, object]],
) -> None:
    """As a change of the password does, or the two could wait for each other."""
    token = await create_mailed_token(database, account.id, purpose, address(account))
    assert token is not None
    async with database.connection() as connection:
        async with connection.transaction():
            await connection.execute("SELECT FROM accounts WHERE id = $1 FOR UPDATE", account.id)
            using = asyncio.create_task(use(database, token))
            while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.005)
            await connection.execute(
                "SELECT FROM mailed_tokens WHERE account_id = $1 FOR UPDATE NOWAIT", account.id
            )
        assert await using is not None


async def test_a_change_of_the_password_ends_what_the_old_one_asked_for(
    database: Database, account: Account
) -> None:
    """Another address, also of an account that has none."""
    for email in (account.email, None):
        await database.fetch(
            "UPDATE accounts SET email = $2, password_hash = 'hash' WHERE id = $1",
            account.id,
            email,
        )
        token = await create_mailed_token(database, account.id, Purpose.VERIFY, ELSEWHERE, "hash")
        assert token is not None
        assert await find_proof(database, Purpose.VERIFY, token) is not None
        assert await change_password(database, account.id, "hash", "new") is not None
        assert await find_proof(database, Purpose.VERIFY, token) is None
