"""One keep-alive HTTP/1.1 connection that carries one request at a time.

The generator must cost far less than what it measures. So there is no client library here: a request is
bytes made by the caller, the answer is read by httptools as it arrives, and the clock is read in the
protocol's own callbacks and not when the waiting coroutine gets its turn. Every way an answer can fail is an
`Answer` too, with status 0 and a reason: a load run counts failures, it does not raise them.
"""

import asyncio
from dataclasses import dataclass
from time import perf_counter
from typing import cast

import httptools

__all__ = ["MAX_BODY_BYTES", "Answer", "Connection"]

MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_HEAD_BYTES = 256 * 1024  # as much as comes in one piece
_SWITCHING_PROTOCOLS = 101
_FIRST_FINAL_STATUS = 200


@dataclass(slots=True)
class Answer:
    """What came back: `status` 0 means no whole answer, and `reason` says why."""

    status: int
    body: bytes
    content_type: str
    retry_after: str
    ended: float  # perf_counter() at the answer's last byte, or at the failure
    reason: str = ""

    @property
    def is_json(self) -> bool:
        return self.content_type.partition(";")[0].strip().lower().endswith(("/json", "+json"))


class Connection(asyncio.Protocol):
    """Owned by one VU on one loop; `send` may be called again only after its answer has come."""

    __slots__ = (
        "_bodiless",
        "_body",
        "_content_type",
        "_delimited",
        "_headed",
        "_loop",
        "_parser",
        "_retry_after",
        "_size",
        "_transport",
        "_waiting",
        "received",
        "sent_at",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self.received = 0  # bytes since the owner last looked
        self.sent_at = 0.0
        self._bodiless = False  # the last request was a HEAD
        self._begin()

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def is_waiting(self) -> bool:
        return self._waiting is not None

    def send(self, request: bytes) -> asyncio.Future[Answer]:
        """Write `request` now; the future is resolved with its answer and never with an exception."""
        assert self._transport is not None
        assert self._waiting is None, "a virtual user makes one request at a time"
        if self._bodiless:
            self._begin()  # the parser still expects the body of which the last answer told
        self._bodiless = request.startswith(b"HEAD ")
        self._waiting = waiting = self._loop.create_future()
        self.sent_at = perf_counter()
        self._transport.write(request)
        return waiting

    def fail(self, reason: str) -> None:
        """Give the caller a failure, and end the connection: a late answer must meet no other request."""
        self._resolve(Answer(0, b"", "", "", perf_counter(), reason))
        self.abort()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has no such base

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        if self._waiting is None:
            self.abort()  # nobody asked: what follows would be taken for the next answer
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.fail("not HTTP/1.1")
        if self._waiting is not None and not self._headed:
            self._size += len(data)
            if self._size > MAX_HEAD_BYTES:
                self.fail(f"headers over {MAX_HEAD_BYTES >> 10} KiB")

    def eof_received(self) -> None:
        if self._headed and not self._delimited:
            self._complete(keep=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._waiting is not None:
            self.fail("connection reset" if exc is not None else "connection closed")

    # httptools' callbacks

    def on_message_begin(self) -> None:
        if self._waiting is None:
            raise httptools.HttpParserError("a second answer to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        match name.lower():
            case b"content-type":
                self._content_type = value.decode("latin-1")
            case b"content-length" | b"transfer-encoding":
                self._delimited = True
            case b"retry-after":
                self._retry_after = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._headed = self._parser.get_status_code() >= _FIRST_FINAL_STATUS
        if self._headed:
            self._size = 0  # the body's from now on
        if self._headed and self._bodiless:
            self._complete(keep=self._parser.should_keep_alive())

    def on_body(self, body: bytes) -> None:
        if self._waiting is None:
            raise httptools.HttpParserError("a body after an answer to HEAD")
        self._size += len(body)
        if self._size > MAX_BODY_BYTES:
            self.fail(f"body over {MAX_BODY_BYTES >> 20} MiB")
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status == _SWITCHING_PROTOCOLS:
            self.fail("switched protocols unasked")
        elif status >= _FIRST_FINAL_STATUS and not self._bodiless:
            self._complete(keep=self._parser.should_keep_alive())

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._size = 0
        self._content_type = self._retry_after = ""
        self._headed = self._delimited = False

    def _complete(self, *, keep: bool) -> None:
        ended = perf_counter()
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        status = self._parser.get_status_code()
        self._resolve(Answer(status, body, self._content_type, self._retry_after, ended))
        if keep:
            self._headed = self._delimited = False
            self._body = []
            self._size = 0
            self._content_type = self._retry_after = ""
        else:
            self.abort()

    def _resolve(self, answer: Answer) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)
