"""`Pool.shared`: the first process starts the server, the others find it, and nobody loses a
call.
"""

import asyncio
import contextlib
import fcntl
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from devnest.pool import InvalidTask, Pool, PoolClosed, WorkerCrashed
from devnest.pool import launcher as launcher_module
from devnest.pool.console import _pid_of
from devnest.pool.launcher import default_path, socket_directory
from devnest.pool.wire.peer import MAX_PATH_BYTES
from tests.pool import work
from tests.pool.support import ROOT, SAFETY_S, is_running, until

CLIENT = """\
import asyncio, sys
from devnest.pool import Pool
from tests.pool import work

async def main():
    async with Pool.shared(sys.argv[1], workers=1) as pool:
        print(await pool.run(work.parent_pid))

asyncio.run(main())
"""


def has_ended(pid: int) -> bool:
    return not is_running(pid)


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for sockets, which is where `Pool.shared` looks by default."""
    with tempfile.TemporaryDirectory(prefix="pool-") as name:
        monkeypatch.setenv("XDG_RUNTIME_DIR", name)
        yield Path(name)


@pytest.fixture
async def path(directory: Path) -> AsyncIterator[Path]:
    """The path of a shared pool, whose server is killed at the end."""
    path = directory / "own" / "pool.sock"
    yield path
    for socket_path in (path, default_path()):
        pid = _pid_of(socket_path)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            await until(functools.partial(has_ended, pid))
    for server in launcher_module._started:  # one of them may be about to end
        server.kill()
        server.wait()
    launcher_module._collect()


async def test_processes_that_start_at_once_share_one_server(path: Path) -> None:
    """Each of five processes gets its answer from the same server, whoever has started it."""
    clients = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", CLIENT, str(path), cwd=ROOT, stdout=subprocess.PIPE
        )
        for _ in range(5)
    ]
    outputs = [(await client.communicate())[0] for client in clients]
    assert {client.returncode for client in clients} == {0}
    assert set(outputs) == {f"{_pid_of(path)}\n".encode()}


async def test_server_outlives_its_starter_and_leaves_when_unused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends after `LINGER_S` without a client, with its socket, and not before."""
    monkeypatch.setattr(launcher_module, "LINGER_S", 0.6)
    async with Pool.shared(path, workers=1) as first:
        server = await first.run(work.parent_pid)
        async with Pool.shared(path) as second:
            assert await second.run(work.parent_pid) == server
        await asyncio.sleep(1.5)
        assert await first.run(work.parent_pid) == server
    await until(lambda: not is_running(server))
    launcher_module._collect()
    assert not path.exists()
    async with Pool.shared(path, workers=1) as third:
        assert await third.run(work.parent_pid) != server


async def test_killed_server_is_started_again(path: Path) -> None:
    """A pure call runs on the next server; one that may have run raises; nothing else is lost."""
    async with Pool.shared(path, workers=1) as pool:
        server = await pool.run(work.parent_pid)
        gate = path.parent / "gate"
        started = path.parent / "started"
        impure = asyncio.ensure_future(pool.run(work.announce, str(started)))
        await until(started.exists)
        pure = asyncio.ensure_future(pool.run(work.pure_wait_for, str(gate)))
        await asyncio.sleep(0)
        os.kill(server, signal.SIGKILL)
        with pytest.raises(WorkerCrashed):
            await impure
        gate.touch()
        assert await pure
        assert await pool.run(work.parent_pid) not in (server, os.getpid())


async def test_stopped_server_loses_no_call(path: Path) -> None:
    """What runs is finished; calls made while it drains, pure or not, run on the next server."""
    async with Pool.shared(path, workers=1) as pool:
        server = await pool.run(work.parent_pid)
        gate = path.parent / "gate"
        running = asyncio.ensure_future(pool.run(work.wait_for, str(gate)))
        while not (await pool.stats()).running:
            pass
        os.kill(server, signal.SIGTERM)
        await until(lambda: not path.exists())
        later = [asyncio.ensure_future(pool.run(work.parent_pid)) for _ in range(20)]
        await pool.stats()  # behind them on the same connection
        assert not running.done()
        gate.touch()
        assert await running
        (successor,) = set(await asyncio.gather(*later))
        assert successor != server


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("open to others", "must belong to this user and be closed to others"),
        ("missing", "No such file or directory"),
        ("file", "File exists|Not a directory"),
        ("loop", "Too many levels of symbolic links|File exists"),
    ],
)
async def test_wrong_directory_is_told_at_once(wrong: str, words: str, directory: Path) -> None:
    """Nothing waits for the patience of an hour, and nothing is left in the directory."""
    place = directory / "place"
    match wrong:
        case "open to others":
            place.mkdir(mode=0o755)
            place.chmod(0o755)
        case "missing":
            place = directory / "missing" / "deeper"
        case "file":
            place.touch()
        case "loop":
            place.symlink_to(place)
    before = sorted(directory.rglob("*"))
    with pytest.raises(PoolClosed, match=rf"cannot be started: .*({words})"):
        async with Pool.shared(place / "pool.sock", patience=3600.0):
            pass
    assert sorted(directory.rglob("*")) == before


async def test_server_that_cannot_start_says_why(path: Path) -> None:
    """The reason is the server's own last line."""
    path.parent.mkdir(mode=0o700)
    path.mkdir()
    with pytest.raises(PoolClosed, match=r"ended with status 1.*Is a directory"):
        async with Pool.shared(path, patience=3.0):
            pass
    launcher_module._collect()


