"""`devnest user`: manages accounts. The audit log records each change, which works at once."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar
from uuid import UUID

import msgspec
import typer

from devnest.cli.databases import database_of
from devnest.cli.errors import Refused, reported
from devnest.cli.hashing_options import BreachedList, HashCost, HashScheme, PasswordMinLength
from devnest.cli.options import DatabaseUrl, DataDir, PostgresBin
from devnest.logs import configure_logging
from devnest.passwords import BreachedFile, Policy, Scheme, WeakPassword, hash_password
from devnest.store import (
    AlreadyTaken,
    Database,
    Event,
    Origin,
    check_schema,
    count_load_tests,
    create_account,
    disable_account,
    enable_account,
    end_sessions,
    find_account_id,
    list_sessions,
    record_event,
    remove_load_tests,
)

__all__ = ["user"]

T = TypeVar("T")
NOBODY = UUID(int=0)
ORIGIN = Origin(user_agent="devnest user")
Username = Annotated[str, typer.Argument(help="The account's username.")]
user = typer.Typer(
    help="Manage accounts, whether DevNest runs or not. Changes are effective at once on all "
    "servers.",
    no_args_is_help=True,
    add_completion=False,
)


@user.command()
def create(
    username: Annotated[
        str, typer.Argument(help="The account's username: 3 to 32 letters, digits, - and _.")
    ],
    email: Annotated[str, typer.Argument(help="The account's e-mail address.")],
    hash_scheme: HashScheme = Scheme.BCRYPT,
    hash_cost: HashCost = 12,
    password_min_length: PasswordMinLength = 8,
    breached_passwords: BreachedList = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    postgres_bin: PostgresBin = None,
) -> None:
    """Make an account. The password is read from a prompt, or else from a line of standard input.

    The rules for new passwords are those of `devnest serve`: both read the same environment
    variables.
    """
    # The API's rules for names. Imported here, because the import is slow.
    from devnest.api import Registration, describe_patterns

    asked = sys.stdin.isatty()
    try:
        password = (
            typer.prompt("Password", hide_input=True)
            if asked
            else sys.stdin.readline().rstrip("\n")
        )
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"the password is no text in {error.encoding}") from None
    policy = Policy(
        password_min_length, BreachedFile(breached_passwords) if breached_passwords else None
    )
    with reported():
        try:
            msgspec.convert(
                {"username": username, "email": email, "password": password}, Registration
            )
            asyncio.run(policy.check(password, (username, email)))
        except msgspec.ValidationError as error:
            raise Refused(describe_patterns(str(error))) from None
        except WeakPassword as weak:
            raise Refused(f"the password is {weak}") from None

    async def work(database: Database) -> str:
        try:
            password_hash = hash_password(password, hash_cost, hash_scheme.value)
            account = await create_account(database, username, email, password_hash, origin=ORIGIN)
        except AlreadyTaken as taken:
            raise Refused(str(taken)) from None
        return f"{account.username} is {account.id}"

    typer.echo(_run(work, database_url, data_dir, postgres_bin))


@user.command()
def disable(
    username: Username,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    postgres_bin: PostgresBin = None,
) -> None:
    """Disable an account: nobody can sign in to it, and its sessions end on all servers."""

    async def work(database: Database) -> str:
        account_id = await _account(database, username)
        ended = await disable_account(database, account_id)
        await _record(database, Event.ACCOUNT_DISABLE, account_id)
        return f"{username} is disabled, sessions ended: {ended}"

    typer.echo(_run(work, database_url, data_dir, postgres_bin))


@user.command()
def enable(
    username: Username,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    postgres_bin: PostgresBin = None,
) -> None:
    """Enable a disabled account, so that its holder can sign in again."""

    async def work(database: Database) -> str:
        account_id = await _account(database, username)
        await enable_account(database, account_id)
        await _record(database, Event.ACCOUNT_ENABLE, account_id)
        return f"{username} is enabled"

    typer.echo(_run(work, database_url, data_dir, postgres_bin))


@user.command()
def sessions(
    username: Username,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    postgres_bin: PostgresBin = None,
) -> None:
    """List an account's sessions: id, day of the last use before today, address and user agent."""

    async def work(database: Database) -> list[str]:
        found = await list_sessions(database, await _account(database, username), NOBODY)
        return [
            f"{s.id}  {s.last_used_at:%Y-%m-%d}  {s.address or '-'}  {s.user_agent or '-'}"
            for s in found
        ]

    for line in _run(work, database_url, data_dir, postgres_bin):
        typer.echo(line)


@user.command()
def revoke(
    username: Username,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    postgres_bin: PostgresBin = None,
) -> None:
    """End all sessions of an account, on all servers at once."""

    async def work(database: Database) -> str:
        account_id = await _account(database, username)
        ended = await end_sessions(database, account_id)
        await _record(database, Event.SESSIONS_END, account_id)
        return f"sessions ended: {len(ended)}"

    typer.echo(_run(work, database_url, data_dir, postgres_bin))


@user.command("remove-load-tests")
def remove_load_tests_(
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove them; otherwise they are only counted.")
    ] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    postgres_bin: PostgresBin = None,
) -> None:
    """Remove all accounts that `devnest load` has made, with their posts, comments and sessions.

    They are told by their names. Wait for a load test to end: its accounts would go too.
    """

    async def work(database: Database) -> str:
        if yes:
            gone = await remove_load_tests(database, ORIGIN)
            return f"removed: {gone.accounts:,} accounts and their {gone.posts:,} posts"
        found = await count_load_tests(database)
        remedy = "; --yes removes them" if found.accounts else ""
        return f"{found.accounts:,} accounts of load tests with {found.posts:,} posts{remedy}"

    typer.echo(_run(work, database_url, data_dir, postgres_bin))


def _run(
    work: Callable[[Database], Awaitable[T]],
    url: str | None,
    data_dir: Path | None,
    postgres_bin: Path | None,
) -> T:
    async def connected(url: str) -> T:
        async with Database(url, connections=1) as database:
            await check_schema(database)
            return await work(database)

    configure_logging("warning")
    with reported(), database_of(url, data_dir, postgres_bin) as url:
        return asyncio.run(connected(url))


async def _account(database: Database, username: str) -> UUID:
    account_id = await find_account_id(database, username)
    if account_id is None:
        raise Refused(f"no account is called {username}")
    return account_id


async def _record(database: Database, event: Event, account_id: UUID) -> None:
    await record_event(database, event, ORIGIN, account_id=account_id)
