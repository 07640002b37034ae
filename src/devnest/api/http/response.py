"""An answer in JSON, made at once."""

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
    """Litestar's response for an answer of ours: a value that msgspec can encode, or its encoded bytes.

    Litestar builds a response twice, copying headers, cookies and encoders that no route here has: as much work as all
    the rest of a light request. This one keeps the type for the OpenAPI document, and is itself what answers.
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

    def to_asgi_response(self, *_: Any, status_code: int = 0, **__: Any) -> "Reply[T]":  # type: ignore[override]
        """Itself, with the route's status where it has none of its own."""
        self._status = self._status or status_code
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        headers = []
        if (
            self._status != HTTPStatus.NOT_MODIFIED
        ):  # those would be of the content that is not sent (RFC 9110, 15.4.5)
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
