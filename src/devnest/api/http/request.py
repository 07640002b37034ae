"""A request as the routes see it: its body in their types, who sent it, and the parts they work with."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from litestar import Request
from litestar.exceptions.http_exceptions import RequestEntityTooLarge

from devnest.addresses import subscriber_network
from devnest.api.http.bodies import MAX_BODY_BYTES, read
from devnest.api.http.problems import ClientGone, ProblemError
from devnest.mail import Sender
from devnest.store import Origin

if TYPE_CHECKING:
    from devnest.api.services import Services

__all__ = ["BODY_IS_LATE", "ApiRequest", "Principal", "header"]

BODY_IS_LATE = (
    "body_is_late"  # in a request's state: the server has given up waiting for the rest of the body
)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a request speaks for."""

    account_id: UUID
    session_id: UUID
    issued_at: float = field(default=0.0, compare=False)  # Unix time, s


class ApiRequest(Request[Any, Any, Any]):
    """Litestar's request with some things added. `services`: the parts behind the API; each app has a class of its own.

    Properties, not injected dependencies: Litestar resolves several of those in a task group, which costs a light
    route a tenth of its time.
    """

    services: "Services"

    @property
    def principal(self) -> Principal:
        """Who the request speaks for, on a route where `authenticate` comes first."""
        principal: Principal = self.scope["state"]["principal"]
        return principal

    @property
    def user_agent(self) -> str | None:
        """What the client calls itself, without anything that could confuse a log or a database."""
        given = header(self.scope, b"user-agent")[:256]
        if not given.isprintable():
            given = "".join(character for character in given if character.isprintable())
        return given or None

    @property
    def client_address(self) -> str:
        """Whose request it is, as far as fairness goes."""
        return self.client.host if self.client else ""

    @property
    def network(self) -> str:
        """The same for those who have more than one address."""
        return subscriber_network(self.client_address)

    @property
    def sender(self) -> Sender:
        """Who causes the mail that comes of the request."""
        principal: Principal | None = self.scope["state"].get("principal")
        return Sender(self.network, "" if principal is None else str(principal.account_id))

    @property
    def origin(self) -> Origin:
        """What the audit log says of where it came from."""
        return Origin(self.client_address, self.user_agent, self.scope["state"].get("request_id"))

    async def unless_gone(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of some work, which is cancelled where the client disconnects first.

        For work that is worth it: a hash or a search that waits in its queue leaves it. A body that has not been read
        is dropped. Raises `ClientGone`.
        """
        working = asyncio.ensure_future(work)
        leaving = asyncio.ensure_future(self._leaving())
        try:
            await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise ClientGone
            return working.result()
        finally:
            working.cancel()
            leaving.cancel()

    async def _leaving(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def body(self) -> bytes:
        """The body, of at most 1 MiB; raises `ProblemError` 413 and 408. Litestar's own way costs ten times as much."""
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
                408, "the body took too long to come", kind="urn:devnest:slow", headers=headers
            )
        return b"".join(parts)

    async def json(self) -> Any:
        """The body, decoded straight into the type of the route's `data`; raises `ProblemError` 415, 400 or 422."""
        media_type = header(self.scope, b"content-type").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise ProblemError(
                415, "the body has to be application/json", kind="urn:devnest:media-type"
            )
        if _is_coded(self.scope):
            detail, headers = "the body has to be sent as it is", {"Accept-Encoding": "identity"}
            raise ProblemError(415, detail, kind="urn:devnest:content-encoding", headers=headers)
        field = self.route_handler.parsed_data_field
        assert field is not None
        body = await self.body()
        self._body = b""  # nobody asks again, and a request may wait for half a minute
        return read(body, field.annotation)


def _is_coded(scope: Any) -> bool:
    """Whether the content is compressed, say. Several lines are one list, and `identity` is no coding."""
    lines = [value for name, value in scope["headers"] if name == b"content-encoding"]
    codings = b",".join(lines).lower().split(b",") if lines else []
    return any(coding.strip() not in (b"", b"identity") for coding in codings)


def header(scope: Any, name: bytes) -> str:
    """One header's value or nothing, without a mapping of all."""
    for key, value in scope["headers"]:
        if key == name:
            return value.decode("latin-1")  # type: ignore[no-any-return]
    return ""
