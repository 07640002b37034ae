"""Who has just been refused, by the pool or for failing too often, is refused again before the request costs anything.

A flood comes from a few addresses, at many times the rate that can be hashed: what a refusal costs is what the flood
takes from everybody else.
"""

from typing import Any

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from devnest.addresses import subscriber_network
from devnest.api.http.bodies import Login
from devnest.api.http.problems import error_reply
from devnest.api.security.throttle_cache import ThrottleCache
from devnest.api.security.throttling import address, typed
from devnest.passwords import Hasher
from devnest.pool import PoolError
from devnest.store import Throttled

__all__ = ["Admission"]

LOGIN, REGISTER = HASHED = (
    "/api/v1/auth/login",
    "/api/v1/auth/register",
)  # the routes that anybody can make hash
SIGN_IN = msgspec.json.Decoder(Login)


class Admission:
    """ASGI middleware before the router, which costs more than all that is done here."""

    def __init__(self, app: ASGIApp, hasher: Hasher, throttle_cache: ThrottleCache) -> None:
        self._app = app
        self._hasher = hasher
        self._throttle_cache = throttle_cache  # nobody's where there are no limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] == ScopeType.HTTP
            and scope["method"] == "POST"
            and scope["path"].rstrip("/") in HASHED
        ):
            client = scope["client"]
            source = subscriber_network(client[0] if client else "")
            try:
                if scope["path"].rstrip("/") == REGISTER:
                    self._throttle_cache.refuse(address(source))
                elif self._throttle_cache:
                    receive = await self._refuse_sign_in(source, receive)
                self._hasher.raise_if_refused(source)
            except (Throttled, PoolError) as error:
                scope["path_template"] = scope["path"]
                await error_reply(error, scope)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _refuse_sign_in(self, source: str, receive: Receive) -> Receive:
        """Raise `Throttled` for one that has to wait: not with a device token, which may have a counter of its own.

        What was read of the body is given again by what is returned. A body that comes in pieces, or is none of a
        sign-in, is left to the route.
        """
        message = await receive()
        if message["type"] == "http.request" and not message["more_body"]:
            try:
                login = SIGN_IN.decode(message["body"])
            except (msgspec.DecodeError, UnicodeDecodeError):
                pass
            else:
                if not login.device_token:
                    self._throttle_cache.refuse(address(source), typed(login.name))
        messages = [
            message
        ]  # only until it is given: a body may have 1 MiB, and a sign-in waits for half a minute
        del message

        async def again() -> Any:
            return messages.pop() if messages else await receive()

        return again
