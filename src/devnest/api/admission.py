"""Who has just been refused a hash is refused again before the request costs anything.

A flood comes from a few addresses, at many times the rate that can be hashed: what a refusal costs is what the flood
takes from everybody else.
"""

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from devnest.api.network import network
from devnest.api.problems import answer_to
from devnest.passwords import Hasher
from devnest.pool import PoolError

__all__ = ["Admission"]

HASHED = {"/api/v1/auth/login", "/api/v1/auth/register"}  # the routes that anybody can make hash


class Admission:
    """ASGI middleware before the router: neither the route nor the body is looked at."""

    def __init__(self, app: ASGIApp, hasher: Hasher) -> None:
        self._app = app
        self._hasher = hasher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and scope["method"] == "POST" and scope["path"].rstrip("/") in HASHED:
            client = scope["client"]
            try:
                self._hasher.check_room(network(client[0] if client else ""))
            except PoolError as error:
                scope["path_template"] = scope["path"]
                await answer_to(error, scope)(scope, receive, send)
                return
        await self._app(scope, receive, send)
