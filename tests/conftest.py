"""Fixtures: one DevNest for all tests that only talk to it, and an embedded PostgreSQL for those
of the store.
"""

import os
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from hypothesis import settings

from devnest.pool import usable_cpus
from devnest.store import Database, DataDirectory, EmbeddedPostgres
from tests.support import ALL, SHARED, DevNest, data_directory, prepare, running, sign_up

# Of SQL, on the DevNest of all tests.
EXPECTED_ERRORS = (
    "canceling statement",  # a search whose time is up, or whose client has gone
    "the username was given up not long ago",  # test_account.py goes around the API
)


# A machine may be busy, so no example has a deadline.
settings.register_profile("devnest", deadline=None)
settings.load_profile("devnest")


def pytest_configure(config: pytest.Config) -> None:
    """The first process of a session makes a directory for all: the tests run in several
    (pytest-xdist).
    """
    if not hasattr(config, "workerinput"):
        keeper = ExitStack()
        shared = keeper.enter_context(data_directory()).parent
        os.environ[SHARED] = str(shared)
        config.add_cleanup(keeper.close)


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers() -> int:
    """How many processes `-n auto` means: they wait for servers and databases more than they
    compute.
    """
    return min(8, usable_cpus() + 1)


@pytest.fixture(scope="session")
def devnest() -> Iterator[DevNest]:
    """A DevNest that runs for the whole session.

    Whatever is asked of it, its PostgreSQL has no error to log.
    """
    with data_directory() as data_dir:
        with running(data_dir) as process:
            yield process
        errors = re.findall(r"ERROR: .*", (data_dir / "postgres.log").read_text())
        assert [
            error for error in errors if not any(expected in error for expected in EXPECTED_ERRORS)
        ] == []


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    """A test that fails half-way leaves no DevNest behind."""
    before = len(ALL)
    yield
    for devnest in ALL[before:]:
        if devnest.is_running():
            devnest.kill_everything()
    del ALL[before:]


@pytest.fixture
def client(devnest: DevNest) -> Iterator[httpx.Client]:
    """An HTTP client of nobody."""
    with devnest.client() as client:
        yield client


@pytest.fixture
def username() -> str:
    """A username nobody has."""
    return f"u{uuid.uuid4().hex[:20]}"


@pytest.fixture
def member(client: httpx.Client, username: str) -> httpx.Client:
    """An HTTP client signed in as a new account named `username`."""
    sign_up(client, username)
    return client


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Where a data directory may be made."""
    with data_directory() as path:
        yield path


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """An embedded PostgreSQL without a DevNest, with the newest schema."""
    with data_directory() as path:
        prepare(path)
        directory = DataDirectory(path)
        directory.open()
        postgres = EmbeddedPostgres(directory)
        postgres.start()
        try:
            yield postgres
        finally:
            postgres.stop()
            directory.close()


@pytest.fixture
async def database(postgres: EmbeddedPostgres) -> AsyncIterator[Database]:
    """Connections to it."""
    async with Database(postgres.url) as database:
        yield database


@pytest.fixture
def no_error_is_logged(postgres: EmbeddedPostgres) -> Iterator[None]:
    """Each test fails for an error of SQL that happened in it."""
    with postgres.log_path.open() as log:
        log.seek(0, 2)
        yield
        assert [line for line in log if "ERROR:" in line] == []
