"""One keep-alive HTTP/1.1 connection that carries one request at a time.

The generator must cost far less than the server it measures, so it uses no client library. The
caller passes each request as bytes, and httptools parses the response as it arrives. The protocol's
callbacks read the clock, so a duration does not include the time until the waiting coroutine runs.
A failed request is an `Answer` as well, with status 0 and a reason: a load run counts failures and
does not raise them.
"""

import asyncio
from dataclasses import dataclass
from time import perf_counter
from typing import cast

import httptools

__all__ = ["MAX_BODY_BYTES", "Answer", "Connection"]

# Limits of a response; they keep a broken target from filling the generator's memory.
MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_HEAD_BYTES = 256 * 1024
_SWITCHING_PROTOCOLS = 101
_FIRST_FINAL_STATUS = 200


@dataclass(slots=True)
class Answer:
    """A response, or the reason why there is none."""

    status: int  # 0: there was no complete response
    body: bytes
    content_type: str
    retry_after: str
    ended: float  # perf_counter() at the last byte of the response, or at the failure
    reason: str = ""  # of the failure; empty with a complete response

    @property
    def is_json(self) -> bool:
        """Whether the content type is JSON."""
        return self.content_type.partition(";")[0].strip().lower().endswith(("/json", "+json"))


class Connection(asyncio.Protocol):
    """The connection of one VU, on one event loop. `send` is called again only after its answer."""

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
        self.received = 0  # bytes, since the owner last set it to 0
        self.sent_at = 0.0
        self._bodiless = False  # whether the last request was a HEAD
        self._begin()

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def is_waiting(self) -> bool:
        """Whether a request has no answer yet."""
        return self._waiting is not None

    def send(self, request: bytes) -> asyncio.Future[Answer]:
        """Write `request` now.

        Returns:
            A future of its answer. It never gets an exception: a failure is an `Answer` too.
        """
        assert self._transport is not None
        assert self._waiting is None, "a virtual user makes one request at a time"
        if self._bodiless:
            self._begin()  # the old parser still expects the body that the HEAD's headers announced
        self._bodiless = request.startswith(b"HEAD ")
        self._waiting = waiting = self._loop.create_future()
        self.sent_at = perf_counter()
        self._transport.write(request)
        return waiting

    def fail(self, reason: str) -> None:
        """Answer the waiting request with a failure, and close the connection.

        On an open connection a late response would be taken for that of the next request.
        """
        self._resolve(Answer(0, b"", "", "", perf_counter(), reason))
        self.abort()

    def abort(self) -> None:
        """Close the connection without waiting."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, since uvloop's transports do not inherit from `asyncio.Transport`.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        if self._waiting is None:
            self.abort()  # no request waits, and these bytes would be taken for the next response
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
            self._size = 0  # counted the headers; now it counts the body
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
