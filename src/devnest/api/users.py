"""`/users`: an account's own view of itself."""

from litestar import get

from devnest.api.documentation import BEARER, answers
from devnest.api.problems import ProblemError
from devnest.api.requests import ApiRequest, authenticate
from devnest.store import Account, find_account

__all__ = ["me"]


@get(
    "/users/me",
    tags=["accounts"],
    summary="Your account",
    security=BEARER,
    guards=[authenticate],
    responses=answers(401, 503),
)
async def me(request: ApiRequest) -> Account:
    """The account the access token was given to."""
    account = await find_account(request.services.database, request.principal.account_id)
    if account is None:
        raise ProblemError(401, "the account no longer exists", headers={"WWW-Authenticate": "Bearer"})
    return account
