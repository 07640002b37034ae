"""Bounds what a client's connection can take: time where the client can stall, and memory.

It derives from uvicorn's protocol, which has no timeout for a request that never ends or a response
that is never read, and no limit for a head.
"""

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

# From the first byte of a request, or the start of a connection, to the end of the headers.
HEAD_TIMEOUT_S = 15.0
# From the end of the headers to the end of the body, which has at most 1 MiB.
BODY_TIMEOUT_S = 10.0
# For the rest of a head that has begun when the server starts to stop.
SHUTDOWN_HEAD_TIMEOUT_S = 5.0
# For a client that reads nothing of its response, or reads the last one of a connection too slowly.
UNREAD_TIMEOUT_S = 30.0
# Bounds a head that arrives in pieces; the parser has no limit of its own.
MAX_HEAD_BYTES = 64 * 1024
# Bounds the work for one head: every field is compared several times, and 64 KiB hold 12,000 of the
# shortest.
MAX_HEADER_FIELDS = 100
# Bounds a body with its chunk headers and trailers, which the parser does not limit. A body of 1
# MiB in chunks of one byte takes 6 MiB.
MAX_WIRE_BYTES = 16 * 1024 * 1024
# Bounds the requests of one connection that wait for the one before them.
MAX_PIPELINED = 32
HEAD, BODY = "head", "body"


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with timeouts and limits.

    A request that arrives in one piece starts no timer.

    Args:
        config: uvicorn's settings, with the application.
        server_state: uvicorn's state of the server, shared by its connections.
        proxies: The proxies whose `X-Forwarded-For` names the client.
        send_buffers: Counts what the clients of this server have not read.
        receive_buffers: Counts what this server holds of unfinished requests.

    Attributes:
        network: The client's network; connections from one network share their limits.
    """

    network = ""
    _awaited: str | None = HEAD  # the part of the request that is incomplete; None between requests
    _timer: asyncio.TimerHandle | None = None  # for the awaited part
    _received_bytes = 0  # since that timer started
    _unread_timer: asyncio.TimerHandle | None = None
    _is_refused = False  # the last request was not valid, so nothing after it can be parsed
    _fault: Fault | None = None  # of the refused request, if it was not the parser that refused it
    _received = b""  # the received part of an incomplete head, with what came in the same read
    _running: (
        RequestResponseCycle  # the request that was started last; later ones wait in the pipeline
    )
    _is_upgrade_offered = False  # by the head that the parser has just read

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
        """Wrap the transport, find the client's address, and start the timer of the first head."""
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
        """Cancel the timers."""
        self._stop_timer()
        if self._unread_timer is not None:
            self._unread_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived, and bound the size and duration of what is incomplete."""
        if self._is_refused:
            return
        was_complete = self._awaited is None
        self._received = self._received + data if self._received else data
        self._parse(data)
        if self._is_refused:
            return
        if self._awaited is not HEAD:
            self._received = b""
        if was_complete and self._awaited is None and self.cycle.response_complete:
            # Line feeds after a response: they begin no request, but have ended the keep-alive
            # timer.
            self._awaited = HEAD
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
        except HttpParserCallbackError:  # raised by a method of this class
            self._refuse(self._fault or Fault(400, "the target of the request cannot be read"))
        except HttpParserError as error:
            self._refuse(Fault(400, str(error)))

    def _parse_from_upgrade(self, rest: memoryview) -> None:
        """Parse the head again without its `Upgrade` header: a parser cannot go on after one."""
        while True:
            head = without_upgrade(
                self.parser.get_method(), self.url, self.parser.get_http_version(), self.headers
            )
            self.parser = self._new_parser()
            self._is_upgrade_offered = False
            self.parser.feed_data(head)
            try:
                self.parser.feed_data(rest)
                return
            except HttpParserUpgrade as stop:
                rest = rest[stop.args[0] :]

    def _new_parser(self) -> HttpRequestParser:
        """Make a parser that leaves other versions, and data after the end, for us to refuse."""
        parser = HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True, lenient_version=True)
        return parser

    def on_message_begin(self) -> None:
        """Begin to wait for a head."""
        self._awaited = HEAD
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a field of the head. Trailers (RFC 9110, 6.5.1) are ignored: nothing uses them."""
        if self._awaited is HEAD:
            if len(self.headers) == MAX_HEADER_FIELDS:
                self._fault = Fault(431, f"the head has more than {MAX_HEADER_FIELDS} fields")
                raise HttpParserError(self._fault.detail)
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Check the head. If it offers another protocol, it is parsed again without the offer."""
        version = self.parser.get_http_version()
        names = [name for name, _ in self.headers]
        is_upgrade = self.parser.should_upgrade()
        # Nearly all requests are plain, and need no further checks.
        is_plain = version == "1.1" and names.count(HOST) == 1 and TRANSFER_ENCODING not in names
        if not is_plain or is_upgrade or NUMBER_SIGN in self.url or self._received.find(RTSP) != -1:
            self._fault = fault_of(
                version, self.parser.get_method(), self.url, self.headers, self._received
            )
            if self._fault is not None:
                raise HttpParserError(self._fault.detail)
            self._is_upgrade_offered = is_upgrade
            if is_upgrade:
                return
        if len(self.pipeline) == MAX_PIPELINED:
            # The client does not see this text: requests in the queue are answered, then the
            # connection closes.
            self._fault = Fault(400, "too many requests wait on this connection")
            raise HttpParserError(self._fault.detail)
        if self._is_from_proxy and self.client is not None:
            self.scope["client"] = (self._proxies.client_of(self.client[0], self.headers), 0)
        self._awaited = BODY
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Stop the timer of the body."""
        if self._is_upgrade_offered:
            return
        self._awaited = None
        self._stop_timer()
        super().on_message_complete()
        # The request may have been answered before its body was complete.
        if self.cycle.response_complete and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Start a request as soon as the client has read the response before it.

        So the server holds one response for a client that does not read, however many it asks for.
        """
        self._running = cycle
        if self.transport.get_write_buffer_size():
            app = partial(self._run_when_read, cycle, app)
        super()._start_asgi_task(cycle, app)

    async def _run_when_read(
        self,
        cycle: RequestResponseCycle,
        app: ASGI3Application,
        scope: Scope,
        receive: ASGIReceiveCallable,
        send: ASGISendCallable,
    ) -> None:
        with suppress(asyncio.CancelledError):  # the server stops, and has cut off this connection
            await self.flow.drain()
        if self.transport.is_closing():
            cycle.disconnected = True
        else:
            await app(scope, receive, send)

    def on_response_complete(self) -> None:
        """Restart the timer of a head that has begun; bound the time to read a last response."""
        super().on_response_complete()
        if self._awaited is BODY:  # answered early: the rest of the body is discarded, not held
            self._receive_buffers.forget(self)
        if self._awaited is HEAD and self._timer is not None:
            self._stop_timer()
            if not self.transport.is_closing():
                self._start_timer()
        if self._unread_timer is None and self.transport.is_closing():
            self._unread_timer = self.loop.call_later(UNREAD_TIMEOUT_S, self.cut_off)

    def pause_writing(self) -> None:
        """Start the timer for a client that does not read its response."""
        super().pause_writing()
        if self._unread_timer is None:
            self._unread_timer = self.loop.call_later(UNREAD_TIMEOUT_S, self.cut_off)

    def resume_writing(self) -> None:
        """Stop that timer, unless the connection is closing: then no other timer bounds it."""
        if self._unread_timer is not None and not self.transport.is_closing():
            self._unread_timer.cancel()
            self._unread_timer = None
        super().resume_writing()

    def _refuse(self, fault: Fault) -> None:
        """Stop reading, and close the connection.

        The client gets the refusal only if no response is due before it. Otherwise the connection
        closes after the last of these.
        """
        self._is_refused = True
        self._awaited = None
        self._stop_timer()
        last = self.cycle
        if self.pipeline and last.more_body:  # the refused request itself waits for its turn
            self.pipeline.popleft()
            last = self.pipeline[0][0] if self.pipeline else self._running
        elif last is None or last.response_complete or last.more_body:
            self.transport.write(invalid_http_response(*fault, self.server_state.default_headers))
            self.transport.close()
            return
        last.keep_alive = False

    def is_idle(self) -> bool:
        """Return whether closing the connection would lose nothing: no request is in progress."""
        return (
            self._awaited is not BODY
            and not self._is_answering()
            and not self.transport.is_closing()
        )

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; cut it off if its client has not read the last response."""
        if self.transport.get_write_buffer_size():
            self.cut_off()
        else:
            super().timeout_keep_alive_handler()

    def cut_off(self) -> None:
        """End the connection of a client that does not read, without sending the rest."""
        cast(CoalescingTransport, self.transport).cut_off()

    def shutdown(self) -> None:
        """Close an idle connection now, and another one after its response; the server stops."""
        if self._awaited is HEAD and not self._is_answering():
            self._stop_timer()
            self._timer = self.loop.call_later(SHUTDOWN_HEAD_TIMEOUT_S, self.transport.abort)
        else:
            super().shutdown()

    def close_after_response(self) -> None:
        """Let a response that is still to come close the connection, with `Connection: close`."""
        if self._is_answering():
            self.cycle.keep_alive = False

    def _count(self, size_bytes: int) -> None:
        self._received_bytes += size_bytes
        if self._awaited is HEAD and self._received_bytes > MAX_HEAD_BYTES:
            self._refuse(Fault(400, "the head is too large"))
        elif self._received_bytes > MAX_WIRE_BYTES:
            self.transport.abort()
        # The rest of a body that was answered early is discarded, so it is not counted.
        elif self._awaited is HEAD or self._is_answering():
            self._receive_buffers.received(self, size_bytes)

    def _start_timer(self) -> None:
        self._received_bytes = 0
        if self._awaited is HEAD:
            self._timer = self.loop.call_later(HEAD_TIMEOUT_S, self._on_head_timeout)
        else:
            self._timer = self.loop.call_later(BODY_TIMEOUT_S, self._on_body_timeout)

    def _stop_timer(self) -> None:
        self._receive_buffers.forget(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_head_timeout(self) -> None:
        self._timer = None
        if self._is_answering():
            self._start_timer()  # the request before it is still being answered
        else:
            self.transport.abort()

    def _on_body_timeout(self) -> None:
        """Let the application answer an incomplete body, marked as late, and close after that."""
        self._timer = None
        if self.cycle.response_complete or self.transport.is_closing():
            self.transport.abort()  # already answered
        elif self.pipeline:
            self._start_timer()  # reading is paused by us, while an earlier request is in progress
        else:
            self._receive_buffers.forget(self)
            self.cycle.scope["state"][BODY_IS_LATE] = True
            self.cycle.keep_alive = self.cycle.more_body = False
            self.cycle.message_event.set()
