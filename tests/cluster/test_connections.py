"""Connections of clients that stall, lie or are about to write when the server stops, on real
sockets.
"""

import asyncio
import functools
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import uvicorn
import uvloop
from litestar import Litestar, Response, get, post
from litestar.datastructures import State
from litestar.params import JSONBody

from devnest.api.http.bodies import NewComment
from devnest.api.http.middleware import RequestMiddleware
from devnest.api.http.problems import handle_exception
from devnest.api.http.request import ApiRequest
from devnest.cluster.connections import BODY as BODY_AWAITED
from devnest.cluster.connections import MAX_HEAD_BYTES, BoundedProtocol
from devnest.cluster.server import Server
from devnest.cluster.sockets import listen
from devnest.metrics import Metrics
from devnest.shared_memory import SharedMemory
from tests.support import PATIENCE_S

SHORT_S = 0.05
HUGE = b" " * 32 * 1024 * 1024  # more than two sockets hold
GET = b"GET /small HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
BODY = b'{"body": "hello"}'
LENGTH = b"content-length: %d\r\n\r\n" % len(BODY)
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"


@get("/small", media_type="text/plain")
async def small() -> str:
    """A few bytes."""
    return "small"


@get("/huge")
async def huge() -> Response[bytes]:
    """An answer that has to be read."""
    return Response(HUGE, media_type="text/plain")


@post("/echo", media_type="text/plain")
async def echo(data: JSONBody[NewComment]) -> str:
    """A body, read as every route reads it."""
    return data.body


@post("/unread", media_type="text/plain")
async def unread() -> str:
    """An answer that does not wait for the body."""
    return "unread"


@get("/slow", media_type="text/plain")
async def slow(request: ApiRequest) -> str:
    """An answer that waits."""
    await request.app.state.go.wait()
    return "slow"


