"""Databases with another encoding, another program's tables or another schema, seen by the
commands.
"""

import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devnest.store import DataDirectory, EmbeddedPostgres
from devnest.store.migrations import HEAD
from tests.cluster.test_serve import one_line, serve
from tests.support import DevNest, eventually, execute, prepare, running

SERVED_BY_NEWER = f"UPDATE devnest_schema SET version_num = '9999', oldest_program = '{HEAD}'"  # noqa: S608 (a constant)


@pytest.fixture
def name() -> str:
    return f"d{uuid.uuid4().hex}"


@pytest.fixture
def copy(postgres: EmbeddedPostgres, name: str) -> Iterator[str]:
    """The URL of a database of its own, as `serve` makes it."""
    execute(postgres.url, f"CREATE DATABASE {name} TEMPLATE devnest", database="postgres")
    yield postgres.url.replace("/devnest?", f"/{name}?")
    execute(postgres.url, f"DROP DATABASE {name} WITH (FORCE)", database="postgres")


def commands(url: str, data_dir: Path) -> list[subprocess.CompletedProcess[str]]:
    """What `serve`, `migrate` and `user` say of it."""
    return [
        serve("--port=0", f"--database-url={url}", f"--data-dir={data_dir}"),
        *(
            subprocess.run(
                [sys.executable, "-m", "devnest", *command, f"--database-url={url}"],
                capture_output=True, text=True, timeout=120, check=False,
            )
            for command in (["migrate"], ["user", "sessions", "ada"])
        ),
    ]  # fmt: skip


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "WIN1252"])
def test_another_encoding_is_one_line(
    postgres: EmbeddedPostgres, name: str, encoding: str, data_dir: Path
) -> None:
    """Status 6.

    An encoding cannot be changed, so the line says how to make a database that will do.
    """
    execute(
        postgres.url,
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C' LOCALE_PROVIDER libc",
        database="postgres",
    )
    for run in commands(postgres.url.replace("/devnest?", f"/{name}?"), data_dir):
        assert f"its encoding is {encoding}, DevNest needs UTF8" in one_line(run, 6)


@pytest.mark.parametrize(
    "rows", ["VALUES ('0007')", "VALUES ('0008')", "VALUES ('zzz')", "VALUES ('a'), ('b')"]
)
def test_the_database_of_another_program_is_one_line(copy: str, rows: str, data_dir: Path) -> None:
    """Whatever its `alembic_version` says."""
    execute(
        copy,
        "DROP SCHEMA public CASCADE",
        "CREATE SCHEMA public",
        f"CREATE TABLE alembic_version AS {rows}",
    )
    for run in commands(copy, data_dir):
        assert "it is not DevNest's and not empty ('alembic_version' is in it)" in one_line(run, 6)


def test_a_newer_schema_is_one_line(copy: str, data_dir: Path) -> None:
    """Where it no longer serves this program."""
    execute(copy, "UPDATE devnest_schema SET version_num = '9999', oldest_program = '9998'")
    for run in commands(copy, data_dir):
        assert (
            "its schema is at revision 9999 and serves programs from revision 9998 on"
            in one_line(run, 6)
        )


def test_a_newer_schema_that_serves_this_program_is_served(copy: str, data_dir: Path) -> None:
    """By a node that starts when another has migrated; there is nothing that it could migrate."""
    execute(copy, SERVED_BY_NEWER)
    prepare(data_dir)
    with running(data_dir, f"--database-url={copy}") as devnest, devnest.client() as client:
        assert client.get("/readyz").status_code == 200
    with opened(data_dir) as url:
        execute(url, SERVED_BY_NEWER)
    with running(data_dir) as devnest, devnest.client() as client:
        assert client.get("/readyz").status_code == 200
    migrate = [sys.executable, "-m", "devnest", "migrate", f"--data-dir={data_dir}"]
    run = subprocess.run(migrate, capture_output=True, text=True, timeout=120, check=False)
    assert "its schema is at revision 9999" in one_line(run, 6)


@contextmanager
def opened(data_dir: Path) -> Iterator[str]:
    """The URL of the embedded database of a DevNest that does not run."""
    directory = DataDirectory(data_dir)
    directory.open()
    postgres = EmbeddedPostgres(directory)
    try:
        postgres.start()
        yield postgres.url
    finally:
        postgres.stop()
        directory.close()


def test_a_server_that_cannot_start_leaves_the_others_in_peace(copy: str, data_dir: Path) -> None:
    """Another node has migrated meanwhile to what this program does not know.

    A server dies, and HUP comes.
    """
    prepare(data_dir)
    with (
        running(data_dir, "--processes=2", f"--database-url={copy}") as devnest,
        devnest.client() as client,
    ):
        execute(copy, "UPDATE devnest_schema SET version_num = '9999', oldest_program = '9998'")
        victim, healthy = devnest.find("devnest.cluster.server")
        victim.kill()
        eventually(
            lambda: '"tries": 6' in said(devnest) or '"tries":6' in said(devnest)
        )  # 5 were the end once
        devnest.process.send_signal(signal.SIGHUP)
        eventually(lambda: "servers not changed" in said(devnest))
        assert healthy.is_running()
        assert client.get("/healthz").status_code == 200
        assert "9999" in client.get("/readyz").json()["database"]
        execute(copy, "UPDATE devnest_schema SET oldest_program = '0008'")
        eventually(
            lambda: (
                '"event": "child started"' in said(devnest)
                or '"event":"child started"' in said(devnest)
            )
        )
        eventually(lambda: client.get("/readyz").status_code == 200)


def said(devnest: DevNest) -> str:
    """The log so far."""
    return "".join(devnest._log)


def test_a_command_that_has_the_data_directory_is_waited_for(data_dir: Path) -> None:
    """It soon ends, and `serve` starts; one that serves does not, and is refused."""
    prepare(data_dir)
    command = DataDirectory(data_dir)
    command.open()
    with subprocess.Popen(
        [sys.executable, "-m", "devnest", "serve", "--port=0", "--processes=1", f"--data-dir={data_dir}"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            while "waiting for a command" not in (line := process.stderr.readline()):
                assert line
            command.close()
            assert process.stdout.readline().startswith("DevNest ready on")
            assert "uses it" in one_line(serve("--port=0", f"--data-dir={data_dir}"), 4)
        finally:
            process.terminate()
            process.communicate()
        assert process.returncode == 0
