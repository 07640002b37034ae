"""Answers that are not read: what a server keeps of them, and whom it cuts off."""

import asyncio
import json
import socket
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnest.cluster.connections import MAX_PIPELINED, BoundedProtocol
from devnest.cluster.send_buffers import MAX_UNSENT_BYTES, SendBuffers, _Unread
from devnest.cluster.write_coalescing import CoalescingTransport
from tests.cluster.test_connections import GET, HUGE, on_uvloop, rest, serving, until_active
from tests.metrics import total, until
from tests.support import DevNest, eventually, running, sign_up

MIB = 1024 * 1024
PIECE = b" " * MIB  # more than the buffers of a pair of sockets hold
HUGE_GET = GET.replace(b"small", b"huge")


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for eight pieces, of which two are to be free after a cut.

    Nobody looks but when the test does.
    """
    monkeypatch.setattr("devnest.cluster.send_buffers.MAX_UNSENT_BYTES", 8 * MIB)
    monkeypatch.setattr("devnest.cluster.send_buffers.MIN_FREE_BYTES", 2 * MIB)
    monkeypatch.setattr("devnest.cluster.send_buffers.MEASURE_INTERVAL_S", 3600.0)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """One connection may hold more than the largest answer of these tests."""
    monkeypatch.setattr("devnest.cluster.send_buffers.MAX_CONNECTION_UNSENT_BYTES", 2 * len(HUGE))


class Client:
    """A connection from the server's side, and its socket on the client's."""

    def __init__(self, transport: CoalescingTransport, theirs: socket.socket) -> None:
        self.transport = transport
        self.theirs = theirs

    async def write(self, pieces: int = 1) -> None:
        """What the server sends, each piece in a turn of its own."""
        for _ in range(pieces):
            self.transport.write(PIECE)
            await asyncio.sleep(0)

    async def read(self, size_bytes: int) -> None:
        """What the client reads."""
        loop = asyncio.get_running_loop()
        while size_bytes:
            size_bytes -= len(await loop.sock_recv(self.theirs, size_bytes))

    @property
    def is_behind(self) -> bool:
        """Whether there is something to read and a connection to read it from."""
        return not self.is_cut and self.transport.get_write_buffer_size() > 0

    @property
    def is_cut(self) -> bool:
        """Whether the server has ended the connection."""
        return bool(self.transport.is_closing())


async def connect(send_buffers: SendBuffers, sockets: ExitStack) -> Client:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    sockets.enter_context(theirs)
    theirs.setblocking(False)
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    return Client(CoalescingTransport(transport, loop, send_buffers), theirs)


@pytest.mark.usefixtures("limits")
@on_uvloop
async def test_a_server_never_keeps_more_than_it_may() -> None:
    """However many do not read; and some room is free after a cut."""
    send_buffers = SendBuffers()
    with ExitStack() as sockets:
        clients = [await connect(send_buffers, sockets) for _ in range(40)]
        for client in clients:
            await client.write()
            assert send_buffers.held_bytes == len(PIECE) * sum(
                client.is_behind for client in clients
            )
            assert send_buffers.held_bytes <= 8 * MIB
        assert send_buffers.connections_cut == sum(client.is_cut for client in clients) >= 40 - 8
        for client in clients:
            client.transport.abort()
        while any(client.transport.get_write_buffer_size() for client in clients):
            await asyncio.sleep(0)
        send_buffers._measure()
        assert send_buffers.held_bytes == 0


@pytest.mark.usefixtures("limits")
@on_uvloop
async def test_who_reads_slowest_is_cut_first() -> None:
    """Who does not read at all, then who would need longest.

    Never who has just come, nor who reads well.
    """
    send_buffers = SendBuffers()
    with ExitStack() as sockets:
        deaf, slow, brisk, another = [await connect(send_buffers, sockets) for _ in range(4)]
        for client in (slow, brisk, another, deaf):
            await client.write(2)
        send_buffers._measure()
        await asyncio.gather(slow.read(100_000), brisk.read(MIB // 2), another.read(MIB // 2))
        send_buffers._measure()
        assert send_buffers.held_bytes == 8 * MIB
        newcomer = await connect(send_buffers, sockets)
        await newcomer.write()
        cut = [deaf.is_cut, slow.is_cut, brisk.is_cut, another.is_cut, newcomer.is_cut]
        assert cut == [True, True, False, False, False]
        assert send_buffers.connections_cut == 2
        await asyncio.gather(
            brisk.read(2 * MIB - MIB // 2), another.read(2 * MIB - MIB // 2), newcomer.read(MIB)
        )
        send_buffers._measure()
        assert send_buffers.held_bytes == 0


@pytest.mark.usefixtures("limits")
@on_uvloop
async def test_a_connection_has_a_bound_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the server still has room."""
    monkeypatch.setattr("devnest.cluster.send_buffers.MAX_CONNECTION_UNSENT_BYTES", 2 * MIB)
    send_buffers = SendBuffers()
    with ExitStack() as sockets:
        greedy, modest = [await connect(send_buffers, sockets) for _ in range(2)]
        await modest.write(2)
        await greedy.write(3)
        assert (greedy.is_cut, modest.is_cut) == (True, False)
        await modest.read(2 * MIB)


