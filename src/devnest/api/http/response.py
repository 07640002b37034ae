"""`Reply`: a JSON response that is encoded once and sends itself."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
from litestar import Response
from litestar.types import HTTPResponseBodyEvent, HTTPResponseStartEvent, Receive, Scope, Send

__all__ = ["Reply", "encode"]

T = TypeVar("T")
JSON = (b"content-type", b"application/json")
encode = msgspec.json.Encoder().encode


class Reply(Response[T]):
    """A Litestar response with a value that msgspec can encode.

    Litestar builds each response twice, and copies headers, cookies and encoders that no route
    here uses. This class skips that: the object that a route returns is also the ASGI application
    that sends the response. Its type parameter still tells the OpenAPI document what is sent.

    Args:
        content: The value, or its encoded bytes.
        headers: Further headers.
        status: The status; 0 stands for the route's own.
        content_type: The complete header.
    """

    def __init__(
        self,
        content: T | bytes,
        *,
        headers: Mapping[str, str] | None = None,
        status: int = 0,
        content_type: tuple[bytes, bytes] = JSON,
    ) -> None:
        self._body = content if isinstance(content, bytes) else encode(content)
        self._headers = headers
        self._status = status
        self._content_type = content_type

    def to_asgi_response(  # type: ignore[override]
        self, *_: Any, status_code: int = 0, **__: Any
    ) -> "Reply[T]":
        """Return this object, with the route's status if it has none of its own."""
        self._status = self._status or status_code
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        headers = []
        # With 304 they would describe the content that is not sent (RFC 9110, 15.4.5).
        if self._status != HTTPStatus.NOT_MODIFIED:
            headers = [self._content_type, (b"content-length", b"%d" % len(self._body))]
        if self._headers:
            headers += [
                (name.encode("latin-1"), value.encode("latin-1"))
                for name, value in self._headers.items()
            ]
        start: HTTPResponseStartEvent = {
            "type": "http.response.start",
            "status": self._status,
            "headers": headers,
        }
        await send(start)
        body: HTTPResponseBodyEvent = {
            "type": "http.response.body",
            "body": self._body,
            "more_body": False,
        }
        await send(body)
