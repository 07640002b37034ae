"""`/users`: an account's own view of itself, and everyone's."""

import re

from litestar import get

from devnest.api.bodies import NAME
from devnest.api.documentation import BEARER, answers
from devnest.api.problems import ProblemError
from devnest.api.requests import ApiRequest, authenticate
from devnest.store import Account, Profile, find_account, find_profile

__all__ = ["ROUTES"]

NAME_PATTERN = re.compile(NAME["pattern"])


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


@get("/users/{username:str}", tags=["accounts"], summary="An account's public page", responses=answers(404, 503))
async def profile(username: str, request: ApiRequest) -> Profile:
    """By its username, in any case; the account's posts are at `/posts?author=`."""
    # What no account can be called is not looked up: PostgreSQL takes no NUL.
    found = await find_profile(request.services.database, username) if NAME_PATTERN.match(username) else None
    if found is None:
        raise ProblemError(404, "there is no such account")
    return found


ROUTES = [me, profile]
