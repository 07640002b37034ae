"""`ApiRequest`: a request with its decoded body, its sender and the services that routes use."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from litestar import Request
from litestar.exceptions.http_exceptions import RequestEntityTooLarge

from devnest.addresses import subscriber_network
from devnest.api.http.bodies import MAX_BODY_BYTES, decode_body
from devnest.api.http.problems import ClientGone, ProblemError
from devnest.mail import Sender
from devnest.store import Origin

if TYPE_CHECKING:
    from devnest.api.services import Services

__all__ = ["BODY_IS_LATE", "ApiRequest", "Principal", "header"]

# The server sets this key in a request's state when it stops waiting for the rest of the body.
BODY_IS_LATE = "body_is_late"
# A longer name is cut, because the audit log stores it with every event.
MAX_USER_AGENT_CHARS = 256
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Principal:
    """The account and the session that a request is authenticated for."""

    account_id: UUID
    session_id: UUID
    issued_at: float = field(default=0.0, compare=False)  # of its access token, in Unix time


class ApiRequest(Request[Any, Any, Any]):
    """Litestar's request with the things that routes need.

    They are properties and not injected dependencies: Litestar resolves several dependencies in a
    task group, which takes a tenth of the time of a light route (docs/decisions/0005).

    Attributes:
        services: The parts behind the API. Each application makes a subclass with its own.
    """

    services: "Services"

    @property
    def principal(self) -> Principal:
        """Who the request is authenticated for, on routes that run `authenticate` first."""
        principal: Principal = self.scope["state"]["principal"]
        return principal

    @property
    def user_agent(self) -> str | None:
        """The `User-Agent` header, shortened, without characters that cannot be printed."""
        given = header(self.scope, b"user-agent")[:MAX_USER_AGENT_CHARS]
        if not given.isprintable():
            given = "".join(character for character in given if character.isprintable())
        return given or None

    @property
    def client_address(self) -> str:
        """The client's address in canonical form, behind trusted proxies; empty if unknown."""
        return self.client.host if self.client else ""

    @property
    def network(self) -> str:
        """The client's address, or its /64 for IPv6: one client for throttling and fairness."""
        return subscriber_network(self.client_address)

    @property
    def sender(self) -> Sender:
        """Who causes a mail that this request leads to; the outbox is fair between senders."""
        principal: Principal | None = self.scope["state"].get("principal")
        return Sender(self.network, "" if principal is None else str(principal.account_id))

    @property
    def origin(self) -> Origin:
        """Where the request came from, for the audit log."""
        return Origin(self.client_address, self.user_agent, self.scope["state"].get("request_id"))

    async def cancel_on_disconnect(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine, and cancel it if the client disconnects first.

        It is meant for work that waits in a queue, such as a hash or a search, because cancelling
        takes it out of the queue. The unread rest of the body is discarded.

        Args:
            work: The coroutine. It is also cancelled if the caller is.

        Returns:
            Its result. An exception that it raises is raised here.

        Raises:
            ClientGone: The client has disconnected.
        """
        working = asyncio.ensure_future(work)
        disconnecting = asyncio.ensure_future(self._wait_for_disconnect())
        try:
            await asyncio.wait((working, disconnecting), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise ClientGone
            return working.result()
        finally:
            working.cancel()
            disconnecting.cancel()

    async def _wait_for_disconnect(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def body(self) -> bytes:
        """Read the whole body, of `MAX_BODY_BYTES` at most; Litestar's own method is slower.

        Raises:
            RequestEntityTooLarge: The body is larger, or announced to be.
            ProblemError: 408 if the rest of the body did not arrive in time.
            ClientGone: The client has disconnected.
        """
        if not isinstance(self._body, bytes):
            announced = header(self.scope, b"content-length")
            if announced.isdigit() and int(announced) > MAX_BODY_BYTES:
                raise RequestEntityTooLarge
            self._body = await self._read_body()
        return self._body

    async def _read_body(self) -> bytes:
        parts, size, more = list[bytes](), 0, True
        while more:
            message: Any = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            parts.append(message["body"])
            size += len(message["body"])
            if size > MAX_BODY_BYTES:
                raise RequestEntityTooLarge
            more = message["more_body"]
        if BODY_IS_LATE in self.scope["state"]:
            headers = {"Connection": "close"}
            raise ProblemError(
                408, "the body took too long to arrive", kind="urn:devnest:slow", headers=headers
            )
        return b"".join(parts)

    async def json(self) -> Any:
        """Decode the body into the type of the route's `data` parameter.

        Raises:
            ProblemError: 415 for another media type or a content coding, 400 if the body is not
                JSON, 422 if it does not fit the type, and the errors of `body`.
        """
        media_type = header(self.scope, b"content-type").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise ProblemError(
                415, "the body has to be application/json", kind="urn:devnest:media-type"
            )
        if _has_content_coding(self.scope):
            detail = "the body must not have a Content-Encoding"
            headers = {"Accept-Encoding": "identity"}
            raise ProblemError(415, detail, kind="urn:devnest:content-encoding", headers=headers)
        field = self.route_handler.parsed_data_field
        assert field is not None
        body = await self.body()
        # A request may wait for its hash for half a minute, and nobody reads the body again.
        self._body = b""
        return decode_body(body, field.annotation)


def _has_content_coding(scope: Any) -> bool:
    """Whether the body is compressed or encoded otherwise; `identity` does not count."""
    lines = [value for name, value in scope["headers"] if name == b"content-encoding"]
    codings = b",".join(lines).lower().split(b",") if lines else []
    return any(coding.strip() not in (b"", b"identity") for coding in codings)


def header(scope: Any, name: bytes) -> str:
    """Look up one header without building a mapping of all of them.

    Args:
        scope: The request's ASGI scope.
        name: The header's name in lower case.

    Returns:
        The value of the first such header, or an empty string.
    """
    for key, value in scope["headers"]:
        if key == name:
            return value.decode("latin-1")  # type: ignore[no-any-return]
    return ""
