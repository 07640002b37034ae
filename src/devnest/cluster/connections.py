"""A connection of a server, bounded in time wherever its client can stall."""

import asyncio
from contextlib import suppress
from functools import partial
from typing import cast

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, Scope
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from devnest.addresses import TrustedProxies, canonical, subscriber_network
from devnest.api import BODY_IS_LATE, invalid_http_response
from devnest.cluster.receive_buffers import ReceiveBuffers
from devnest.cluster.request_heads import (
    HOST,
    NUMBER_SIGN,
    RTSP,
    TRANSFER_ENCODING,
    Fault,
    fault_of,
    without_upgrade,
)
from devnest.cluster.send_buffers import SendBuffers
from devnest.cluster.write_coalescing import CoalescingTransport

__all__ = ["BoundedProtocol"]

HEAD_TIMEOUT_S = (
    15.0  # from a request's first byte, or a connection's beginning, to the end of its headers
)
BODY_TIMEOUT_S = 10.0  # from there to the end of its body, of 1 MiB at most
LAST_HEAD_TIMEOUT_S = 5.0  # the head's, from when the server begins to stop
UNREAD_TIMEOUT_S = 30.0  # for a client that does not read its answer
MAX_HEAD_BYTES = 64 * 1024  # of one that comes in pieces; the parser itself has no limit
MAX_HEADER_FIELDS = (
    100  # as other servers have it; 64 KiB of the shortest are 12,000, each looked at several times
)
MAX_WIRE_BYTES = (
    16 * 1024 * 1024
)  # on the wire: 1 MiB in the smallest chunks is 6, and trailers have no limit either
MAX_PIPELINED = (
    32  # requests of one connection that wait for the one before them, at about 3 KiB each
)
HEAD, BODY = "head", "body"


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with an end for requests that never come and answers that are never read.

    A request that comes in one piece costs no timer. `_awaited` is what has yet to come of the present request, and
    None from its end to the next one's beginning.
    """

    network = ""  # of its client, as far as fairness goes
    _awaited: str | None = HEAD
    _timer: asyncio.TimerHandle | None = None  # of what is awaited
    _received_bytes = 0  # since that timer began
    _unread_timer: asyncio.TimerHandle | None = None
    _is_over = False  # what came last is no HTTP, so nothing that follows can be read
    _fault: Fault | None = None  # what is wrong with it, where it is not the parser that says no
    _received = b""  # a head as far as it has come, and what came with it
    _is_offered_upgrade = False  # by the head that the parser has just read

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        proxies: TrustedProxies,
        send_buffers: SendBuffers,
        receive_buffers: ReceiveBuffers,
    ) -> None:
        super().__init__(config, server_state, app_state={})
        self.parser = self._new_parser()
        self._proxies = proxies
        self._send_buffers = send_buffers
        self._receive_buffers = receive_buffers
        self._is_from_proxy = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A new client has so long for its first request."""
        super().connection_made(
            cast(asyncio.Transport, CoalescingTransport(transport, self.loop, self._send_buffers))
        )
        if self.client is not None:
            host, port = self.client
            self.client = (canonical(host) or host, port)
            self.network = subscriber_network(self.client[0])
            self._is_from_proxy = self.client[0] in self._proxies
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """No timer outlives its connection."""
        self._stop_timer()
        if self._unread_timer is not None:
            self._unread_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """What is not complete yet has so long to come, and is so large."""
        if self._is_over:
            return
        was_complete = self._awaited is None
        self._received = self._received + data if self._received else data
        self._parse(data)
        if self._is_over:
            return
        if self._awaited is not HEAD:
            self._received = b""
        if was_complete and self._awaited is None and self.cycle.response_complete:
            self._awaited = HEAD  # line feeds after an answer: any byte ends the keep-alive timer
        if self._awaited is not None:
            if self._timer is None:
                self._start_timer()
            self._count(len(data))

    def _parse(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            try:
                self.parser.feed_data(data)
            except HttpParserUpgrade as stop:
                self._parse_from_upgrade(memoryview(data)[stop.args[0] :])
        except HttpParserCallbackError:  # a method of this class raised
            self._refuse(self._fault or Fault(400, "the target of the request cannot be read"))
        except HttpParserError as error:
            self._refuse(Fault(400, str(error)))

    def _parse_from_upgrade(self, rest: memoryview) -> None:
        """A parser stops behind an offer of another protocol and cannot go on: a new one reads the head without it."""
        while True:
            head = without_upgrade(
                self.parser.get_method(), self.url, self.parser.get_http_version(), self.headers
            )
            self.parser = self._new_parser()
            self._is_offered_upgrade = False
            self.parser.feed_data(head)
            try:
                self.parser.feed_data(rest)
                return
            except HttpParserUpgrade as stop:
                rest = rest[stop.args[0] :]

    def _new_parser(self) -> HttpRequestParser:
        """Lenient where the answer is ours to give: what follows the last request, and which version it is."""
        parser = HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True, lenient_version=True)
        return parser

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._awaited = HEAD
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """What follows a chunked body is no part of the head (RFC 9110, 6.5.1), and nothing here asks for it."""
        if self._awaited is HEAD:
            if len(self.headers) == MAX_HEADER_FIELDS:
                self._fault = Fault(431, f"the head has more than {MAX_HEADER_FIELDS} fields")
                raise HttpParserError(self._fault.detail)
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Its head has come. One that offers another protocol comes a second time, without."""
        version = self.parser.get_http_version()
        names = [name for name, _ in self.headers]
        is_upgrade = self.parser.should_upgrade()
        # All that most requests cost: only what is not plain is looked at in full.
        is_plain = version == "1.1" and names.count(HOST) == 1 and TRANSFER_ENCODING not in names
        if not is_plain or is_upgrade or NUMBER_SIGN in self.url or self._received.find(RTSP) != -1:
            self._fault = fault_of(
                version, self.parser.get_method(), self.url, self.headers, self._received
            )
            if self._fault is not None:
                raise HttpParserError(self._fault.detail)
            self._is_offered_upgrade = is_upgrade
            if is_upgrade:
                return
        if len(self.pipeline) == MAX_PIPELINED:
            # For the log alone: those that wait have their answers, and then the connection ends.
            self._fault = Fault(400, "too many requests wait on this connection")
            raise HttpParserError(self._fault.detail)
        if self._is_from_proxy and self.client is not None:
            self.scope["client"] = (self._proxies.client_of(self.client[0], self.headers), 0)
        self._awaited = BODY
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """All of it has come."""
        if self._is_offered_upgrade:
            return
        self._awaited = None
        self._stop_timer()
        super().on_message_complete()
        if (
            self.cycle.response_complete and not self.transport.is_closing()
        ):  # it was answered before its body had come
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Start a request, one whose connection has yet to read an answer when that is read.

        So a connection that does not read holds one answer, however many it asks for.
        """
        if self.transport.get_write_buffer_size():
            app = partial(self._when_read, cycle, app)
        super()._start_asgi_task(cycle, app)

    async def _when_read(
        self,
        cycle: RequestResponseCycle,
        app: ASGI3Application,
        scope: Scope,
        receive: ASGIReceiveCallable,
        send: ASGISendCallable,
    ) -> None:
        with suppress(asyncio.CancelledError):  # the server ends, and has cut the connection
            await self.flow.drain()
        if self.transport.is_closing():
            cycle.disconnected = True
        else:
            await app(scope, receive, send)

    def on_response_complete(self) -> None:
        """Where the answer ends the connection, it is still to be read; a head that has begun has its time from now."""
        super().on_response_complete()
        if self._awaited is BODY:  # the rest of it is not kept
            self._receive_buffers.forget(self)
        if self._awaited is HEAD and self._timer is not None:
            self._stop_timer()
            if not self.transport.is_closing():
                self._start_timer()
        if self._unread_timer is None and self.transport.is_closing():
            self._unread_timer = self.loop.call_later(UNREAD_TIMEOUT_S, self.cut_off)

    def pause_writing(self) -> None:
        """The client reads more slowly than it is answered."""
        super().pause_writing()
        if self._unread_timer is None:
            self._unread_timer = self.loop.call_later(UNREAD_TIMEOUT_S, self.cut_off)

    def resume_writing(self) -> None:
        """It has read most of it. On a connection that ends, no other timer sees to the rest."""
        if self._unread_timer is not None and not self.transport.is_closing():
            self._unread_timer.cancel()
            self._unread_timer = None
        super().resume_writing()

    def _refuse(self, fault: Fault) -> None:
        """The end of the connection. A request that came whole before is carried out, and has its answer first."""
        self._is_over = True
        self._awaited = None
        self._stop_timer()
        if self.cycle is None or self.cycle.response_complete or self.cycle.more_body:
            self.transport.write(invalid_http_response(*fault, self.server_state.default_headers))
            self.transport.close()
        else:
            self.cycle.keep_alive = False

    def is_idle(self) -> bool:
        """Whether the client has yet to send a request, and could as well connect again."""
        return (
            self._awaited is not BODY
            and not self._is_answering()
            and not self.transport.is_closing()
        )

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def timeout_keep_alive_handler(self) -> None:
        """An idle connection is closed; one whose last answer was never read is cut."""
        if self.transport.get_write_buffer_size():
            self.cut_off()
        else:
            super().timeout_keep_alive_handler()

    def cut_off(self) -> None:
        """The client does not read: end the connection now."""
        cast(CoalescingTransport, self.transport).cut_off()

    def shutdown(self) -> None:
        """The server stops: an idle connection ends now, one that owes a request ends with its answer."""
        if self._awaited is HEAD and not self._is_answering():
            self._stop_timer()
            self._timer = self.loop.call_later(LAST_HEAD_TIMEOUT_S, self.transport.abort)
        else:
            super().shutdown()

    def end_with_answer(self) -> None:
        """The server will stop: an answer that is still to come says that it is the last one here."""
        if self._is_answering():
            self.cycle.keep_alive = False

    def _count(self, size_bytes: int) -> None:
        self._received_bytes += size_bytes
        if self._awaited is HEAD and self._received_bytes > MAX_HEAD_BYTES:
            self._refuse(Fault(400, "the head is too large"))
        elif self._received_bytes > MAX_WIRE_BYTES:
            self.transport.abort()
        elif (
            self._awaited is HEAD or self._is_answering()
        ):  # a body that was answered without is not kept
            self._receive_buffers.came(self, size_bytes)

    def _start_timer(self) -> None:
        self._received_bytes = 0
        if self._awaited is HEAD:
            self._timer = self.loop.call_later(HEAD_TIMEOUT_S, self._end_head)
        else:
            self._timer = self.loop.call_later(BODY_TIMEOUT_S, self._end_body)

    def _stop_timer(self) -> None:
        self._receive_buffers.forget(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end_head(self) -> None:
        self._timer = None
        if self._is_answering():
            self._start_timer()  # the request before it has its answer first
        else:
            self.transport.abort()

    def _end_body(self) -> None:
        """Give the application the part of the body that has come, marked as late: it answers, and that is the end."""
        self._timer = None
        if self.cycle.response_complete or self.transport.is_closing():
            self.transport.abort()  # it was answered without its body
        elif self.pipeline:
            self._start_timer()  # it is we who do not read: an earlier request of the connection runs
        else:
            self._receive_buffers.forget(self)
            self.cycle.scope["state"][BODY_IS_LATE] = True
            self.cycle.keep_alive = self.cycle.more_body = False
            self.cycle.message_event.set()
