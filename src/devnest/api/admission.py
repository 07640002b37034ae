"""Who has just been refused, by the pool or for failing too often, is refused again before the request costs anything.

A flood comes from a few addresses, at many times the rate that can be hashed: what a refusal costs is what the flood
takes from everybody else.
"""

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from devnest.addresses import subscriber_network
from devnest.api.limits import address
from devnest.api.problems import answer_to
from devnest.api.waits import Waits
from devnest.passwords import Hasher
from devnest.pool import PoolError
from devnest.store import Throttled

__all__ = ["Admission"]

REGISTER = "/api/v1/auth/register"
HASHED = {"/api/v1/auth/login", REGISTER}  # the routes that anybody can make hash


class Admission:
    """ASGI middleware before the router: neither the route nor the body is looked at."""

    def __init__(self, app: ASGIApp, hasher: Hasher, waits: Waits) -> None:
        self._app = app
        self._hasher = hasher
        self._waits = waits  # nobody's where there are no limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and scope["method"] == "POST" and scope["path"].rstrip("/") in HASHED:
            client = scope["client"]
            source = subscriber_network(client[0] if client else "")
            try:
                if scope["path"].rstrip("/") == REGISTER:  # a sign-in's body may have a device token
                    self._waits.refuse(address(source))
                self._hasher.check_room(source)
            except (Throttled, PoolError) as error:
                scope["path_template"] = scope["path"]
                await answer_to(error, scope)(scope, receive, send)
                return
        await self._app(scope, receive, send)
