"""The shared pool: the same promises as in one process, and those between processes."""

import asyncio
import contextlib
import fcntl
import functools
import gc
import math
import os
import resource
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from devnest.pool import (
    DeadlineExceeded,
    InvalidTask,
    Pool,
    PoolClosed,
    PoolError,
    PoolFull,
    PoolServer,
    RemotePool,
    TaskTimeout,
    WorkerCrashed,
    WorkerTraceback,
)
from devnest.pool import client as client_module
from devnest.pool import link as link_module
from devnest.pool import server as server_module
from devnest.pool.functions import Function
from devnest.pool.wire.payload import MIN_SEGMENT_BYTES, pack_call
from devnest.pool.wire.peer import connect, is_same_user, parse_url
from devnest.pool.wire.protocol import (
    MAX_FRAME_BYTES,
    VERSION,
    Kind,
    Submission,
    frame,
    write_greeting,
    write_submission,
)
from tests.pool import work
from tests.pool.conftest import descriptors
from tests.pool.support import ROOT, SAFETY_S, ServerProcess, is_running, serving, until

F_SETPIPE_SZ = 1031  # linux/fcntl.h


@pytest.fixture
async def server(socket_path: Path) -> AsyncIterator[PoolServer]:
    """A server with one worker, in this process."""
    async with PoolServer(socket_path, workers=1, max_queue=4) as server:
        yield server


@pytest.fixture
async def pool(server: PoolServer) -> AsyncIterator[RemotePool]:
    """A client of it."""
    async with Pool.connect(server.url) as pool:
        yield pool


async def test_errors_cross_the_server(pool: RemotePool, tmp_path: Path) -> None:
    """Results, a task's own exception with its traceback, and each error of the pool, as in one
    process.
    """
    assert await pool.run(work.add, 1, 2) == 3
    assert await pool.run(work.keywords, a=1) == {"a": 1}
    with pytest.raises(LookupError, match="told") as caught:
        await pool.run(work.fail, "told")
    assert isinstance(caught.value.__cause__, WorkerTraceback)
    with pytest.raises(WorkerCrashed, match="with status 5"):
        await pool.run(work.exit_at_once, 5)
    with pytest.raises(TaskTimeout):
        await pool.run(work.wait_for, str(tmp_path / "never"), timeout=0.1)
    with pytest.raises(DeadlineExceeded):
        await pool.run(work.wait_for, str(tmp_path / "never"), deadline=0.2)
    with pytest.raises(InvalidTask):
        await pool.run(work.echo, lambda: 1)
    assert await pool.run(work.add, 1, 1) == 2
    gate = tmp_path / "gate"
    tasks = [asyncio.ensure_future(pool.run(work.wait_for, str(gate))) for _ in range(5)]
    while (await pool.stats()).queued < 4:
        pass
    with pytest.raises(PoolFull) as full:
        await pool.run(work.add, 1, 1)
    assert full.value.retry_after > 0
    gate.touch()
    assert len(await asyncio.gather(*tasks)) == 5
    assert await pool.run(work.add, 2, 2) == 4


@pytest.mark.parametrize("away", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"priority": 1.0},
        {"key": "\ud800"},
        {"deadline": "x"},
        {"deadline": math.nan},
        {"timeout": 10**400},
        {},
    ],
)
async def test_call_that_cannot_be_sent_is_refused(
    socket_path: Path, away: bool, options: dict[str, Any]
) -> None:
    """At once, connected or not.

    The calls behind it are answered, and closing does not wait for it.
    """
    async with (
        serving(socket_path, "--workers", "1") as server,
        Pool.connect(f"unix://{socket_path}") as pool,
    ):
        pool._functions[work.echo] = Function("m:" + "f" * 70_000)
        if away:
            await server.end(signal.SIGKILL)
            await until(lambda: "away" in repr(pool))
        func = work.pure_echo if options else work.echo
        with pytest.raises(InvalidTask):
            await pool.run(func, 1, **options)
        behind = asyncio.ensure_future(pool.run(work.pure_echo, 1, priority=True, deadline=60))
        if away:
            server.start()
            await server.ready()
        assert await behind == 1
        assert "open=0" in repr(pool)


async def test_large_payloads_pass_through(pool: RemotePool) -> None:
    """As files, which the server never opens."""
    assert await pool.run(work.echo, b"x" * 3_000_000) == b"x" * 3_000_000
    assert await asyncio.gather(*(pool.run(work.large, 300_000 + i) for i in range(3))) == [
        b"r" * (300_000 + i) for i in range(3)
    ]