async def test_log_that_cannot_be_made_stops_nothing(path: Path) -> None:
    """The server answers all the same."""
    path.parent.mkdir(mode=0o700)
    path.with_suffix(".log").mkdir()
    async with Pool.shared(path, workers=1) as pool:
        assert await pool.run(work.add, 1, 2) == 3


async def test_lock_of_a_starter_is_respected(path: Path) -> None:
    """While another process starts a server no second one is started; its end frees the lock."""
    path.parent.mkdir(mode=0o700)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(PoolClosed):
            async with Pool.shared(path, patience=0.5):
                pass
        assert not path.exists()
    async with Pool.shared(path, workers=1) as pool:
        assert await pool.run(work.add, 1, 2) == 3


async def test_fork_after_the_start_is_told(path: Path) -> None:
    """A forked child gets an error, and its parent's connection stays whole."""
    async with Pool.shared(path, workers=1) as pool, Pool(workers=1) as own:
        for each in (pool, own):
            read, write = os.pipe()
            child = os.fork()
            if child == 0:
                text = b"no error"
                with contextlib.suppress(BaseException):
                    try:
                        each.run(work.add, 1, 2).send(None)
                    except PoolClosed as error:
                        text = str(error).encode()
                os.write(write, text)
                os._exit(0)
            os.close(write)
            assert b"start one in each process" in os.read(read, 1000)
            os.close(read)
            os.waitpid(child, 0)  # noqa: ASYNC222 (it has ended)
            assert await each.run(work.add, 1, 2) == 3


def test_default_path_is_that_of_the_environment(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of the import path and the folder of Python's programs make no difference."""
    path = default_path()
    assert path.parent == socket_directory() == directory / "devnest-pool"
    monkeypatch.setattr(sys, "path", [str(Path(sys.executable).parent), *reversed(sys.path)])
    assert default_path() == path
    monkeypatch.setattr(sys, "path", [*sys.path, str(directory)])
    assert default_path() != path
    for value in ("", "relative", str(directory / "missing")):
        monkeypatch.setenv("XDG_RUNTIME_DIR", value)
        assert socket_directory() == Path(tempfile.gettempdir()) / f"devnest-pool-{os.geteuid()}"


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 0},
        {"workers": "2"},
        {"workers": True},
        {"nice": -1},
        {"nice": 20},
        {"nice": 1.5},
        {"patience": -1},
        {"path": "/" + "x" * MAX_PATH_BYTES},
    ],
)
def test_bad_options_are_refused(options: dict[str, object]) -> None:
    """Before anything is started."""
    with pytest.raises(InvalidTask):
        Pool.shared(**options)  # type: ignore[arg-type]


async def run_command(*arguments: str) -> tuple[int, str]:
    """The status of `python -m devnest.pool ARGUMENTS`, and what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "devnest.pool", *arguments,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(SAFETY_S):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_operator_sees_and_stops_it(path: Path) -> None:
    """`stats`, `stats --json` and `stop` find the only pool; with several they ask for a path."""
    assert await run_command("stats") == (
        1,
        f"devnest.pool: no shared pool runs in "
        # Fmt: skip
        f"{socket_directory()}; give --socket for another place\n",
    )
    async with Pool.shared(workers=1) as pool:
        await pool.run(work.add, 1, 2)
        status, text = await run_command("stats")
        assert status == 0
        assert "1 done" in text
        status, text = await run_command("stats", "--json")
        assert status == 0
        assert json.loads(text)["done"] == 1
        async with Pool.shared(socket_directory() / "second.sock", workers=1):
            status, text = await run_command("stats")
            assert status == 1
            assert text.count("--socket ") == 2
            second = socket_directory() / "second.sock"
            assert (await run_command("stats", "--socket", str(second)))[0] == 0
            pid = _pid_of(second)
        status, text = await run_command("stop", "--socket", str(second))
        assert (status, text) == (0, f"stopped process {pid}\n")
    assert (await run_command("stop"))[0] == 0
    assert (await run_command("stop", "--socket", str(second)))[0] == 1
    launcher_module._collect()


async def test_status_repeats_until_interrupted(path: Path) -> None:
    """It prints a table each second and ends by Ctrl-C without a traceback."""
    async with Pool.shared(path, workers=1):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "devnest.pool", "status", "--socket", str(path),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            # The shell that started the tests may have let them ignore it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        assert process.stdout is not None
        async with asyncio.timeout(SAFETY_S):
            seen = await process.stdout.readuntil(b"in the last second")
        assert seen.count(b"workers ") == 2
        process.send_signal(signal.SIGINT)
        rest, _ = await process.communicate()
        assert b"Traceback" not in rest
        assert process.returncode == 130


async def test_server_ends_with_its_parent(path: Path) -> None:
    """`serve --with-parent`: the parent is killed, and the server leaves no socket."""
    start = (
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-m', 'devnest.pool', 'serve', '--workers', '1',\n"
        "                  '--with-parent', '--socket', sys.argv[1]])\n"
        "time.sleep(600)\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", start, str(path),
        stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        async with Pool.connect(f"unix://{path}") as pool:
            server = await pool.run(work.parent_pid)
    finally:
        parent.kill()
        await parent.wait()
    await until(lambda: not is_running(server))
    assert not path.exists()


async def test_log_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is emptied when it is larger than allowed."""
    monkeypatch.setattr(launcher_module, "MAX_LOG_BYTES", 1000)
    async with Pool.shared(path, workers=1):
        log = path.with_suffix(".log")
        log.write_bytes(b"x" * 2000)
        await until(lambda: log.stat().st_size == 0)
        assert log.stat().st_mode & 0o777 == 0o600
