"""How long a start of PostgreSQL is waited for, where it listens, and what of the environment
reaches it.
"""

import os
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from devnest.store import DataDirectory, EmbeddedPostgres, NoSocketDirectory, PostgresFailed
from devnest.store.postgres.binaries import Identity, find_binaries, postgres_identity
from devnest.store.postgres.socket_directory import (
    MAX_ADDRESS_BYTES,
    OTHERS,
    SOCKET,
    clear_socket_directories,
    make_socket_directory,
)
from tests.support import data_directory, prepare, running, sign_up

BURN = "i=0; while [ $i -lt 3000000 ]; do i=$((i+1)); done"
SAY = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.3; echo redo in progress >&2; done"


@contextmanager
def delayed(data_dir: Path, delay: str) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL whose program does something else first, as long as it is asked for more than
    its version.
    """
    prepare(data_dir)
    directory = DataDirectory(data_dir)
    directory.open()
    programs = data_dir / "bin"
    programs.mkdir(mode=0o755)
    real = find_binaries(None, postgres_identity(), data_dir)
    for program in (real.initdb, real.postgres):
        (programs / program.name).write_text(
            f'#!/bin/sh\n[ "$1" = --version ] || {{ {delay}; }}\nexec {program} "$@"\n'
        )
        (programs / program.name).chmod(0o755)
    postgres = EmbeddedPostgres(directory, programs)
    try:
        yield postgres
    finally:
        postgres.stop()
        directory.close()


@pytest.mark.parametrize("delay", [BURN, SAY], ids=["burn", "say"])
def test_a_start_that_moves_is_waited_for(
    data_dir: Path, delay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its CPU time or by its log, longer than one that does not.

    DevNest's own log says so now and then.
    """
    monkeypatch.setattr("devnest.store.postgres.startup.MAX_STANDSTILL_S", 2.0)
    monkeypatch.setattr("devnest.store.postgres.startup.CHECK_INTERVAL_S", 0.05)
    monkeypatch.setattr("devnest.store.postgres.startup.REPORT_INTERVAL_S", 0.3)
    with capture_logs() as lines, delayed(data_dir, delay) as postgres:
        postgres.start()
    reports = [line for line in lines if line["event"] == "postgresql still starts"]
    assert reports
    if delay == SAY:
        assert "redo in progress" in [line["last_line"] for line in reports]