async def test_call_too_large_for_the_server_is_refused(
    socket_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By the client, connected or not, and to the byte: such a frame would end the connection of
    all its calls.
    """
    fits = "x" * 90_000
    submission = Submission(
        Function("tests.pool.work:pure_echo", 0, True), pack_call((fits,), {}), 0, "", 1e9, 1e9
    )
    body_bytes = len(write_submission(1, submission)[0]) - len(frame(Kind.SUBMIT, 1))
    pool = Pool.connect(f"unix://{socket_path}")
    async with PoolServer(socket_path, workers=1):
        await pool.start()
        assert await pool.run(work.pure_echo, fits + "x") == fits + "x"
    await until(lambda: "away" in repr(pool))
    calls = [asyncio.ensure_future(pool.run(work.pure_echo, text)) for text in (fits + "x", fits)]
    async with PoolServer(socket_path, workers=1, max_frame_bytes=body_bytes):
        with pytest.raises(InvalidTask, match="the server takes"):
            await calls[0]
        assert await calls[1] == fits
        gate = tmp_path / "gate"
        behind = asyncio.ensure_future(pool.run(work.wait_for, str(gate)))
        with pytest.raises(InvalidTask, match="the server takes"):
            await pool.run(work.pure_echo, fits + "x")
        gate.touch()
        await behind
        await pool.close()
    assert "not a frame" not in caplog.text


@pytest.mark.parametrize("clock", [{"timeout": 600}, {"deadline": 600}])
async def test_what_is_done_is_not_kept(pool: RemotePool, clock: dict[str, Any]) -> None:
    """Neither by the server nor by its client, although the call's clock runs on."""
    large = b"x" * MIN_SEGMENT_BYTES
    assert await pool.run(work.echo, large, **clock) == large
    await until(
        lambda: (
            gc.collect() >= 0
            and not any("memfd:devnest.pool " in what for what in descriptors().values())
        )
    )


async def test_batches_form_over_all_clients(server: PoolServer, tmp_path: Path) -> None:
    """Calls of two clients share a batch."""
    gate = tmp_path / "gate"
    async with Pool.connect(server.url) as one, Pool.connect(server.url) as two:
        first = asyncio.ensure_future(one.run(work.wait_for, str(gate)))
        await until(lambda: server.stats().running)
        calls = [
            asyncio.ensure_future(pool.run(work.square_all, i))
            for i, pool in enumerate([one, two, one, two])
        ]
        await until(lambda: server.stats().queued == 4)
        gate.touch()
        assert await asyncio.gather(*calls) == [(i * i, 4) for i in range(4)]
        await first


async def test_a_client_learns_how_long_calls_waited_and_ran(
    server: PoolServer, tmp_path: Path
) -> None:
    """In the context of each caller; of errors of the pool and of statistics there is nothing."""
    caller: ContextVar[str] = ContextVar("caller", default="")
    told: dict[str, tuple[float, float]] = {}

    def record(wait_s: float, run_s: float) -> None:
        told[caller.get()] = (wait_s, run_s)

    client = Pool.connect(server.url, record_times=record)

    async def call(name: str, function: Callable[..., Any], *args: object) -> Any:
        caller.set(name)
        return await client.run(function, *args)

    gate = tmp_path / "gate"
    async with client:
        first = asyncio.create_task(call("first", work.wait_for, str(gate)))
        await until(lambda: server.stats().running)
        second = asyncio.create_task(call("second", work.fail, "x"))
        await until(lambda: server.stats().queued)
        await client.stats()
        assert not told
        gate.touch()
        await first
        with pytest.raises(LookupError, match="x"):
            await second
        with pytest.raises(DeadlineExceeded):
            await client.run(work.add, 1, 2, deadline=0.0)
    assert set(told) == {"first", "second"}
    # The second waited while the first ran.
    assert told["first"][1] > told["first"][0] >= 0
    assert told["second"][0] > 0 < told["second"][1]


async def test_cancel_reaches_the_server(
    pool: RemotePool, server: PoolServer, tmp_path: Path
) -> None:
    """Waiting: out of the queue. Running: its worker is killed."""
    started = tmp_path / "started"
    running = asyncio.ensure_future(pool.run(work.announce, str(started)))
    waiting = asyncio.ensure_future(pool.run(work.add, 1, 1))
    await until(lambda: server.stats().queued and started.exists())
    waiting.cancel()
    await until(lambda: server.stats().queued == 0)
    running.cancel()
    assert await pool.run(work.add, 2, 2) == 4
    assert server.stats().restarts == {"cancel": 1}


async def test_client_that_leaves_takes_its_waiting_tasks_along(
    server: PoolServer, tmp_path: Path
) -> None:
    """The other client's tasks go on."""
    gate = tmp_path / "gate"
    async with Pool.connect(server.url) as staying:
        leaving = Pool.connect(server.url)
        await leaving.start()
        tasks = [asyncio.ensure_future(leaving.run(work.wait_for, str(gate))) for _ in range(3)]
        await until(lambda: server.stats().queued == 2)
        kept = asyncio.ensure_future(staying.run(work.add, 1, 1))
        await until(lambda: server.stats().queued == 3)
        await leaving.close(force=True)
        await until(lambda: server.stats().queued == 1)
        for task in tasks:
            with pytest.raises(PoolClosed):
                await task
        gate.touch()
        assert await kept == 2


async def test_clients_take_turns(server: PoolServer, tmp_path: Path) -> None:
    """Three tasks of one client do not stand before another's one."""
    gate, trace = tmp_path / "gate", tmp_path / "trace"
    async with Pool.connect(server.url) as one, Pool.connect(server.url) as two:
        first = asyncio.ensure_future(one.run(work.wait_for, str(gate)))
        await until(lambda: server.stats().running)
        tasks = [asyncio.ensure_future(one.run(work.append, str(trace), "1")) for _ in range(3)]
        await until(lambda: server.stats().queued == 3)
        tasks.append(asyncio.ensure_future(two.run(work.append, str(trace), "2")))
        await until(lambda: server.stats().queued == 4)
        gate.touch()
        await asyncio.gather(first, *tasks)
    assert trace.read_text() == "1211"


async def test_only_what_is_allowed_runs(socket_path: Path) -> None:
    """A module, or one function of another."""
    serving_few = PoolServer(socket_path, workers=1, allow=["math", "tests.pool.work:add"])
    async with serving_few as server, Pool.connect(server.url) as pool:
        assert await pool.run(work.add, 1, 2) == 3
        assert await pool.run(math.sqrt, 4) == 2
        with pytest.raises(InvalidTask, match="does not run"):
            await pool.run(work.echo, 1)


async def test_functions_of_a_clients_script_are_refused(server: PoolServer) -> None:
    """The server's workers know another main script, or none."""
    with pytest.raises(InvalidTask, match="main script"):
        server.check_allowed("__main__:f")


async def test_stats_cross_the_server(pool: RemotePool, server: PoolServer) -> None:
    """The client reads what the server counts."""
    assert await pool.run(work.add, 1, 1, priority=3) == 2
    stats = await pool.stats()
    assert stats.done == 1
    assert stats.run.count == 1
    assert stats.workers == server.stats().workers


@pytest.mark.parametrize(
    "url",
    ["/run/pool.sock", "tcp://localhost:1", "unix://relative", "unix:///" + "x" * 110],
    ids=len,
)
def test_addresses_are_checked(url: str) -> None:
    """Before anything is tried."""
    with pytest.raises(InvalidTask):
        Pool.connect(url)
    with pytest.raises(InvalidTask):
        parse_url(url)


async def test_absent_server_is_waited_for_and_then_reported(socket_path: Path) -> None:
    """A client that finds none within its patience says so."""
    with pytest.raises(PoolClosed, match="no pool server"):
        await Pool.connect(f"unix://{socket_path}", patience=0.1).start()


async def test_cancelled_start_stops_connecting(socket_path: Path) -> None:
    """Nothing goes on looking for a server that nobody waits for."""
    before = asyncio.all_tasks()
    starting = asyncio.ensure_future(Pool.connect(f"unix://{socket_path}").start())
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert asyncio.all_tasks() == before


async def test_directory_must_be_closed_to_others(socket_path: Path) -> None:
    """One that others may enter is refused and left as it is; one that is missing is made."""
    socket_path.parent.chmod(0o755)
    with pytest.raises(PermissionError, match="chmod 700"):
        await PoolServer(socket_path, workers=1).start()
    assert stat.S_IMODE(socket_path.parent.stat().st_mode) == 0o755
    inner = socket_path.parent / "made" / "pool.sock"
    async with PoolServer(inner, workers=1):
        assert stat.S_IMODE(inner.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(inner.stat().st_mode) == 0o600
    inner.parent.rmdir()


async def test_second_server_is_refused_and_a_dead_ones_socket_replaced(socket_path: Path) -> None:
    """A file that nobody answers on is no obstacle."""
    async with PoolServer(socket_path, workers=1) as server:
        with pytest.raises(FileExistsError, match="another pool server"):
            await PoolServer(socket_path, workers=1).start()
        async with Pool.connect(server.url) as pool:
            assert await pool.run(work.add, 1, 1) == 2
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(socket_path))
    async with PoolServer(socket_path, workers=1) as server, Pool.connect(server.url) as pool:
        assert await pool.run(work.add, 1, 1) == 2


@pytest.mark.parametrize("how", ["file", "directory", "replaced", "closed for a while"])
async def test_socket_file_that_goes_is_made_again(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """Whatever removed it: new clients find the server, those it has stay, and its file goes
    with it as ever.
    """
    monkeypatch.setattr(server_module, "SOCKET_CHECK_S", 0.01)
    path = socket_path.parent / "runtime" / "pool.sock"
    async with PoolServer(path, workers=1) as server, Pool.connect(server.url) as old:
        path.unlink()
        if how == "directory":
            path.parent.rmdir()
        elif how == "replaced":
            path.write_bytes(b"no socket")
        elif how == "closed for a while":
            path.parent.chmod(0o755)
            await until(lambda: caplog.records)
            assert "cannot be made again" in caplog.text
            path.parent.chmod(0o700)
        async with Pool.connect(server.url) as new:
            assert await new.run(work.add, 1, 1) == 2
        assert await old.run(work.add, 1, 1) == 2
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert len(caplog.records) == (2 if how == "closed for a while" else 1)
    assert not path.exists()
    path.parent.rmdir()


# Whoever does not speak the protocol.


def greeted() -> bytes:
    return frame(Kind.HELLO, VERSION)


def greeting() -> bytes:
    return write_greeting(MAX_FRAME_BYTES)


def call(request_id: int) -> bytes:
    return write_submission(
        request_id,
        Submission(Function("tests.pool.work:add"), pack_call((1, 2), {}), 0, "", 1e9, 1e9),
    )[0]


BAD = {
    "garbage": os.urandom(4096),
    "zeros": bytes(4096),
    "no greeting": call(1),
    "wrong version": frame(Kind.HELLO, VERSION + 1),
    "greeting twice": greeted() * 2,
    "oversized frame": greeted() + struct.pack("<IBBQ", 0xFFFFFFFF, Kind.SUBMIT, 0, 1),
    "frame of a worker": greeted() + frame(Kind.DONE, 1),
    "not a submission": greeted() + frame(Kind.SUBMIT, 1, b"?"),
    "same id twice": greeted() + call(1) + call(1),
    "descriptor missing": greeted() + struct.pack("<IBBQ", 0, Kind.SUBMIT, 1, 1),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
async def test_bad_frames_end_that_connection_only(
    data: bytes, server: PoolServer, pool: RemotePool, caplog: pytest.LogCaptureFixture
) -> None:
    """The server hangs up on it, says why in its log, and others do not notice."""
    reader, writer = await asyncio.open_unix_connection(parse_url(server.url))
    writer.write(data)
    while await reader.read(65536):  # the server's greeting, perhaps an answer, then the end
        pass
    writer.close()
    assert "is gone" in caplog.text
    assert await pool.run(work.add, 2, 2) == 4


async def test_truncated_frame_ends_with_its_connection(
    server: PoolServer, pool: RemotePool
) -> None:
    """Half a call is no call."""
    _, writer = await asyncio.open_unix_connection(parse_url(server.url))
    writer.write(greeting() + call(1)[:-3])
    writer.close()
    assert await pool.run(work.add, 2, 2) == 4
    assert server.stats().done == 1


async def test_client_that_says_nothing_is_sent_away(
    server: PoolServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection costs a descriptor, so it has to greet within a time."""
    monkeypatch.setattr(server_module, "HELLO_TIMEOUT_S", 0.05)
    reader, writer = await asyncio.open_unix_connection(parse_url(server.url))
    while await reader.read(65536):
        pass
    writer.close()


@pytest.mark.parametrize("size", [200_000, 300_000])
async def test_client_that_does_not_read_is_sent_away(
    size: int, socket_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Replies for it are kept up to a bound, and so are those in memory files."""
    monkeypatch.setattr(server_module, "MAX_UNREAD_BYTES", 1_000_000)
    async with PoolServer(socket_path, workers=1) as server:
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.connect(str(socket_path))
            await until(lambda: server._clients)
            for client in server._clients.values():  # so that few frames fit, however small
                client._channel._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
            asking = Submission(
                Function("tests.pool.work:large"), pack_call((size,), {}), 0, "", 1e9, 1e9
            )
            deaf.sendall(greeted() + b"".join(write_submission(i, asking)[0] for i in range(20)))
            await until(lambda: "does not read" in caplog.text)
        async with Pool.connect(server.url) as pool:
            assert await pool.run(work.add, 2, 2) == 4


async def test_client_sent_away_takes_no_other_clients_answer_along(
    socket_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Of a batch that both share, its own answers are too many for it, and the others still
    come.
    """
    monkeypatch.setattr(server_module, "MAX_UNREAD_BYTES", 100_000)
    gate = str(tmp_path / "gate")
    async with PoolServer(socket_path, workers=1) as server, Pool.connect(server.url) as pool:
        first = asyncio.ensure_future(pool.run(work.wait_for, gate))
        await until(lambda: server.stats().running)
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(str(socket_path))
            function = Function("tests.pool.work:echo_all", 8)
            asking = Submission(function, pack_call(("x" * 150_000,), {}), 0, "", 1e9, 1e9)
            deaf.sendall(greeted())
            for number in range(1, 5):
                sending = asyncio.to_thread(deaf.sendall, write_submission(number, asking)[0])
                await asyncio.gather(sending, until(functools.partial(_queued, server, number)))
            others = [asyncio.ensure_future(pool.run(work.echo_all, number)) for number in range(3)]
            await until(functools.partial(_queued, server, 7))
            Path(gate).touch()
            assert await asyncio.gather(*others) == [0, 1, 2]
            assert "does not read" in caplog.text
        await first


def _queued(server: PoolServer, count: int) -> bool:
    return server.stats().queued >= count


async def test_clients_are_counted(
    server: PoolServer, pool: RemotePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound a connection is closed at once."""
    monkeypatch.setattr(server_module, "MAX_CLIENTS", 1)
    reader, writer = await asyncio.open_unix_connection(parse_url(server.url))
    assert await reader.read() == b""
    writer.close()
    assert await pool.run(work.add, 2, 2) == 4


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def pretending(path: Path, handler: Handler) -> AsyncIterator[None]:
    """Something on the socket that is no pool server.

    Each connection is closed when its handler is done.
    """

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await handler(reader, writer)
        writer.close()

    server = await asyncio.start_unix_server(handle, path)
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()
        path.unlink(missing_ok=True)


async def test_reply_to_an_unknown_request_ends_the_connection(socket_path: Path) -> None:
    """A client believes no reply that it did not ask for; it connects again instead."""
    connections = 0

    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(greeting() + frame(Kind.REPLY, 12345, b"\0" + pack_call((), {}).data))
        await reader.read()

    async with pretending(socket_path, lie):
        pool = Pool.connect(f"unix://{socket_path}", patience=1.0)
        await pool.start()
        with pytest.raises(PoolError):
            await pool.run(work.add, 1, 1)
        assert connections >= 1
        await pool.close(force=True)


async def test_refused_client_pauses_between_attempts(socket_path: Path) -> None:
    """A connection that is closed before the greeting counts as an attempt that failed, and
    starts nothing.
    """
    connections = 0

    async def refuse(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1

    started_at = time.monotonic()
    pool = Pool.connect(f"unix://{socket_path}", patience=SAFETY_S)
    starting = asyncio.ensure_future(pool.start())
    async with pretending(socket_path, refuse):
        await until(lambda: connections >= 8)
        assert (
            time.monotonic() - started_at >= 0.02 + 0.04 + 0.08 + 4 * 0.1
        )  # the pauses between eight attempts
        assert not starting.done()
    async with PoolServer(socket_path, workers=1):
        await starting
        assert await pool.run(work.pure_echo, 1) == 1
        assert pool._link._retry_s == 0
        await pool.close()


UNWELCOMING = {
    "closes": (b"", "the last connection: "),
    "other version": (frame(Kind.HELLO, VERSION + 1), "speaks version"),
    "no limit": (frame(Kind.HELLO, VERSION), "how large"),
    "no greeting": (frame(Kind.REPLY, 1), "no greeting"),
    "garbage": (b"\xff" * 100, "not a frame"),
}


@pytest.mark.parametrize(("data", "reason"), UNWELCOMING.values(), ids=UNWELCOMING.keys())
async def test_start_says_why_there_was_no_greeting(
    data: bytes, reason: str, socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection is no server yet."""
    monkeypatch.setattr(link_module, "MIN_GREETING_S", 0.0)

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    async with pretending(socket_path, answer):
        with pytest.raises(PoolClosed, match=reason):
            await Pool.connect(f"unix://{socket_path}", patience=0.2).start()


async def test_start_does_not_wait_for_ever_for_a_greeting(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel connects to a process that hangs."""
    monkeypatch.setattr(link_module, "MIN_GREETING_S", 0.1)
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.bind(str(socket_path))
        hanging.listen()
        with pytest.raises(PoolClosed, match="no pool server"):
            await Pool.connect(f"unix://{socket_path}", patience=0.05).start()
    socket_path.unlink()


async def test_call_that_no_server_took_in_never_ran(socket_path: Path) -> None:
    """A server that is full accepts and closes: pure or not, calls wait out the patience, and
    nothing else.
    """
    connections = 0

    async def greet_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        if connections == 1:
            writer.write(greeting())
            await reader.readexactly(len(greeted()) + len(call(1)))

    async with pretending(socket_path, greet_once):
        pool = Pool.connect(f"unix://{socket_path}", patience=1.0)
        await pool.start()
        sent = asyncio.ensure_future(pool.run(work.pure_echo, 1))
        await until(lambda: "away" in repr(pool))
        async with asyncio.timeout(SAFETY_S):
            errors = await asyncio.gather(
                sent,
                pool.run(work.pure_echo, 1, deadline=SAFETY_S),
                pool.run(work.add, 1, 1, deadline=SAFETY_S),
                pool.stats(),
                return_exceptions=True,
            )
        assert [type(error) for error in errors] == [
            WorkerCrashed,
            PoolClosed,
            PoolClosed,
            PoolClosed,
        ]
        assert "did not return" in str(errors[0])
        assert connections > 2
        await pool.close(force=True)


async def test_call_that_ends_its_connection_is_sent_a_few_times(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a pause between: a greeting alone is no sign that the server is well again."""
    monkeypatch.setattr(client_module, "MAX_SENDS", 5)
    connections = 0

    async def greet_and_leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(greeting())
        with contextlib.suppress(asyncio.IncompleteReadError):  # the client has gone
            await reader.readexactly(len(greeted()) + 1)

    async with pretending(socket_path, greet_and_leave):
        pool = Pool.connect(f"unix://{socket_path}")
        await pool.start()
        started_at = time.monotonic()
        for ask in (lambda: pool.run(work.pure_echo, 1), pool.stats):
            connections = 1
            async with asyncio.timeout(SAFETY_S):
                with pytest.raises(WorkerCrashed, match="went away while it had the task"):
                    await ask()
            assert connections == 5
            await until(lambda: "connected" in repr(pool))
        assert (
            time.monotonic() - started_at >= 0.02 + 0.04 + 0.08 + 6 * 0.1
        )  # the pauses before the nine others
        await pool.close(force=True)


def test_other_users_are_refused(socket_path: Path) -> None:
    """A process of another user cannot connect.

    And where it could, the server and the client refuse it.
    """
    left, right = socket.socketpair()
    with left, right:
        assert is_same_user(left)
    if os.geteuid() != 0:
        return  # the rest needs two users; the check itself has been made
    nobody = 65534
    code = (
        "import os, socket, sys\n"
        f"os.setgid({nobody}); os.setuid({nobody})\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "try: s.connect(sys.argv[1])\n"
        "except PermissionError: sys.exit(13)\n"
        "sys.exit(0 if s.recv(100) == b'' else 1)\n"
    )

    async def main() -> tuple[int, int]:
        async with PoolServer(socket_path, workers=1):
            command = [sys.executable, "-c", code, str(socket_path)]
            closed = await asyncio.to_thread(subprocess.run, command, check=False)
            # As if somebody had opened the directory afterwards: the kernel lets it in, the server
            # does not.
            socket_path.parent.chmod(0o711)
            socket_path.chmod(0o666)
            opened = await asyncio.to_thread(subprocess.run, command, check=False)
            return closed.returncode, opened.returncode

    assert asyncio.run(main()) == (13, 0)


# Deaths.


@pytest.mark.parametrize("started", [False, True])
async def test_tasks_in_flight_when_the_server_dies(
    socket_path: Path, tmp_path: Path, started: bool
) -> None:
    """Pure ones are answered by the next server, others fail clearly, waiting or running."""
    gate = tmp_path / "gate"
    async with (
        serving(socket_path, "--workers", "1") as server,
        Pool.connect(f"unix://{socket_path}") as pool,
    ):
        first = asyncio.ensure_future(pool.run(work.wait_for, str(gate)))
        pure = [asyncio.ensure_future(pool.run(work.pure_echo, i)) for i in range(3)]
        other = asyncio.ensure_future(pool.run(work.add, 1, 1))
        if started:
            while (await pool.stats()).queued < 4:
                pass
        else:
            await asyncio.sleep(0)
        await server.restart_after_kill()
        with pytest.raises(WorkerCrashed, match="server went away"):
            await first
        with pytest.raises(WorkerCrashed, match="server went away"):
            await other
        assert await asyncio.gather(*pure) == [0, 1, 2]
        assert await pool.run(work.add, 2, 2) == 4


async def test_server_that_does_not_return(socket_path: Path) -> None:
    """After the client's patience its pure tasks fail too; new calls are refused at once.

    And all is well later.
    """
    here = Pool.connect(f"unix://{socket_path}", patience=0.3)
    async with serving(socket_path, "--workers", "1") as server, here as pool:
        assert await pool.run(work.add, 1, 1) == 2
        await server.end(signal.SIGKILL)
        with pytest.raises((WorkerCrashed, PoolClosed)):
            await pool.run(work.pure_echo, 1)
        with pytest.raises(PoolClosed, match="no pool server"):
            await pool.run(work.add, 1, 1)
        server.start()
        await server.ready()
        await until(lambda: "connected" in repr(pool))
        assert await pool.run(work.add, 1, 1) == 2


async def test_deadline_holds_while_the_server_is_away_or_hangs(socket_path: Path) -> None:
    """The client counts too."""
    async with (
        serving(socket_path, "--workers", "1") as server,
        Pool.connect(f"unix://{socket_path}") as pool,
    ):
        assert await pool.run(work.add, 1, 1) == 2
        assert server.process is not None
        server.process.send_signal(signal.SIGSTOP)
        with pytest.raises(DeadlineExceeded):
            await pool.run(work.add, 1, 1, deadline=0.1)
        server.process.send_signal(signal.SIGCONT)
        assert await pool.run(work.add, 2, 2) == 4


async def test_call_cancelled_at_its_deadline_stops_no_other_clock(socket_path: Path) -> None:
    """In one turn of the loop, with a server that hangs: the deadlines of other calls hold."""

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting())
        await reader.read()

    async with pretending(socket_path, hang), Pool.connect(f"unix://{socket_path}") as pool:
        cancelled = asyncio.ensure_future(pool.run(work.pure_echo, 1, deadline=0.01))
        other = asyncio.ensure_future(pool.run(work.pure_echo, 2, deadline=0.1))
        await asyncio.sleep(0)
        assert pool._timer is not None
        asyncio.get_running_loop().call_at(pool._timer.when() - 1e-6, cancelled.cancel)
        time.sleep(0.2)  # so that both are due in the next turn  # noqa: ASYNC251
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        with pytest.raises(DeadlineExceeded):
            await other


async def test_calls_given_up_count_until_the_server_knows(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that hangs: what waits to be sent to it has a bound, and once it goes on there is
    room again.
    """
    monkeypatch.setattr(client_module, "MAX_OPEN_CALLS", 50)
    async with (
        serving(socket_path, "--workers", "1") as server,
        Pool.connect(f"unix://{socket_path}") as pool,
    ):
        assert server.process is not None
        server.process.send_signal(signal.SIGSTOP)
        for _ in range(5):
            calls = (pool.run(work.pure_echo, "x" * 100_000, deadline=0.001) for _ in range(10))
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(answer) for answer in answers} == {DeadlineExceeded}
        assert pool._link.channel is not None
        assert pool._link.channel.unsent_bytes > 100_000
        with pytest.raises(PoolFull):
            await pool.run(work.pure_echo, 1, deadline=0.001)
        server.process.send_signal(signal.SIGCONT)
        await until(lambda: not pool._dropped)
        assert await pool.run(work.pure_echo, 1) == 1


async def test_client_connects_again_when_there_are_descriptors(
    pool: RemotePool, server: PoolServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is out of descriptors when its connection ends goes on trying."""
    attempts = 0

    async def counted(loop: asyncio.AbstractEventLoop, path: Path) -> socket.socket | None:
        nonlocal attempts
        attempts += 1
        return await connect(loop, path)

    monkeypatch.setattr("devnest.pool.link.connect", counted)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        for client in list(server._clients.values()):
            client._drop("cut by the test")
        await until(lambda: attempts)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert await pool.run(work.pure_echo, 1) == 1


async def test_no_reply_reaches_another_caller(socket_path: Path) -> None:
    """10,000 requests while the connection is cut again and again: each answer is its own
    request's.
    """
    async with (
        PoolServer(socket_path, workers=2, max_queue=100) as server,
        Pool.connect(server.url) as pool,
    ):
        cuts = 0

        async def caller(number: int) -> None:
            for index in range(number, 10_000, 50):
                assert await pool.run(work.pure_echo, index) == index

        def reached(done: int) -> bool:
            return server.stats().done > done

        async def cut() -> None:
            nonlocal cuts
            while True:
                target = server.stats().done + 300
                await until(functools.partial(reached, target))
                for client in list(server._clients.values()):
                    client._drop("cut by the test")
                cuts += 1

        cutting = asyncio.ensure_future(cut())
        await asyncio.gather(*(caller(number) for number in range(50)))
        cutting.cancel()
        await asyncio.wait([cutting])
    assert cuts >= 10


@pytest.mark.parametrize("busy", [False, True])
async def test_no_worker_outlives_its_pool(socket_path: Path, tmp_path: Path, busy: bool) -> None:
    """The server is killed: its workers go with it, idle or in the middle of a task that blocks
    every signal.
    """
    async with serving(socket_path, "--workers", "2") as server:
        workers = server.workers()
        assert len(workers) == 2
        async with Pool.connect(f"unix://{socket_path}", patience=0.0) as pool:
            if busy:
                started = [tmp_path / str(number) for number in range(2)]
                tasks = [
                    asyncio.ensure_future(pool.run(work.announce_masked, str(path)))
                    for path in started
                ]
                await until(lambda: all(path.exists() for path in started))
            await server.end(signal.SIGKILL)
            await until(lambda: not any(is_running(pid) for pid in workers))
            if busy:
                for task in tasks:
                    with pytest.raises(WorkerCrashed):
                        await task


# The command.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_command_drains_and_ends(
    number: signal.Signals, socket_path: Path, tmp_path: Path
) -> None:
    """What is in hand is answered, the exit status is 0, the socket file is gone."""
    gate, started = tmp_path / "gate", tmp_path / "started"
    async with (
        serving(socket_path, "--workers", "1") as server,
        Pool.connect(f"unix://{socket_path}") as pool,
    ):
        task = asyncio.ensure_future(pool.run(work.announce_then_wait, str(started), str(gate)))
        await until(started.exists)
        ending = asyncio.ensure_future(server.end(number))
        await until(lambda: not socket_path.exists())
        gate.touch()
        assert await task > 0
        assert await ending == (0, "")


async def test_command_says_what_is_wrong(socket_path: Path) -> None:
    """In one line, with status 1."""
    socket_path.parent.chmod(0o755)
    failing = ServerProcess(socket_path)
    failing.start()
    assert failing.process is not None
    _, errors = await asyncio.to_thread(failing.process.communicate)
    assert failing.process.returncode == 1
    assert errors.count("\n") == 1
    assert "chmod 700" in errors


@pytest.mark.parametrize("redirection", ["<&- >&- 2>&-", ">/dev/full 2>/dev/full"])
async def test_command_needs_no_standard_streams(socket_path: Path, redirection: str) -> None:
    """Closed, so that its first sockets would be they, or full."""
    command = [
        sys.executable,
        "-m",
        "devnest.pool",
        "serve",
        "--socket",
        str(socket_path),
        "--workers",
        "1",
    ]
    shell = ["/bin/sh", "-c", f'exec "$@" {redirection}', "sh"]
    process = await asyncio.create_subprocess_exec(*shell, *command, cwd=ROOT)
    async with Pool.connect(f"unix://{socket_path}", patience=SAFETY_S) as pool:
        assert await pool.run(pow, 2, 10) == 1024
    process.terminate()
    assert await process.wait() == 0


async def test_command_waits_for_no_reader_of_its_log(socket_path: Path) -> None:
    """Clients that talk nonsense are told of until the pipe is full, and served beyond."""
    async with serving(socket_path) as server, Pool.connect(f"unix://{socket_path}") as pool:
        assert server.process is not None
        assert server.process.stderr is not None
        fcntl.fcntl(server.process.stderr, F_SETPIPE_SZ, 4096)
        for _ in range(200):
            reader, writer = await asyncio.open_unix_connection(str(socket_path))
            writer.write(b"x" * 100)
            await reader.read()
            writer.close()
        assert await pool.run(pow, 2, 10) == 1024


@pytest.mark.parametrize(
    "make",
    [
        lambda path: PoolServer(path, kind="thread"),
        lambda path: PoolServer(path, workers=0),
        lambda path: PoolServer(path, max_frame_bytes=0),
        lambda path: PoolServer(path, max_frame_bytes=1 << 31),
        lambda path: RemotePool(f"unix://{path}", patience=-1.0),
    ],
)
def test_options_are_checked(make: Callable[[Path], Any], socket_path: Path) -> None:
    """As those of a pool are."""
    with pytest.raises(InvalidTask):
        make(socket_path)


SCRIPT = """
import asyncio
from devnest.pool import Pool

class Point:
    def __init__(self, x): self.x = x

def double(point): return Point(2 * point.x)

async def main():
    async with Pool(workers=1) as pool:
        print((await pool.run(double, Point(21))).x)

{start}
"""


@pytest.mark.parametrize("as_module", [False, True])
def test_functions_of_the_main_script(tmp_path: Path, as_module: bool) -> None:
    """A script's own functions and classes work, whether it is run as a file or as a module."""
    (tmp_path / "script.py").write_text(
        SCRIPT.format(start='if __name__ == "__main__": asyncio.run(main())')
    )
    how = ["-m", "script"] if as_module else ["script.py"]
    answer = subprocess.run(
        [sys.executable, *how], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert answer.stdout == "42\n"


def test_unguarded_main_script_is_told_so(tmp_path: Path) -> None:
    """A script that starts a pool whenever it is imported would start them without end."""
    (tmp_path / "script.py").write_text(SCRIPT.format(start="asyncio.run(main())"))
    answer = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 1
    assert "guard it by" in answer.stderr
