"""Cross-origin requests: which other sites' pages may read the responses of `/api/`.

The protocol is https://fetch.spec.whatwg.org/#http-cors-protocol. It is off unless the operator
names origins. `Cors` then runs before the router and answers a browser's preflight request itself.

Litestar has a CORS middleware too, but it matches origins by pattern, and it omits `Vary` from
responses that a cache may keep. Credentials are never allowed: DevNest sets no cookie, and a page
sends its access token in a header, so it has to know the token already.
"""

from collections.abc import Iterable

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["CORS_HEADERS", "Cors"]

# The key in a scope's state under which `Cors` leaves its headers, for the responses that
# `RequestMiddleware` sends from outside it.
CORS_HEADERS = "cors"

PREFIX = "/api/"  # no page of another site needs health checks or metrics
PREFLIGHT = [
    (b"access-control-allow-methods", b"GET, POST, PATCH, DELETE"),
    (
        b"access-control-allow-headers",
        b"Authorization, Content-Type, If-Match, If-None-Match, Idempotency-Key, X-Request-Id",
    ),
    (b"access-control-max-age", b"7200"),  # Chromium caches a preflight response for 2 h at most
]
EXPOSED = (b"access-control-expose-headers", b"ETag, Location, Retry-After, X-Request-Id")


class Cors:
    """ASGI middleware that lets pages of other origins read the responses of `/api/`.

    Args:
        app: The application behind it.
        origins: The origins that are allowed, compared exactly, or `*` for all.
    """

    def __init__(self, app: ASGIApp, origins: Iterable[str]) -> None:
        self._app = app
        self._origins = {origin.encode() for origin in origins}
        self._any = b"*" in self._origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight request, or pass a request on and add headers to its response."""
        if scope["type"] != ScopeType.HTTP or not scope["path"].startswith(PREFIX):
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"])
        allowed = scope["state"][CORS_HEADERS] = self._headers_for(given.get(b"origin"))
        if (
            scope["method"] == "OPTIONS"
            and b"access-control-request-method" in given
            and len(allowed) > 1
        ):
            await send(
                {
                    "type": "http.response.start",
                    "status": 204,
                    "headers": [*allowed[:-1], *PREFLIGHT],
                }
            )
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return

        async def send_with_origin(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *allowed]
            await send(message)

        await self._app(scope, receive, send_with_origin)

    def _headers_for(self, origin: bytes | None) -> list[tuple[bytes, bytes]]:
        """The CORS headers for this origin; `Vary` keeps caches from mixing up two origins."""
        if self._any:
            return [(b"access-control-allow-origin", b"*"), EXPOSED]
        varies = (b"vary", b"Origin")
        if origin is None or origin not in self._origins:
            return [varies]
        return [varies, (b"access-control-allow-origin", origin), EXPOSED]
