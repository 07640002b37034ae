"""Usernames and e-mail addresses, which are the same whatever their case, in every database."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnest.store import (
    AlreadyTaken,
    Database,
    DataDirectory,
    EmbeddedPostgres,
    change_username,
    create_account,
    find_credentials,
    find_profile,
    folded,
    migrate,
    taken_field,
)
from tests.support import data_directory

COLLATIONS = """
SELECT table_name, column_name, collation_name FROM information_schema.columns
WHERE table_schema = 'public' AND column_name IN ('username', 'email') ORDER BY 1, 2
"""


@given(st.text())
def test_only_ascii_changes(text: str) -> None:
    """What PostgreSQL does under the collation "C"."""
    assert (
        folded(text).encode("utf-8", "surrogatepass")
        == text.encode("utf-8", "surrogatepass").lower()
    )


async def test_postgresql_folds_alike(database: Database) -> None:
    """Each letter there is."""
    letters = "".join(chr(code) for code in range(1, 0x110000) if chr(code).isalpha())
    assert await database.fetch_value('SELECT lower($1::text COLLATE "C")', letters) == folded(
        letters
    )


async def test_all_columns_of_identifiers_compare_by_bytes(database: Database) -> None:
    """None depends on the database's collation."""
    columns = [tuple(row) for row in await database.fetch(COLLATIONS)]
    assert ("accounts", "username", "C") in columns
    assert {collation for *_, collation in columns} == {"C"}


@pytest.fixture(scope="module")
def turkish() -> Iterator[str]:
    """The URL of a PostgreSQL with ICU, which that of the package is built without."""
    program = shutil.which("postgres")
    if program is None:
        pytest.skip("needs a PostgreSQL with ICU on the PATH")
    with data_directory() as path:
        directory = DataDirectory(path)
        directory.open()
        postgres = EmbeddedPostgres(directory, Path(program).resolve().parent)
        try:
            postgres.start()
            yield postgres.url
        finally:
            postgres.stop()
            directory.close()


@pytest.fixture
async def turkish_database(turkish: str) -> AsyncIterator[Database]:
    """Connections to it."""
    connection = await asyncpg.connect(turkish, database="postgres")
    try:
        await connection.execute("DROP DATABASE IF EXISTS iris")
        await connection.execute(
            "CREATE DATABASE iris TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR'"
        )
    except asyncpg.FeatureNotSupportedError:
        pytest.skip("needs a PostgreSQL with ICU on the PATH")
    finally:
        await connection.close()
    url = turkish.replace("/devnest?", "/iris?")
    await migrate(url)
    async with Database(url) as database:
        assert await database.fetch_value("SELECT lower('IRIS')") == "\u0131r\u0131s"
        yield database


async def test_iris_is_one_account_in_turkish(turkish_database: Database) -> None:
    """As names that are asked for, taken, renamed to, held and signed in with."""
    database = turkish_database
    iris = await create_account(database, "IRIS", "IRIS@EXAMPLE.ORG", "hash")
    with pytest.raises(AlreadyTaken, match="username"):
        await create_account(database, "iris", "other@example.org", "hash")
    with pytest.raises(AlreadyTaken, match="email"):
        await create_account(database, "other", "iris@example.org", "hash")
    assert await taken_field(database, "iris", "") == "username"
    assert await taken_field(database, "", "iris@example.org") == "email"
    assert (await find_profile(database, "iris")) is not None
    assert (await find_credentials(database, email="iris@example.org", username=None)) is not None
    assert (await find_credentials(database, email=None, username="iris")) is not None
    assert await change_username(database, iris.id, "Iris", "hash") is not None
    assert await change_username(database, iris.id, "LILI", "hash") is not None
    for name in ("iris", "IRIS", "lili"):
        with pytest.raises(AlreadyTaken):
            await create_account(database, name, "third@example.org", "hash")
