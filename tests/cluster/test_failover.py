"""A database that turns read-only, and one that is a standby until it is promoted.

DevNest is not restarted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest

from devnest.store import DataDirectory, EmbeddedPostgres
from devnest.store.postgres.binaries import find_binaries, postgres_identity
from tests.support import PASSWORD, data_directory, eventually, execute, running, sign_in, sign_up

CUT_ALL = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name LIKE 'devnest%' AND datname = current_database()
"""


def unavailable(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.json()["type"] == "urn:devnest:database"
    assert int(answer.headers["retry-after"]) > 0


@pytest.fixture
def copy(postgres: EmbeddedPostgres, username: str) -> Iterator[str]:
    """The URL of a database of its own, as `serve` makes it."""
    execute(
        postgres.url.replace("/devnest?", "/postgres?"),
        f"CREATE DATABASE {username} TEMPLATE devnest",
    )
    yield postgres.url.replace("/devnest?", f"/{username}?")
    execute(
        postgres.url.replace("/devnest?", "/postgres?"), f"DROP DATABASE {username} WITH (FORCE)"
    )


def test_writes_are_503_while_the_database_is_read_only(
    copy: str, data_dir: Path, username: str
) -> None:
    """`/readyz` tells, reads go on, and nothing of it stays when the database can be written to
    again.
    """
    with (
        running(data_dir, "--processes=2", f"--database-url={copy}") as devnest,
        devnest.client() as client,
    ):
        sign_up(client, username)
        refresh_token = sign_in(client, username)["refresh_token"]
        post = {"title": "t", "body": "b"}
        turn(copy, username, read_only="on")
        # Each of the two servers may have been asked before; a connection that was cut is no news
        # to a third request.
        eventually(lambda: client.get("/readyz").json()["database"].endswith("it is read-only"))
        answers = [
            client.post("/api/v1/auth/login", json={"username": username, "password": PASSWORD}),
            client.post(
                "/api/v1/auth/register",
                json={"username": "new", "email": "n@x.org", "password": PASSWORD},
            ),
            client.post("/api/v1/posts", json=post),
            client.post("/api/v1/auth/refresh", json={"refresh_token": refresh_token}),
        ]
        for answer in answers:
            unavailable(answer)
        assert client.get("/readyz").status_code == 503
        assert client.get("/api/v1/posts").status_code == 200
        turn(copy, username, read_only="off")
        eventually(lambda: all(client.get("/readyz").status_code == 200 for _ in range(8)))
        for _ in range(8):
            sign_in(client, username)
            assert client.post("/api/v1/posts", json=post).status_code == 201
    assert "Traceback" not in devnest.log()


def turn(url: str, name: str, *, read_only: str) -> None:
    """As hosts do it: connections are cut once, and those that come meanwhile stay as they were
    made.
    """
    execute(
        url,
        "SET default_transaction_read_only = off",
        f"ALTER DATABASE {name} SET default_transaction_read_only = {read_only}",
        *([CUT_ALL] if read_only == "on" else []),
    )


@contextmanager
def standby(primary: EmbeddedPostgres) -> Iterator[str]:
    """The URL of a hot standby."""
    identity = postgres_identity()
    source = unquote(primary.url.partition("host=")[2].partition("&")[0])
    with data_directory() as path:
        directory = DataDirectory(path)
        directory.open()
        data = path / "postgres"
        data.mkdir(mode=0o700)
        identity.give(data)
        program = find_binaries(None, identity, path).directory / "pg_basebackup"
        copied = identity.run(
            program, "-D", data, "-R", "-c", "fast", "-h", source, "-U", "devnest"
        )
        assert copied.returncode == 0, copied.stderr
        postgres = EmbeddedPostgres(directory)
        try:
            postgres.start()
            yield postgres.url
        finally:
            postgres.stop()
            directory.close()


def test_a_standby_is_served_from_until_it_is_promoted(
    postgres: EmbeddedPostgres, data_dir: Path, username: str
) -> None:
    """A DevNest may start on it; it is ready when it can write."""
    with (
        standby(postgres) as url,
        running(data_dir, f"--database-url={url}") as devnest,
        devnest.client() as client,
    ):
        assert client.get("/readyz").status_code == 503
        assert client.get("/api/v1/posts").status_code == 200
        account = {"username": username, "email": f"{username}@example.org", "password": PASSWORD}
        unavailable(client.post("/api/v1/auth/register", json=account))
        execute(url, "SELECT pg_promote()")
        eventually(lambda: client.get("/readyz").status_code == 200)
        access_token = sign_up(client, username)
        # What ends sessions is told again, too.
        assert client.delete("/api/v1/auth/sessions").status_code == 204
        assert (
            client.get(
                "/api/v1/users/me", headers={"authorization": f"Bearer {access_token}"}
            ).status_code
            == 401
        )