def test_a_start_that_stands_still_ends(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed, and may be tried again. Nothing of it is left."""
    seconds = f"600.{os.getpid()}"  # tells this test's process from those of others
    monkeypatch.setattr("devnest.store.postgres.startup.MAX_STANDSTILL_S", 0.5)
    monkeypatch.setattr("devnest.store.postgres.startup.CHECK_INTERVAL_S", 0.05)
    monkeypatch.setattr("devnest.store.postgres.embedded.STOP_TIMEOUT_S", 0.2)
    with (
        delayed(data_dir, f"exec sleep {seconds}") as postgres,
        pytest.raises(PostgresFailed, match=r"did nothing for 300 s"),
    ):
        postgres.start()
    assert postgres.pid is None
    for process in psutil.process_iter(["cmdline"]):
        assert seconds not in (process.info["cmdline"] or ())


HOSTILE = {
    "PGPORT": "1", "PGHOST": "/nowhere", "PGUSER": "nobody", "PGDATABASE": "nothing", "PGPASSWORD": "geheim",
    "PGSSLMODE": "verify-full", "PGSSLNEGOTIATION": "direct", "PGSSLROOTCERT": "/nowhere", "PGGSSLIB": "nothing",
    "PGTARGETSESSIONATTRS": "standby", "PGSERVICE": "nothing", "PGSERVICEFILE": "/nowhere", "PGPASSFILE": "/nowhere",
    "PGOPTIONS": "-c nothing=1", "PGDATA": "/nowhere", "PGTZ": "nowhere", "PGCLIENTENCODING": "LATIN1",
    "TZ": "nowhere", "LC_MESSAGES": "de_DE.UTF-8",
}  # fmt: skip


def test_variables_of_other_databases_do_not_reach_the_embedded_one(
    data_dir: Path, username: str
) -> None:
    """Neither the one that makes and runs it nor those that connect to it."""
    with running(data_dir, environment=HOSTILE, fresh=True) as devnest, devnest.client() as client:
        sign_up(client, username)
        assert client.get("/readyz").status_code == 200
        (postgres,) = [
            process
            for process in devnest.descendants()
            if process.name() == "postgres" and process.cmdline()[1:2] == ["-D"]
        ]
        assert set(postgres.environ()) <= {"PATH", "LC_ALL", "LD_LIBRARY_PATH"}


@pytest.fixture
def parent() -> Iterator[Path]:
    """A directory that everyone can enter."""
    with data_directory() as path:
        yield path.parent


def place(kind: str, parent: Path) -> str:
    """A temporary directory that will not do; only a name where it does not exist."""
    name = {
        "long": "x" * 90, "comma": "a,b", "space": "a b", "quote": 'a"b', "foreign": "ä", "line": "a\nb",
        "private": "private", "missing": "missing", "file": "file",
    }[kind]  # fmt: skip
    path = parent / name
    if kind == "file":
        path.write_text("")
    elif kind != "missing":
        path.mkdir(mode=0o700 if kind == "private" else 0o755)
    return str(path)


KINDS = ["long", "comma", "space", "quote", "foreign", "line", "private", "missing", "file"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_temporary_directory_that_will_not_do_is_passed_over(
    kind: str, parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is chosen is private, short enough, and cleared with the rest."""
    if kind == "private" and os.geteuid() != 0:
        pytest.skip("it is private to root")
    monkeypatch.setattr("tempfile.tempdir", place(kind, parent))
    home = parent / "data"
    home.mkdir(mode=0o711)
    identity = postgres_identity()
    path = make_socket_directory(home, identity)
    assert str(path.parent) in (*OTHERS, str(home))
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert len(f"{path}/{SOCKET}") <= MAX_ADDRESS_BYTES
    assert list(path.iterdir()) == []
    other = make_socket_directory(home, identity)
    clear_socket_directories(home, other)
    assert not path.exists()
    assert other.exists()
    shutil.rmtree(other)


def test_no_place_at_all_is_one_line_with_each_reason(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the variable that helps."""
    monkeypatch.setattr("tempfile.tempdir", place("comma", parent))
    monkeypatch.setattr(
        "devnest.store.postgres.socket_directory.OTHERS",
        (place("long", parent), place("file", parent)),
    )
    home = parent / "a b"
    home.mkdir()
    with pytest.raises(NoSocketDirectory, match="TMPDIR") as caught:
        make_socket_directory(home, Identity())
    assert "\n" not in str(caught.value)
    for reason in ("characters other than", "too long", "Not a directory"):
        assert reason in str(caught.value)


@pytest.mark.parametrize("kind", ["long", "comma", "private"])
def test_it_serves_whatever_the_temporary_directory_is(
    kind: str, parent: Path, data_dir: Path
) -> None:
    """From its ready line to a clean stop."""
    with running(data_dir, environment={"TMPDIR": place(kind, parent)}) as devnest:
        socket_dir = Path((data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[4])
        with devnest.client() as client:
            assert client.get("/readyz").status_code == 200
    assert not socket_dir.exists()


def test_a_socket_directory_that_was_taken_for_old_is_made_again(data_dir: Path) -> None:
    """A cleaner of /tmp removed it; the servers know its name."""
    prepare(data_dir)
    directory = DataDirectory(data_dir)
    directory.open()
    postgres = EmbeddedPostgres(directory)
    try:
        postgres.start()
        url = postgres.url
        path = Path((data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[4])
        assert postgres.pid is not None
        os.kill(postgres.pid, 9)
        shutil.rmtree(path)
        while postgres.exit_status is None:
            pass
        postgres.start()
        assert postgres.url == url
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path / SOCKET))
    finally:
        postgres.stop()
        directory.close()
