"""The first proof of an address, beside whatever else happens to the account at that moment."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from devnest.store import (
    Account,
    AlreadyTaken,
    Claim,
    Database,
    Event,
    Opening,
    Purpose,
    RefreshRefused,
    change_password,
    change_username,
    confirm_address,
    create_account,
    create_mailed_token,
    create_post,
    create_session,
    create_sessions,
    delete_account,
    find_account,
    find_proof,
    list_sessions,
    refresh_session,
    replace_hash,
    set_password,
    taken_field,
)
from devnest.store.queries.registration import UNCONFIRMED_LIFETIME

pytestmark = pytest.mark.usefixtures("no_error_is_logged")

Act = Callable[[Database, Account, str], Awaitable[Any]]
OLD, NEW = "the hash of who registered", "the hash of who reads the mail"


def a_name() -> str:
    return f"u{uuid4().hex[:20]}"


def address(account: Account) -> str:
    assert account.email is not None
    return account.email


@pytest.fixture
async def account(database: Database) -> Account:
    """An account that has not confirmed its address."""
    return await create_account(database, a_name(), f"{a_name()}@example.org", OLD)


async def mailed(database: Database, account: Account, purpose: Purpose = Purpose.VERIFY) -> str:
    token = await create_mailed_token(database, account.id, purpose, address(account))
    assert token is not None
    return token


async def ages(database: Database, account: Account, by: timedelta = UNCONFIRMED_LIFETIME) -> None:
    await database.fetch(
        "UPDATE accounts SET email_given_at = email_given_at - $2::interval WHERE id = $1",
        account.id,
        by,
    )


async def live(database: Database, account_id: UUID) -> int:
    return len(await list_sessions(database, account_id, uuid4()))


async def refresh(database: Database, _: Account, refresh_token: str) -> None:
    await refresh_session(database, refresh_token, "192.0.2.1")


ACTS: dict[str, Act] = {
    "sign in": lambda database, account, _: create_session(database, Opening(account.id, OLD)),
    "sign in with others": lambda database, account, _: create_sessions(
        database, [Opening(account.id, OLD)]
    ),
    "refresh": refresh,
    "change the password": lambda database, account, _: change_password(
        database, account.id, OLD, "another"
    ),
    "rehash": lambda database, account, _: replace_hash(database, account.id, OLD, "better"),
    "change the name": lambda database, account, _: change_username(
        database, account.id, a_name(), OLD
    ),
    "ask for another address": lambda database, account, _: create_mailed_token(
        database, account.id, Purpose.VERIFY, f"{a_name()}@example.org", OLD
    ),
    "ask for a reset": lambda database, account, _: create_mailed_token(
        database, account.id, Purpose.RESET, address(account)
    ),
    "register again": lambda database, account, _: create_account(
        database, a_name(), address(account), OLD
    ),
    "post with a key": lambda database, account, _: create_post(
        database, account.id, "t", "b", [], claim=Claim(uuid4().bytes, b"f")
    ),
}


@pytest.mark.parametrize("proof_first", [True, False])
@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS.keys())
async def test_nothing_of_before_outlives_it(
    database: Database, account: Account, act: Act, purpose: Purpose, proof_first: bool
) -> None:
    """Whatever whoever registered does at that moment, and whoever of the two comes first."""
    token = await mailed(database, account, purpose)
    session = await create_session(database, Opening(account.id, OLD))
    assert session is not None
    acts = [
        act(database, account, session.refresh_token),
        set_password(database, purpose, token, NEW),
    ]
    async with database.connection() as connection, connection.transaction():
        await connection.execute("SELECT FROM accounts WHERE id = $1 FOR UPDATE", account.id)
        tasks = []
        for one in reversed(acts) if proof_first else acts:
            tasks.append(asyncio.ensure_future(one))
            while not tasks[-1].done() and await waiting(database) < sum(
                not task.done() for task in tasks
            ):
                await asyncio.sleep(0.005)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    unexpected = [
        r
        for r in results
        if isinstance(r, Exception) and not isinstance(r, AlreadyTaken | RefreshRefused)
    ]
    assert unexpected == []
    if (
        results[0 if proof_first else 1] is None
    ):  # another code came first, or a change made it useless: once more
        assert not proof_first
        token = await mailed(database, account, purpose)
        assert await set_password(database, purpose, token, NEW) is not None
    row = await database.fetch_row("SELECT * FROM accounts WHERE id = $1", account.id)
    assert row is not None
    assert (row["password_hash"], row["email"]) == (NEW, account.email)
    assert row["email_verified_at"] is not None
    assert await live(database, account.id) == 0
    with pytest.raises(RefreshRefused):
        await refresh_session(database, session.refresh_token, "192.0.2.1")
    left = await database.fetch(
        "SELECT purpose, email FROM mailed_tokens WHERE account_id = $1", account.id
    )
    assert [tuple(token) for token in left] in ([], [("reset", account.email)])


async def waiting(database: Database) -> int:
    """How many statements wait for a lock, of which PostgreSQL tells nobody."""
    count: int = await database.fetch_value(
        "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted"
    )
    return count


async def test_of_several_proofs_at_once_one_counts(database: Database, account: Account) -> None:
    """With one code, and with a code of each kind."""
    tokens = {purpose: await mailed(database, account, purpose) for purpose in Purpose}
    proofs = [
        set_password(database, purpose, token, f"{purpose} {number}")
        for number in range(4)
        for purpose, token in tokens.items()
    ]
    (won,) = [result for result in await asyncio.gather(*proofs) if result is not None]
    assert not won[0].confirmed
    assert await confirm_address(database, tokens[Purpose.VERIFY]) is None


async def test_a_confirmation_inside_and_a_proof_outside_are_one(
    database: Database, account: Account
) -> None:
    """Whichever comes first uses the code up."""
    token = await mailed(database, account)
    results = await asyncio.gather(
        confirm_address(database, token), set_password(database, Purpose.VERIFY, token, NEW)
    )
    assert sum(result is not None for result in results) == 1


@pytest.mark.parametrize("proof_first", [True, False])
async def test_of_a_move_and_a_registration_one_gets_the_address(
    database: Database, account: Account, proof_first: bool
) -> None:
    """The code is of no use where somebody has registered the address that was asked for."""
    email = f"{a_name()}@example.org"
    token = await create_mailed_token(database, account.id, Purpose.VERIFY, email, OLD)
    assert token is not None
    acts: list[Awaitable[Any]] = [
        create_account(database, a_name(), email, OLD),
        confirm_address(database, token),
    ]
    moved_or_made = await asyncio.gather(
        *(reversed(acts) if proof_first else acts), return_exceptions=True
    )
    assert (
        sum(result is not None and not isinstance(result, AlreadyTaken) for result in moved_or_made)
        == 1
    )
    assert len(await database.fetch("SELECT FROM accounts WHERE email = $1", email)) == 1
    if (
        await taken_field(database, a_name(), email)
        and (await find_account(database, account.id)) == account
    ):
        assert await find_proof(database, Purpose.VERIFY, token) is None


async def test_of_those_who_register_a_released_address_at_once_one_gets_it(
    database: Database, account: Account
) -> None:
    """With a key or without; the others are told, and their names are free."""
    await ages(database, account)
    assert await taken_field(database, a_name(), address(account)) is None
    names = [a_name() for _ in range(8)]
    claims = [Claim(uuid4().bytes, b"f"), None] * 4
    results = await asyncio.gather(
        *(
            create_account(database, name, address(account), OLD, claim)
            for name, claim in zip(names, claims, strict=True)
        ),
        return_exceptions=True,
    )
    made = [result for result in results if isinstance(result, Account)]
    told = [result.field for result in results if isinstance(result, AlreadyTaken)]
    assert (len(made), told) == (1, ["email"] * 7)
    assert await find_account(database, account.id) == Account(
        account.id, account.username, None, account.created_at
    )
    taken = [await taken_field(database, name, "nobody@example.org") for name in names]
    assert sorted(map(str, taken)) == ["None"] * 7 + ["username"]


async def test_nobody_loses_an_address_to_a_registration_that_fails(
    database: Database, account: Account
) -> None:
    """For a name that is taken or held; with a key that was used; before the seventh day.

    With another address.
    """
    other = await create_account(database, a_name(), f"{a_name()}@example.org", OLD)
    await ages(database, account)
    held = other.username
    assert await change_username(database, other.id, a_name(), OLD)
    claim = Claim(uuid4().bytes, b"f")
    assert await create_account(database, a_name(), f"{a_name()}@example.org", OLD, claim)
    for name, key in ((held, None), (account.username, None), (a_name(), claim)):
        with pytest.raises(AlreadyTaken, match="username"):
            await create_account(database, name, address(account), OLD, key)
    await ages(database, account, -timedelta(hours=1))
    with pytest.raises(AlreadyTaken, match="email"):
        await create_account(database, a_name(), address(account), OLD)
    assert await create_account(database, a_name(), f"{a_name()}@example.org", OLD)
    assert await find_account(database, account.id) == account


@pytest.mark.parametrize("proof_first", [True, False])
async def test_of_a_proof_and_a_registration_one_has_the_address(
    database: Database, account: Account, proof_first: bool
) -> None:
    """Once it may be released. A code that comes too late is of no use.

    Its address has a code for the new account.
    """
    await ages(database, account)
    token = await mailed(database, account)
    acts: list[Awaitable[Any]] = [
        create_account(database, a_name(), address(account), OLD),
        set_password(database, Purpose.VERIFY, token, NEW),
    ]
    results = await asyncio.gather(
        *(reversed(acts) if proof_first else acts), return_exceptions=True
    )
    assert (
        sum(result is not None and not isinstance(result, AlreadyTaken) for result in results) == 1
    )
    (holder,) = await database.fetch(
        "SELECT id, email_verified_at FROM accounts WHERE email = $1", account.email
    )
    assert (holder["id"] == account.id) == (holder["email_verified_at"] is not None)


async def test_a_released_account_is_told_in_the_audit_log(
    database: Database, account: Account
) -> None:
    """Its codes for that address go; one for an address that it asked for stays.

    Its sessions go on.
    """
    await ages(database, account)
    session = await create_session(database, Opening(account.id, OLD))
    assert session is not None
    await mailed(database, account, Purpose.RESET)
    other = f"{a_name()}@example.org"
    token = await create_mailed_token(database, account.id, Purpose.VERIFY, other, OLD)
    assert token is not None
    await create_account(database, a_name(), address(account).upper(), OLD)
    left = await database.fetch(
        "SELECT purpose FROM mailed_tokens WHERE account_id = $1", account.id
    )
    assert [row["purpose"] for row in left] == ["verify"]
    last = "SELECT event FROM audit_log WHERE account_id = $1 ORDER BY id DESC LIMIT 1"
    assert await database.fetch_value(last, account.id) == Event.EMAIL_RELEASE
    assert await live(database, account.id) == 1
    assert await confirm_address(database, token) is not None
    assert (await find_account(database, account.id)) == Account(
        account.id, account.username, other, account.created_at
    )


async def test_a_deleted_account_s_code_is_of_no_use(database: Database, account: Account) -> None:
    """Whichever comes first, nobody signs in to what has gone."""
    token = await mailed(database, account)
    ended, _ = await asyncio.gather(
        delete_account(database, account.id, OLD),
        set_password(database, Purpose.VERIFY, token, NEW),
    )
    assert (await find_account(database, account.id) is None) == (ended is not None)
    assert await find_proof(database, Purpose.VERIFY, token) is None