@given(st.lists(st.integers(1, 1000) | st.floats(0, 1), max_size=40))
def test_a_piece_counts_until_its_last_byte_has_gone(history: list[int | float]) -> None:
    """A whole number is a piece that is written, a share so much of what is unread that is read."""
    unread, pieces = _Unread(), deque[list[int]]()  # the size and what is unread of each
    for step in history:
        if isinstance(step, int):
            pieces.append([step, step])
            unread.wrote(step)
        else:
            taken = int(step * sum(unread_bytes for _, unread_bytes in pieces))
            while taken:
                part = min(taken, pieces[0][1])
                pieces[0][1] -= part
                taken -= part
                if not pieces[0][1]:
                    pieces.popleft()
        unread.release(sum(unread_bytes for _, unread_bytes in pieces))
        assert unread.held_bytes == sum(size for size, _ in pieces)


@pytest.mark.usefixtures("patient")
@on_uvloop
async def test_a_request_waits_until_the_answer_before_it_is_read(tmp_path: Path) -> None:
    """So many as are sent at once: a connection holds one answer.

    Whoever reads them has them all.
    """
    async with serving(tmp_path) as at:
        reader, writer = await at.connect()
        writer.write(3 * HUGE_GET)
        await at.counted("GET", "/huge", 200)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(HUGE) <= at.server.send_buffers.held_bytes <= len(HUGE) + 1000
        assert at.metrics.active_requests == 0
        for _ in range(3):
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len(HUGE))
        writer.close()


@pytest.mark.usefixtures("patient")
@on_uvloop
async def test_a_client_that_leaves_with_requests_that_wait_leaves_nothing(tmp_path: Path) -> None:
    """They are not carried out."""
    async with serving(tmp_path) as at:
        _, writer = await at.connect()
        writer.write(3 * HUGE_GET)
        await at.counted("GET", "/huge", 200)
        writer.transport.abort()
        await at.is_empty()
        while at.server.server_state.tasks:
            await asyncio.sleep(0)
        (times,) = [times for key, times in at.metrics._requests.items() if key[1] == "/huge"]
        assert sum(times.counts) <= 1


@on_uvloop
async def test_only_so_many_requests_of_a_connection_wait(tmp_path: Path) -> None:
    """Those are answered, and then the connection ends: the client sends the others again (RFC
    9112, 9.3.2).
    """
    async with serving(tmp_path) as at:
        reader, writer = await at.connect()
        writer.write(GET.replace(b"small", b"slow") + 2 * MAX_PIPELINED * GET)
        await until_active(at, 1)
        (connection,) = cast("set[BoundedProtocol]", at.server.server_state.connections)
        assert len(connection.pipeline) == MAX_PIPELINED
        at.go.set()
        received = await rest(reader)
        assert received.count(b"HTTP/1.1 200 ") == 1 + MAX_PIPELINED
        assert received.lower().count(b"connection: close") == 1
        writer.close()


def stall(devnest: DevNest, path: str) -> socket.socket:
    """A client that asks and reads nothing, behind a network as far as the kernel's buffers go."""
    address = urlsplit(devnest.url)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
    client.connect((address.hostname, address.port))
    client.sendall(2 * f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    return client


def test_clients_that_never_read_fill_no_server(data_dir: Path) -> None:
    """Anonymous clients ask for the largest pages.

    The metrics and the log tell of them, everybody else is served.
    """
    with running(data_dir) as devnest, devnest.client() as client, ExitStack() as sockets:
        sign_up(client, "ada")
        tags = [f"t{number}" for number in range(10)]
        for _ in range(4):
            post = {"title": "t", "body": "\x01" * 50_000, "tags": tags}
            assert client.post("/api/v1/posts", json=post).status_code == 201
        (server,) = devnest.find("devnest.cluster.server")
        before_bytes = server.memory_info().rss
        most_bytes = 0
        for number in range(150):  # 130 MiB, as many as there are pages of three posts
            path = f"/api/v1/posts?tag=t{number % 10}&limit={4 + number // 10}"
            sockets.enter_context(stall(devnest, path))
            most_bytes = max(most_bytes, server.memory_info().rss)
        page = until(devnest.url, lambda page: total(page, "http_server_connections_cut_total") > 0)
        assert total(page, "http_server_unsent_bytes") <= MAX_UNSENT_BYTES
        eventually(
            lambda: total(until(devnest.url, bool), "http_server_connections_cut_total") >= 50
        )
        most_bytes = max(most_bytes, server.memory_info().rss)
        assert len(client.get("/api/v1/posts?limit=4").content) > 900_000
        assert most_bytes - before_bytes < 3 * MAX_UNSENT_BYTES
        sockets.close()
        devnest.stop()
        lines = [json.loads(line) for line in devnest.log().splitlines()]
    (line, *_) = [
        line for line in lines if line["event"] == "answers are not read, connections cut off"
    ]
    assert line["too_much_for"] == "the server"
    assert line["unsent_bytes"] <= MAX_UNSENT_BYTES
    assert line["addresses"][0][0] == "127.0.0.1"
