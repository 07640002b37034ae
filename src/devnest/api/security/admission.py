"""`Admission`: repeats a recent refusal before the request costs anything.

A flood comes from a few addresses, at many times the rate at which the pool can hash. The time
spent on refusals is lost to all other clients, and the router alone takes longer than `Admission`.
"""

from typing import Any

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from devnest.addresses import subscriber_network
from devnest.api.http.bodies import Login
from devnest.api.http.problems import error_reply
from devnest.api.security.throttle_cache import ThrottleCache
from devnest.api.security.throttling import address_subject, name_subject
from devnest.passwords import Hasher
from devnest.pool import PoolError
from devnest.store import Throttled

__all__ = ["Admission"]

# The routes on which a client without an account can cause a hash.
LOGIN, REGISTER = HASHING_PATHS = ("/api/v1/auth/login", "/api/v1/auth/register")
LOGIN_DECODER = msgspec.json.Decoder(Login)


class Admission:
    """ASGI middleware in front of the router.

    It refuses sign-ins and registrations of clients that the pool has just refused, and of
    addresses and names that have just been refused for too many failures.

    Args:
        app: The application behind it.
        hasher: Knows which clients the pool has refused.
        throttle_cache: Knows which failures were refused. It stays empty without limits.
    """

    def __init__(self, app: ASGIApp, hasher: Hasher, throttle_cache: ThrottleCache) -> None:
        self._app = app
        self._hasher = hasher
        self._throttle_cache = throttle_cache

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on."""
        if (
            scope["type"] == ScopeType.HTTP
            and scope["method"] == "POST"
            and scope["path"].rstrip("/") in HASHING_PATHS
        ):
            client = scope["client"]
            source = subscriber_network(client[0] if client else "")
            try:
                if scope["path"].rstrip("/") == REGISTER:
                    self._throttle_cache.refuse(address_subject(source))
                elif self._throttle_cache:
                    receive = await self._check_login(source, receive)
                self._hasher.raise_if_refused(source)
            except (Throttled, PoolError) as error:
                scope["path_template"] = scope["path"]
                await error_reply(error, scope)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _check_login(self, source: str, receive: Receive) -> Receive:
        """Raise `Throttled` for a sign-in that has to wait.

        A sign-in with a device token passes, because it may have a counter of its own. So does a
        body that arrives in several pieces or is not that of a sign-in: the route decides then.

        Returns:
            A `receive` for the route, which first repeats the message that was read here.
        """
        message = await receive()
        if message["type"] == "http.request" and not message["more_body"]:
            try:
                login = LOGIN_DECODER.decode(message["body"])
            except (msgspec.DecodeError, UnicodeDecodeError):
                pass
            else:
                if not login.device_token:
                    self._throttle_cache.refuse(address_subject(source), name_subject(login.name))
        # Nothing may keep the message after it is repeated: a body may have 1 MiB, and the request
        # may wait for its hash for half a minute.
        messages = [message]
        del message

        async def receive_again() -> Any:
            return messages.pop() if messages else await receive()

        return receive_again
