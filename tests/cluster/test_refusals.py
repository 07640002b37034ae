"""A database that asks for a password and gives few rights: told in one line at the start, as
503 while serving.
"""

import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from devnest.store import DataDirectory, EmbeddedPostgres
from tests.cluster.test_serve import one_line, serve
from tests.support import PASSWORD, data_directory, eventually, execute, running, sign_in, sign_up

SECRET = "qx1/qx2#qx3?qx4@%"
OTHER = "zq1#zq2/zq3?zq4"


class Guarded:
    """A PostgreSQL that asks everybody but its owner for a password."""

    def __init__(self, postgres: EmbeddedPostgres) -> None:
        self.postgres = postgres

    def execute(self, *statements: str, database: str = "postgres") -> None:
        """As its owner."""
        execute(self.postgres.url, *statements, database=database)

    def make(self, *, owner: str) -> str:
        """A role with the password `SECRET`, and a database of the same name."""
        name = f"r{uuid.uuid4().hex[:12]}"
        self.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{SECRET}'", f"CREATE DATABASE {name}")
        if owner == "role":
            self.execute(f"ALTER DATABASE {name} OWNER TO {name}")
        return name

    def url(self, role: str, password: str, database: str) -> str:
        """For that role."""
        host = self.postgres.url.partition("host=")[2].partition("&")[0]
        return f"postgresql://{role}:{quote(password, '')}@/{database}?host={host}"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    with data_directory() as path:
        directory = DataDirectory(path)
        directory.open()
        postgres = EmbeddedPostgres(directory)
        try:
            postgres.start()
            rules = "local all devnest trust\nlocal all all scram-sha-256\n"
            (path / "postgres" / "pg_hba.conf").write_text(rules)
            guarded = Guarded(postgres)
            guarded.execute("SELECT pg_reload_conf()")
            yield guarded
        finally:
            postgres.stop()
            directory.close()


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "devnest", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def parts(password: str) -> list[str]:
    """The password, and what a parser may make of it."""
    return [password, quote(password, ""), *re.split("[/#?@%]+", password.rstrip("@%"))]


@pytest.mark.parametrize("what", ["password", "role", "database", "no database"])
def test_a_refused_connection_is_one_line(guarded: Guarded, what: str, tmp_path: Path) -> None:
    """Status 5, of every command; no part of a password is told."""
    name = guarded.make(owner="role")
    url = {
        "password": guarded.url(name, OTHER, name),
        "role": guarded.url("nobody", SECRET, name),
        "database": guarded.url(name, SECRET, "nothing"),
        "no database": guarded.url("devnest", SECRET, ""),
    }[what]
    for run in (
        serve("--port=0", f"--database-url={url}", f"--data-dir={tmp_path}"),
        command("migrate", f"--database-url={url}"),
        command("user", "sessions", "ada", f"--database-url={url}"),
    ):
        line = one_line(run, 5)
        assert "the database does not answer" in line
        assert not any(
            part in run.stderr for password in (SECRET, OTHER) for part in parts(password)
        )


def test_a_password_file_that_others_can_read_is_told_in_the_log(tmp_path: Path) -> None:
    """The driver passes over it and warns."""
    passfile = tmp_path / "passfile"
    passfile.write_text(f"*:*:*:*:{SECRET}\n")
    passfile.chmod(0o644)
    run = command("migrate", f"--database-url=postgresql://ada@127.0.0.1:1/d?passfile={passfile}")
    one_line(run, 5)
    assert "has group or world access" in run.stderr
    assert not any(part in run.stderr for part in parts(SECRET))


def test_no_right_to_make_tables_is_one_line(guarded: Guarded) -> None:
    """Status 6: trying again does not help."""
    name = guarded.make(owner="other")
    url = guarded.url(name, SECRET, name)
    assert "permission denied for schema public" in one_line(
        command("migrate", f"--database-url={url}"), 6
    )


def test_another_owner_is_one_line(guarded: Guarded) -> None:
    """The tables are there and are somebody else's."""
    name = guarded.make(owner="role")
    assert command("migrate", f"--database-url={guarded.url(name, SECRET, name)}").returncode == 0
    other = guarded.make(owner="role")
    older = "UPDATE devnest_schema SET version_num = '0007'"
    guarded.execute(older, f"GRANT SELECT ON devnest_schema TO {other}", database=name)
    url = guarded.url(other, SECRET, name)
    assert "must be owner" in one_line(command("migrate", f"--database-url={url}"), 6)


def test_a_password_that_changes_while_serving(
    guarded: Guarded, tmp_path: Path, username: str
) -> None:
    """503 until it is the old one again.

    Nothing is restarted, and nothing has it in its log or its command line.
    """
    name = guarded.make(owner="role")
    url = guarded.url(name, SECRET, name)
    assert command("migrate", f"--database-url={url}").returncode == 0
    with (
        running(tmp_path / "data", environment={"DEVNEST_DATABASE_URL": url}) as devnest,
        devnest.client() as client,
    ):
        sign_up(client, username)
        lines = [" ".join(process.cmdline()) for process in devnest.descendants()]
        guarded.execute(
            f"ALTER ROLE {name} PASSWORD '{OTHER}'",
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{name}'",  # noqa: S608
        )
        eventually(
            lambda: "password authentication failed" in client.get("/readyz").json()["database"]
        )
        answer = client.post(
            "/api/v1/auth/login", json={"username": username, "password": PASSWORD}
        )
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:devnest:database")
        guarded.execute(f"ALTER ROLE {name} PASSWORD '{SECRET}'")
        eventually(lambda: client.get("/readyz").status_code == 200)
        sign_in(client, username)
        guarded.execute(f"REVOKE ALL ON accounts FROM {name}", database=name)
        answer = client.post(
            "/api/v1/auth/login", json={"username": username, "password": PASSWORD}
        )
        assert answer.status_code == 503
        guarded.execute(f"GRANT ALL ON accounts TO {name}", database=name)
        sign_in(client, username)
    told = "\n".join([*lines, devnest.log()])
    assert "Traceback" not in told
    assert not any(part in told for password in (SECRET, OTHER) for part in parts(password))
