"""Authentication of a request by its bearer token."""

from typing import Any

from litestar import Request

from devnest.api.http.problems import InvalidToken, ProblemError
from devnest.api.http.request import ApiRequest, header

__all__ = ["authenticate"]


async def authenticate(request: Request[Any, Any, Any]) -> None:
    """Verify the access token and set `request.principal`. Routes run it as `before_request`.

    It is not a Litestar guard, because Litestar copies the route for each guard, which takes a
    tenth of the time of a light request (docs/decisions/0005). It is a coroutine although it never
    waits, because Litestar would run a plain function in a thread.

    Args:
        request: A request whose body has not been read.

    Raises:
        ProblemError: 401 if there is no token.
        InvalidToken: The token is not valid, or its session has ended. The response is 401 too.
    """
    assert isinstance(request, ApiRequest)
    scheme, _, token = header(request.scope, b"authorization").partition(" ")
    if not token:
        raise ProblemError(
            401, "this route needs a bearer token", headers={"WWW-Authenticate": "Bearer"}
        )
    if scheme.lower() != "bearer":
        raise InvalidToken("the authorization is not a bearer token")
    principal = request.services.tokens.verify(token.strip())
    if request.services.revoked.has_ended(principal.session_id, principal.issued_at):
        raise InvalidToken("the session has ended")
    request.scope["state"]["principal"] = principal
