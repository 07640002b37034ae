"""Accounts and sign-in: `/auth/register`, `/auth/login`, and who a request speaks for."""

from typing import Any

import msgspec
from litestar import Request, post

from devnest.api.bodies import Login, Registration
from devnest.api.documentation import answers
from devnest.api.problems import ProblemError
from devnest.api.services import Services
from devnest.api.tokens import ACCESS_TOKEN_LIFETIME_S, InvalidToken, Principal
from devnest.store import Account, AlreadyTaken, create_account, create_session, find_credentials, taken_field

__all__ = ["Tokens", "authenticate", "login", "register"]


class Tokens(msgspec.Struct, frozen=True):
    """A new session. Send `access_token` as `Authorization: Bearer …`; it ends after `expires_in` seconds."""

    access_token: str
    token_type: str
    expires_in: int
    refresh_token: str


async def authenticate(request: Request[Any, Any, Any], services: Services) -> Principal:
    """Who the bearer token speaks for; raises `ProblemError` or `InvalidToken`, both 401."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if not token:
        raise ProblemError(401, "this route needs a bearer token", headers={"WWW-Authenticate": "Bearer"})
    if scheme.lower() != "bearer":
        raise InvalidToken("the authorization is not a bearer token")
    return services.tokens.verify(token.strip())


@post(
    "/auth/register",
    tags=["accounts"],
    summary="Make an account",
    responses=answers(400, 409, 413, 415, 422, 503),
)
async def register(data: Registration, services: Services) -> Account:
    """Usernames and e-mail addresses are unique whatever their case."""
    # The cheap question first; between it and the insert the indexes decide. No connection is held over the hash.
    if taken := await taken_field(services.database, data.username, data.email):
        raise AlreadyTaken(taken)
    password_hash = await services.hasher.hash(data.password)
    return await create_account(services.database, data.username, data.email, password_hash)


@post(
    "/auth/login",
    status_code=200,
    tags=["accounts"],
    summary="Sign in",
    responses=answers(400, 401, 413, 415, 422, 503),
)
async def login(data: Login, services: Services) -> Tokens:
    """An unknown account and a wrong password get the same answer after the same time."""
    found = await find_credentials(services.database, email=data.email, username=data.username)
    matches = await services.hasher.verify(data.password, found.password_hash if found else None)
    session = await create_session(services.database, found.account_id) if found and matches else None
    if found is None or session is None:
        raise ProblemError(
            401, "the account or the password is wrong", kind="urn:devnest:credentials",
            headers={"WWW-Authenticate": "Bearer"},
        )  # fmt: skip
    session_id, refresh_token = session
    access_token = services.tokens.issue(found.account_id, session_id)
    return Tokens(access_token, "Bearer", ACCESS_TOKEN_LIFETIME_S, refresh_token)
