"""Cross-origin requests: which other sites' pages may read the answers of `/api/`.

The protocol is https://fetch.spec.whatwg.org/#http-cors-protocol.
Off unless origins are named; then this stands before the routes and answers a browser's preflight by itself. Litestar
has the like, but matches origins by pattern and leaves `Vary` out of answers that a cache may keep. Credentials are
never allowed: DevNest has no cookie, and a page sends its access token as a header, which it has to know.
"""

from collections.abc import Iterable

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["ALLOWED", "Cors"]

ALLOWED = "cors"  # the name of an answer's headers in the scope's state, for answers that do not pass here

COVERED = "/api/"  # metrics and health are nobody's page's business
PREFLIGHT = [
    (b"access-control-allow-methods", b"GET, POST, PATCH, DELETE"),
    (
        b"access-control-allow-headers",
        b"Authorization, Content-Type, If-Match, If-None-Match, Idempotency-Key, X-Request-Id",
    ),
    (b"access-control-max-age", b"7200"),  # the longest that Chromium keeps it
]
READABLE = (b"access-control-expose-headers", b"ETag, Location, Retry-After, X-Request-Id")


class Cors:
    """ASGI middleware that lets pages of exactly these origins in, or of all with `*`."""

    def __init__(self, app: ASGIApp, origins: Iterable[str]) -> None:
        self._app = app
        self._origins = {origin.encode() for origin in origins}
        self._any = b"*" in self._origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or not scope["path"].startswith(COVERED):
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"])
        allowed = scope["state"][ALLOWED] = self._allowed(given.get(b"origin"))
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

    def _allowed(self, origin: bytes | None) -> list[tuple[bytes, bytes]]:
        """What the answer says to this origin; a cache must not give one origin's answer to another."""
        if self._any:
            return [(b"access-control-allow-origin", b"*"), READABLE]
        varies = (b"vary", b"Origin")
        if origin is None or origin not in self._origins:
            return [varies]
        return [varies, (b"access-control-allow-origin", origin), READABLE]
