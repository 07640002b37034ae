"""Names and addresses: who gets them, who is told, and that no statement fails for it."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest

from devnest.store import (
    Account,
    AlreadyTaken,
    Database,
    RenamedTooOften,
    change_username,
    create_account,
    delete_account,
    find_account,
    taken_field,
)
from devnest.store.queries.account_changes import RENAME_PERIOD
from devnest.store.queries.naming import lock_address, lock_name

Change = Callable[[Database, str], Awaitable[Account | None]]


def a_name() -> str:
    return f"u{uuid4().hex[:20]}"


async def registered(database: Database, username: str | None = None) -> Account:
    username = username or a_name()
    return await create_account(database, username, f"{a_name()}@example.org", "hash")


async def renamed(database: Database, username: str) -> Account | None:
    account = await registered(database)
    return await change_username(database, account.id, username, "hash")


@pytest.fixture
def quiet(database: Database, no_error_is_logged: None) -> Database:
    """A database that logs no error while the test runs."""
    return database


async def outcomes(*changes: Awaitable[Account | None]) -> list[str]:
    """What came of changes at once: `done`, or the field that was taken."""
    results = await asyncio.gather(*changes, return_exceptions=True)
    taken = [result for result in results if isinstance(result, AlreadyTaken)]
    done = [result for result in results if isinstance(result, Account)]
    assert len(taken) + len(done) == len(results), results
    return sorted(["done"] * len(done) + [error.field for error in taken])


async def until_somebody_waits(connection: Database) -> None:
    while not await connection.fetch_value("SELECT count(*) FROM pg_locks WHERE NOT granted"):
        await asyncio.sleep(0.005)


async def test_of_those_who_register_at_once_one_gets_the_address(quiet: Database) -> None:
    """Whatever its case."""
    email = f"{a_name()}@example.org"
    cases = [email, email.upper()] * 4
    changes = [create_account(quiet, a_name(), case, "hash") for case in cases]
    assert await outcomes(*changes) == ["done"] + ["email"] * 7


async def test_of_those_who_take_a_name_at_once_one_gets_it(quiet: Database) -> None:
    """By registering or by a change of name."""
    name = a_name()
    changes = [
        change(quiet, case) for change in (registered, renamed) for case in (name, name.upper()) * 2
    ]
    assert await outcomes(*changes) == ["done"] + ["username"] * 7


@pytest.mark.parametrize("change", [registered, renamed])
async def test_who_waited_for_a_name_sees_that_it_has_gone(quiet: Database, change: Change) -> None:
    """Though a statement that began before cannot see the account that has it."""
    name = a_name()
    async with quiet.connection() as connection, connection.transaction():
        await lock_name(connection, name.upper())
        waiting = asyncio.create_task(outcomes(change(quiet, name)))
        await until_somebody_waits(quiet)
        await connection.execute(
            "INSERT INTO accounts (id, username, email, password_hash) VALUES ($1, $2, $2, '')",
            uuid4(),
            name,
        )
    assert await waiting == ["username"]


async def test_who_waited_for_an_address_sees_that_it_has_gone(quiet: Database) -> None:
    """The same, for the other index."""
    email = f"{a_name()}@example.org"
    async with quiet.connection() as connection, connection.transaction():
        await lock_address(connection, email.upper())
        waiting = asyncio.create_task(outcomes(create_account(quiet, a_name(), email, "hash")))
        await until_somebody_waits(quiet)
        await connection.execute(
            "INSERT INTO accounts (id, username, email, password_hash) VALUES ($1, $2, $3, '')",
            uuid4(), a_name(), email,
        )  # fmt: skip
    assert await waiting == ["email"]


@pytest.mark.parametrize("change", [registered, renamed])
async def test_a_name_taken_and_given_up_while_others_wait_is_held(
    quiet: Database, change: Change
) -> None:
    """Whoever waited for the name looks again when it can be had."""
    name = a_name()
    async with quiet.connection() as connection, connection.transaction():
        await lock_name(connection, name)
        waiting = asyncio.create_task(outcomes(change(quiet, name)))
        await until_somebody_waits(quiet)
        await connection.execute(
            "INSERT INTO accounts (id, username, email, password_hash) VALUES ($1, $2, $2, '')",
            holder := uuid4(),
            name,
        )
        await connection.execute(
            "UPDATE accounts SET username = $2 WHERE id = $1", holder, a_name()
        )
    assert await waiting == ["username"]


@pytest.mark.parametrize("change", [registered, renamed])
async def test_a_name_that_was_given_up_is_nobody_else_s(quiet: Database, change: Change) -> None:
    """After any number of changes by any hand, an operator's too, each for 90 days.

    The early look-up says so.
    """
    account = await registered(quiet)
    given_up = [account.username]
    for _ in range(5):
        await quiet.fetch(
            "UPDATE accounts SET username = $2 WHERE id = $1", account.id, name := a_name()
        )
        given_up.append(name)
    for name in given_up:
        assert await taken_field(quiet, name.upper(), "nobody@example.org") == "username"
        assert await outcomes(change(quiet, name.upper())) == ["username"]
    days = await quiet.fetch(
        "SELECT until - now() AS rest FROM held_names WHERE account_id = $1", account.id
    )
    assert [row["rest"].days for row in days] == [89] * 5
    await quiet.fetch("UPDATE held_names SET until = now() WHERE account_id = $1", account.id)
    assert await outcomes(change(quiet, given_up[0])) == ["done"]


async def test_a_deleted_account_s_name_is_held_too(quiet: Database) -> None:
    """All it had."""
    account = await registered(quiet)
    second = a_name()
    assert await change_username(quiet, account.id, second, "hash")
    assert await delete_account(quiet, account.id, "hash") == []
    for name in (account.username, second):
        assert await outcomes(registered(quiet, name)) == ["username"]


async def test_one_s_own_former_name_may_be_taken_back(quiet: Database) -> None:
    """It is no longer held then, and the other one is; there and back are two changes."""
    account = await registered(quiet)
    other = a_name()
    for name in (other, account.username.upper()):
        changed = await change_username(quiet, account.id, name, "hash")
        assert changed is not None
        assert changed.username == name
    held = await quiet.fetch("SELECT username FROM held_names WHERE account_id = $1", account.id)
    assert [row["username"] for row in held] == [other]
    assert (
        await quiet.fetch_value(
            "SELECT cardinality(renamed_at) FROM accounts WHERE id = $1", account.id
        )
        == 2
    )


async def test_an_account_has_three_new_names_in_90_days(quiet: Database) -> None:
    """The fourth is told how long.

    Another case of the name counts as none, and a taken name neither.
    """
    account = await registered(quiet)
    other = await registered(quiet)
    for name in (a_name(), a_name(), account.username):
        for case in (name, name.upper(), name):
            assert await change_username(quiet, account.id, case, "hash")
        if name != account.username:
            with pytest.raises(AlreadyTaken):
                await change_username(quiet, account.id, other.username, "hash")
    with pytest.raises(RenamedTooOften) as caught:
        await change_username(quiet, account.id, a_name(), "hash")
    assert 89 * 86_400 < caught.value.retry_after <= 90 * 86_400
    assert await change_username(quiet, account.id, account.username.upper(), "hash")
    aged = "UPDATE accounts SET renamed_at = (SELECT array_agg(at - $2::interval ORDER BY at DESC)"
    await quiet.fetch(
        f"{aged} FROM unnest(renamed_at) at) WHERE id = $1", account.id, RENAME_PERIOD
    )
    assert await change_username(quiet, account.id, a_name(), "hash")


async def test_changes_of_a_name_at_once_are_counted_one_by_one(quiet: Database) -> None:
    """Three of ten."""
    account = await registered(quiet)
    changes = [change_username(quiet, account.id, a_name(), "hash") for _ in range(10)]
    results = await asyncio.gather(*changes, return_exceptions=True)
    assert (
        sorted(type(result).__name__ for result in results)
        == ["Account"] * 3 + ["RenamedTooOften"] * 7
    )


async def test_a_name_changes_with_the_password_of_now_only(quiet: Database) -> None:
    """Who showed the one before is asked again."""
    account = await registered(quiet)
    assert await change_username(quiet, account.id, a_name(), "another") is None
    assert await find_account(quiet, account.id) == account


async def test_two_accounts_that_take_each_other_s_name_get_neither(quiet: Database) -> None:
    """Nor does one of them hang: a name that is being given up is taken."""
    one, other = await registered(quiet), await registered(quiet)
    changes = [
        change_username(quiet, one.id, other.username, "hash"),
        change_username(quiet, other.id, one.username, "hash"),
    ]
    assert await outcomes(*changes) == ["username"] * 2


@pytest.mark.parametrize("seed", range(4))
async def test_any_history_leaves_each_name_to_one(quiet: Database, seed: int) -> None:
    """Registrations, changes and deletions at once, over few names and addresses: no error, and
    nobody takes over.
    """
    chance = random.Random(seed)  # noqa: S311 (a history that can be told again)
    names, emails = [a_name() for _ in range(4)], [f"{a_name()}@example.org" for _ in range(4)]
    first_holder: dict[str, str] = {}

    async def live() -> None:
        for _ in range(12):
            try:
                account = await create_account(
                    quiet, chance.choice(names), chance.choice(emails), "hash"
                )
                assert first_holder.setdefault(account.username, str(account.id)) == str(account.id)
                for _ in range(chance.randrange(3)):
                    name = chance.choice([*names, a_name()])
                    if await change_username(quiet, account.id, name, "hash") and name in names:
                        assert first_holder.setdefault(name, str(account.id)) == str(account.id)
                if chance.random() < 0.8:
                    assert await delete_account(quiet, account.id, "hash") is not None
                    names.append(a_name())
            except (AlreadyTaken, RenamedTooOften):
                pass

    await asyncio.gather(*(live() for _ in range(8)))
    assert first_holder
