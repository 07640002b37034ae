"""Reads one HTTP request, and writes one response, each within bounds."""

import asyncio
from http import HTTPStatus

import httptools

__all__ = ["BadRequest", "Request", "head", "receive", "response"]

MAX_REQUEST_S = 10.0
MAX_REQUEST_BYTES = 16 << 10  # with its head; what the page sends is far smaller


class BadRequest(Exception):
    """The bytes are no request, or one that is too long."""


class Request:
    """One request, filled in by httptools' parser.

    Attributes:
        method: In capitals.
        path: Without the query.
        headers: Their names in lower case; of a name that occurs twice, both values.
        body: The body.
    """

    def __init__(self) -> None:
        self.method = ""
        self.path = ""
        self.headers: dict[str, str] = {}
        self.body = b""
        self.is_whole = False
        self._url = b""

    def on_url(self, piece: bytes) -> None:
        self._url += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def on_body(self, piece: bytes) -> None:
        self.body += piece

    def on_message_complete(self) -> None:
        self.path = self._url.partition(b"?")[0].decode("latin-1")
        self.is_whole = True


async def receive(reader: asyncio.StreamReader) -> Request | None:
    """Return the request, or None where the client has gone.

    Raises:
        BadRequest: There is none within the bounds.
    """
    request = Request()
    parser = httptools.HttpRequestParser(request)
    left = MAX_REQUEST_BYTES
    try:
        async with asyncio.timeout(MAX_REQUEST_S):
            while not request.is_whole:
                piece = await reader.read(left)
                if not piece:
                    return None
                parser.feed_data(piece)
                left -= len(piece)
                if not left and not request.is_whole:
                    raise BadRequest
    except (httptools.HttpParserError, TimeoutError):
        raise BadRequest from None
    request.method = parser.get_method().decode("latin-1")
    return request


def head(status: int, headers: dict[str, str]) -> bytes:
    """Return the head of a response after which the connection is closed."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    every = {
        **headers,
        "Cache-Control": "no-store",
        "Connection": "close",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
    }
    lines += [f"{name}: {value}" for name, value in every.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def response(
    status: int, text: str = "", kind: str = "text/plain", headers: dict[str, str] | None = None
) -> bytes:
    """Return a whole response."""
    body = text.encode()
    return (
        head(
            status,
            {
                "Content-Type": f"{kind}; charset=utf-8",
                "Content-Length": str(len(body)),
                **(headers or {}),
            },
        )
        + body
    )