class Serving:
    """A server in this process, with the protocol, the frame, the requests and the errors of
    DevNest.
    """

    def __init__(
        self,
        server: Server,
        metrics: Metrics,
        listener: socket.socket,
        management: socket.socket,
        go: asyncio.Event,
    ) -> None:
        self.go = go  # for /slow
        self.server = server
        self.metrics = metrics
        self.address: tuple[str, int] = listener.getsockname()
        self.management: tuple[str, int] = management.getsockname()

    async def connect(
        self, source: str = "127.0.0.1", *, management: bool = False
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection, accepted or not yet."""
        address = self.management if management else self.address
        return await asyncio.open_connection(*address, local_addr=(source, 0))

    async def counted(self, method: str, route: str, status: int) -> None:
        """Wait until the metrics have a request."""
        while (method, route, status) not in self.metrics._requests:
            await asyncio.sleep(0)

    async def is_empty(self) -> None:
        """Wait until no connection is left."""
        while self.server.server_state.connections:
            await asyncio.sleep(0)


@asynccontextmanager
async def serving(tmp_path: Path) -> AsyncIterator[Serving]:
    """From ready to a clean stop."""
    go = asyncio.Event()
    app = Litestar(
        [small, huge, echo, unread, slow],
        state=State({"go": go}),
        request_class=ApiRequest,
        exception_handlers={Exception: handle_exception},
        logging_config=None,
        openapi_config=None,
    )
    (listener,), (management,) = listen("127.0.0.1", 0), listen("127.0.0.1", 0)
    with Metrics(SharedMemory.create(), 2, "server-0") as metrics:
        config, another = (
            uvicorn.Config(RequestMiddleware(app, metrics), lifespan="off", ws="none")
            for _ in range(2)
        )
        config.load()
        server = Server(config, [listener], lambda: None)
        server.add_management(another, [management])
        server.lifespan = config.lifespan_class(config)
        await (
            server.startup()
        )  # `serve` would turn the loop before the end; some tests are about just that turn
        at = Serving(server, metrics, listener, management, go)
        try:
            yield at
        finally:
            if listener.fileno() != -1:
                server.stop_now()
                await server.shutdown()


def on_uvloop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Servers run on it, and it has an order of timers and reads of its own."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        uvloop.run(asyncio.wait_for(test(*args, **kwargs), PATIENCE_S))

    return run


def bound(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make some of the waits short."""
    for name in names:
        monkeypatch.setattr(f"devnest.cluster.connections.{name}", SHORT_S)


async def rest(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the end, which may be a reset: what came just before one, `read`
    would keep to itself.
    """
    received = b""
    try:
        while data := await reader.read(65536):
            received += data
    except ConnectionError:
        received += reader._buffer  # type: ignore[attr-defined]
    return received


async def trickle(writer: asyncio.StreamWriter, piece: bytes) -> None:
    """Write a piece again and again, until the connection ends."""
    while not writer.is_closing():
        writer.write(piece)
        await asyncio.sleep(SHORT_S / 10)


async def trickled(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, begun: bytes, piece: bytes
) -> bytes:
    """Begin, go on piece by piece, and read all that is answered until the connection ends."""
    writer.write(begun)
    trickling = asyncio.create_task(trickle(writer, piece))
    answers = await rest(reader)
    trickling.cancel()
    writer.close()
    return answers


@pytest.mark.parametrize(("framing", "piece"), [(LENGTH, b""), (b"content-length: 99999\r\n\r\n", b" "),
                                                (CHUNKED, b"1\r\n \r\n")])  # fmt: skip
@on_uvloop
async def test_a_body_that_trickles_in_is_answered_408(
    framing: bytes, piece: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it is framed: a problem, and the end of the connection."""
    bound(monkeypatch, "BODY_TIMEOUT_S")
    async with serving(tmp_path) as at:
        reader, writer = await at.connect()
        head, _, body = (await trickled(reader, writer, POST + framing, piece)).partition(
            b"\r\n\r\n"
        )
        assert head.startswith(b"HTTP/1.1 408 ")
        assert b"application/problem+json" in head
        assert head.lower().count(b"connection: close") == 1
        problem = msgspec.json.decode(body)
        assert (problem["status"], problem["type"]) == (408, "urn:devnest:slow")
        assert problem["request_id"].encode() in head
        await at.counted("POST", "/echo", 408)


@on_uvloop
async def test_trailers_are_no_headers(tmp_path: Path) -> None:
    """Whoever writes the end of a body says nothing about who sent it, or for whom."""
    async with serving(tmp_path) as at:
        reader, writer = await at.connect()
        chunk = b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)
        writer.write(POST + CHUNKED + chunk + b"x-request-id: from-a-trailer\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 201 ")
        assert b"from-a-trailer" not in head
        writer.close()


@pytest.mark.parametrize("requests", [1, 2, 3])
@on_uvloop
async def test_a_bad_request_waits_for_the_responses_before_it(
    requests: int, tmp_path: Path
) -> None:
    """A client that pipelines would take the refusal for the answer to its first request."""
    async with serving(tmp_path) as at:
        reader, writer = await at.connect()
        slow = GET.replace(b"small", b"slow")
        writer.write(slow * requests + POST + CHUNKED + b"no size\r\n")
        (connection,) = cast("set[BoundedProtocol]", at.server.server_state.connections)
        while not connection._is_refused:
            await asyncio.sleep(0)
        at.go.set()
        answers = await rest(reader)
        assert answers.count(b"HTTP/1.1 200 ") == answers.count(b"HTTP/1.1 ") == requests
        assert answers.endswith(b"slow")
        writer.close()
        await at.is_empty()


@on_uvloop
async def test_the_rest_of_a_body_that_was_answered_is_no_head(tmp_path: Path) -> None:
    """However long it is.

    And the next request on the connection is answered as if nothing had been.
    """
    async with serving(tmp_path) as at:
        reader, writer = await at.connect()
        body = b" " * (2 * MAX_HEAD_BYTES)
        writer.write(b"POST /unread HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body))
        assert b" 201 " in await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(6) == b"unread"
        (connection,) = cast("set[BoundedProtocol]", at.server.server_state.connections)
        assert connection._awaited == BODY_AWAITED
        writer.write(body)
        await writer.drain()
        while connection._awaited == BODY_AWAITED:
            await asyncio.sleep(0)
        assert connection._awaited is None
        assert connection.timeout_keep_alive_task is not None
        writer.write(b"GET /small HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        writer.close()


@on_uvloop
async def test_a_body_in_pieces_is_read(tmp_path: Path) -> None:
    """And once it is there nothing waits for it any more.

    One that came with its head was never waited for.
    """
    async with serving(tmp_path) as at:
        reader, writer = await at.connect()
        for pieces in (
            [POST + LENGTH + BODY],
            [POST + LENGTH, BODY],
            [POST, LENGTH + BODY[:5], BODY[5:]],
        ):
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(SHORT_S)
            assert b" 201 " in await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(5) == b"hello"
            (connection,) = at.server.server_state.connections
            assert connection._timer is None  # type: ignore[union-attr]
        writer.close()


@pytest.mark.parametrize(
    ("begun", "piece", "timeout"),
    [
        (b"", b"", "HEAD_TIMEOUT_S"),
        (b"GET /small HTTP/1.1\r\n", b"x: y\r\n", "HEAD_TIMEOUT_S"),
        (b"\r\n", b"\r\n", "HEAD_TIMEOUT_S"),
        (
            POST.replace(b"echo", b"unread") + b"content-length: 99999\r\n\r\n",
            b" ",
            "BODY_TIMEOUT_S",
        ),
    ],
    ids=["nothing", "a head", "line feeds", "an unread body"],
)
@on_uvloop
async def test_whatever_trickles_in_has_an_end(
    begun: bytes, piece: bytes, timeout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every state of a connection in which the client is to write is bounded in time."""
    bound(monkeypatch, timeout)
    async with serving(tmp_path) as at:
        reader, writer = await at.connect()
        answers = await trickled(reader, writer, begun, piece)
        assert (
            answers.count(b"HTTP/1.1 201 ") == answers.count(b"HTTP/1.1 ") == (b"/unread" in begun)
        )
        await at.is_empty()


@pytest.mark.parametrize(
    ("begun", "piece"),
    [(b"", b"\r\n"), (GET[:-2], b"x: y\r\n")],
    ids=["line feeds", "a second head"],
)
@on_uvloop
async def test_whatever_trickles_in_after_an_answer_has_an_end(
    begun: bytes, piece: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is not answered."""
    async with serving(tmp_path) as at:
        reader, writer = await at.connect()
        writer.write(GET)
        await reader.readuntil(b"small")
        bound(monkeypatch, "HEAD_TIMEOUT_S")
        assert await trickled(reader, writer, begun, piece) == b""
        await at.is_empty()


@pytest.mark.parametrize("last", [b"", b"connection: close\r\n"])
@on_uvloop
async def test_an_answer_that_is_not_read_has_an_end(
    last: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is cut, and the rest of the answer with it."""
    bound(monkeypatch, "UNREAD_TIMEOUT_S")
    monkeypatch.setattr("devnest.cluster.send_buffers.MAX_CONNECTION_UNSENT_BYTES", 2 * len(HUGE))
    async with serving(tmp_path) as at:
        with socket.create_connection(at.address) as deaf:
            deaf.sendall(b"GET /huge HTTP/1.1\r\nhost: x\r\n" + last + b"\r\n")
            await at.counted("GET", "/huge", 200)
            await at.is_empty()


@pytest.mark.parametrize("at_once", [True, False])
@on_uvloop
async def test_more_body_than_announced_is_no_request(at_once: bool, tmp_path: Path) -> None:
    """What follows the announced length is read as the next request, and ends the connection.

    The request before it is answered: it was carried out.
    """
    async with serving(tmp_path) as at:
        reader, writer = await at.connect()
        writer.write(POST + LENGTH + BODY + b"and more" * at_once)
        if not at_once:
            assert b" 201 " in await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(5) == b"hello"
            writer.write(b"and more\r\n\r\n")
        received = await rest(reader)
        assert received.startswith(b"HTTP/1.1 201 " if at_once else b"HTTP/1.1 400 ")
        assert received.count(b"HTTP/1.1 ") == 1
        writer.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"BREW / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        POST + CHUNKED + b"zz\r\n",
    ],
)
@on_uvloop
async def test_what_is_no_http_gets_an_answer_like_any_other(sent: bytes, tmp_path: Path) -> None:
    """A problem with a request id, and the headers that every answer has."""
    async with serving(tmp_path) as at:
        reader, writer = await at.connect()
        writer.write(sent)
        head, _, body = (await rest(reader)).partition(b"\r\n\r\n")
        problem = json.loads(body)
        assert (problem["status"], problem["type"]) == (400, "urn:devnest:http")
        assert b"\r\nx-request-id: " + problem["request_id"].encode() in head
        for header in (
            b"content-type: application/problem+json",
            b"connection: close",
            b"content-security-policy: ",
        ):
            assert b"\r\n" + header in head
        writer.close()


@pytest.mark.parametrize("hosts", [b"", b"host: x\r\nhost: y\r\n"])
@on_uvloop
async def test_a_request_without_one_host_is_told_so(hosts: bytes, tmp_path: Path) -> None:
    """RFC 9112, 3.2. Whoever writes HTTP by hand forgets it first."""
    async with serving(tmp_path) as at:
        reader, writer = await at.connect()
        writer.write(b"GET /small HTTP/1.1\r\n" + hosts + b"\r\n")
        received = await rest(reader)
        assert received.startswith(b"HTTP/1.1 400 ")
        assert b"one Host header" in received
        writer.close()


@on_uvloop
async def test_http_1_0_needs_no_host(tmp_path: Path) -> None:
    """The header came with 1.1."""
    async with serving(tmp_path) as at:
        reader, writer = await at.connect()
        writer.write(b"GET /small HTTP/1.0\r\n\r\n")
        assert (await rest(reader)).endswith(b"small")
        writer.close()


@pytest.mark.parametrize(("begun", "piece", "answer"), [
    (b"GET /small HTTP/1.1\r\n", b"x: %s\r\n" % (b"y" * 10000), b"HTTP/1.1 400 "),
    (POST + CHUNKED, b"1;%s\r\n \r\n" % (b"y" * 10000), b""),
    (POST.replace(b"echo", b"unread") + CHUNKED + b"0\r\n", b"x: %s\r\n" % (b"y" * 10000), b"HTTP/1.1 201 "),
], ids=["headers", "chunk extensions", "trailers"])  # fmt: skip
@on_uvloop
async def test_what_has_no_end_is_cut_off(
    begun: bytes, piece: bytes, answer: bytes, tmp_path: Path
) -> None:
    """Headers, chunk extensions and trailers fill no memory, however fast they come."""
    async with serving(tmp_path) as at:
        reader, writer = await at.connect()
        writer.write(begun)

        async def flood() -> None:
            while True:
                writer.write(piece)
                await writer.drain()

        flooding = asyncio.create_task(flood())
        received = await rest(
            reader
        )  # nothing, where the client's next write fails before it reads
        assert answer.startswith(received[: len(answer)])
        assert received.count(b"HTTP/1.1 ") <= 1
        await at.is_empty()
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)
        writer.close()


@on_uvloop
async def test_a_client_that_leaves_within_its_body_is_counted_as_gone(tmp_path: Path) -> None:
    """Neither an error of ours nor a refusal."""
    async with serving(tmp_path) as at:
        _, writer = await at.connect()
        writer.write(POST + LENGTH + BODY[:5])
        while not any(c.cycle for c in at.server.server_state.connections):  # type: ignore[union-attr]
            await asyncio.sleep(0)
        writer.close()
        await at.counted("POST", "/echo", 499)


@on_uvloop
async def test_an_address_with_many_idle_connections_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes is accepted, and an address with few connections keeps its own."""
    monkeypatch.setattr("devnest.cluster.acceptor.MAX_CONNECTIONS", 10)
    monkeypatch.setattr("devnest.cluster.acceptor.MAX_CLOSED_TOGETHER", 2)
    async with serving(tmp_path) as at:
        modest = await answered(at, "127.0.0.1")
        greedy = [await answered(at, "127.0.0.2") for _ in range(9)]
        another = await answered(at, "127.0.0.1")
        ended = [asyncio.create_task(reader.read()) for reader, _ in greedy]
        await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
        for reader, writer in (modest, another):
            writer.write(GET)
            assert b" 200 " in await reader.readuntil(b"small")
        assert 1 <= sum(each.done() for each in ended) <= 2
        for task in ended:
            task.cancel()
        await asyncio.gather(*ended, return_exceptions=True)
        for _, writer in (modest, another, *greedy):
            writer.close()


async def answered(at: Serving, source: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that is idle after a request."""
    reader, writer = await at.connect(source)
    writer.write(GET)
    await reader.readuntil(b"small")
    return reader, writer


@on_uvloop
async def test_nobody_is_thrown_out_while_being_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where every connection has a request, whoever comes waits until one has not."""
    monkeypatch.setattr("devnest.cluster.acceptor.MAX_CONNECTIONS", 3)
    async with serving(tmp_path) as at:
        busy = [await at.connect() for _ in range(3)]
        for _, writer in busy:
            writer.write(GET.replace(b"small", b"slow"))
        while at.metrics.active_requests < 3:
            await asyncio.sleep(0)
        reader, writer = await at.connect()
        writer.write(GET)
        await asyncio.sleep(SHORT_S)
        assert len(at.server.server_state.connections) == 3
        at.go.set()
        for each, _ in busy:
            await each.readuntil(b"slow")
        await reader.readuntil(b"small")
        for _, each_writer in (*busy, (reader, writer)):
            each_writer.close()


# The end of a server. It waits for no turn of the loop here, so what it does not look for it does
# not see.


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not linger."""
    monkeypatch.setattr("devnest.cluster.server.LINGER_S", 0)


@pytest.mark.usefixtures("hurried")
@on_uvloop
async def test_a_request_that_has_arrived_is_answered_by_a_server_that_stops(
    tmp_path: Path,
) -> None:
    """On a connection that was idle; the server had not been scheduled since."""
    async with serving(tmp_path) as at:
        with socket.create_connection(at.address) as client:
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(client, GET)
            first = await loop.sock_recv(client, 65536)
            assert b"connection: close" not in first.lower()
            client.send(GET)
            await at.server.shutdown()
            last = await loop.sock_recv(client, 65536)
            assert last.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close" in last.lower()
            assert await loop.sock_recv(client, 1) == b""


@pytest.mark.parametrize("begun", [b"", GET[:10]])
@pytest.mark.usefixtures("hurried")
@on_uvloop
async def test_a_new_connection_is_answered_by_a_server_that_stops(
    begun: bytes, tmp_path: Path
) -> None:
    """Also one that the server accepts only now, and whose request comes later."""
    async with serving(tmp_path) as at:
        with socket.create_connection(at.address) as client:
            client.setblocking(False)
            client.send(begun)
            stopping = asyncio.create_task(at.server.shutdown())
            await asyncio.sleep(0.1)
            client.send(GET[len(begun) :])
            last = await asyncio.get_running_loop().sock_recv(client, 65536)
            assert last.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close" in last.lower()
            await stopping


@pytest.mark.usefixtures("hurried")
@on_uvloop
async def test_a_connection_that_stays_silent_does_not_hold_a_server_that_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has so long, and no longer."""
    bound(monkeypatch, "SHUTDOWN_HEAD_TIMEOUT_S")
    async with serving(tmp_path) as at:
        with socket.create_connection(at.address):
            await at.server.shutdown()
            assert not at.server.server_state.connections


@on_uvloop
async def test_the_first_piece_of_a_second_request_costs_the_first_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head that does not come has so long once there is nothing else to wait for."""
    async with serving(tmp_path) as at:
        reader, writer = await at.connect()
        writer.write(GET.replace(b"small", b"slow"))
        await until_active(at, 1)
        bound(monkeypatch, "HEAD_TIMEOUT_S")
        writer.write(GET[:10])
        await asyncio.sleep(4 * SHORT_S)
        at.go.set()
        await reader.readuntil(b"slow")
        assert await rest(reader) == b""
        writer.close()


@pytest.mark.usefixtures("hurried")
@on_uvloop
async def test_nor_does_it_when_the_server_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the answer says that it is the last, though it was begun under older headers."""
    bound(monkeypatch, "SHUTDOWN_HEAD_TIMEOUT_S")
    async with serving(tmp_path) as at:
        reader, writer = await at.connect()
        writer.write(GET.replace(b"small", b"slow") + GET[:10])
        await until_active(at, 1)
        at.server.server_state.default_headers = list(
            at.server.server_state.default_headers
        )  # as once a second
        stopping = asyncio.create_task(at.server.shutdown())
        await asyncio.sleep(4 * SHORT_S)
        at.go.set()
        received = await rest(reader)
        assert received.endswith(b"slow")
        assert b"connection: close" in received.lower()
        await stopping
        writer.close()


@pytest.mark.usefixtures("hurried")
@on_uvloop
async def test_requests_that_wait_for_one_another_are_all_answered_by_a_server_that_stops(
    tmp_path: Path,
) -> None:
    """On one connection: the last answer ends it, not the first."""
    async with serving(tmp_path) as at:
        reader, writer = await at.connect()
        writer.write(GET.replace(b"small", b"slow") + GET)
        await until_active(at, 1)
        stopping = asyncio.create_task(at.server.shutdown())
        await asyncio.sleep(0.1)
        at.go.set()
        received = await rest(reader)
        assert received.count(b"HTTP/1.1 200 ") == 2
        assert received.lower().count(b"connection: close") == 1
        await stopping
        writer.close()


@pytest.mark.usefixtures("hurried")
@on_uvloop
async def test_who_comes_when_the_time_is_up_is_answered_too(tmp_path: Path) -> None:
    """What runs is 503, the last answer on its connection.

    So is what begins before the server has gone.
    """
    async with serving(tmp_path) as at:
        late_reader, late = await answered(at, "127.0.0.1")
        reader, writer = await at.connect()
        writer.write(GET.replace(b"small", b"slow"))
        await until_active(at, 1)
        at.server.stop_now()
        late.write(GET.replace(b"small", b"slow"))
        await at.server.shutdown()
        for each in (reader, late_reader):
            received = await rest(each)
            assert received.startswith(b"HTTP/1.1 503 ")
            assert b"connection: close" in received.lower()
        writer.close()
        late.close()


@pytest.mark.usefixtures("hurried")
@on_uvloop
async def test_who_does_not_read_does_not_hold_a_server_whose_time_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even with a second request behind the first."""
    monkeypatch.setattr("devnest.cluster.send_buffers.MAX_CONNECTION_UNSENT_BYTES", 2 * len(HUGE))
    async with serving(tmp_path) as at:
        _, writer = await at.connect()
        writer.write(2 * GET.replace(b"small", b"huge"))
        while not any(connection.flow.write_paused for connection in at.server._connections):
            await asyncio.sleep(0)
        at.server.stop_now()
        await at.server.shutdown()
        await at.is_empty()
        writer.close()


async def until_active(at: Serving, count: int) -> None:
    """Wait until so many requests run."""
    while at.metrics.active_requests < count:
        await asyncio.sleep(0)
