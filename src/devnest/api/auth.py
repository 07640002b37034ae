"""Accounts and sign-in: `/auth/register`, `/auth/login`."""

import msgspec
from litestar import post

from devnest.api.bodies import Login, Registration
from devnest.api.documentation import answers
from devnest.api.problems import ProblemError
from devnest.api.requests import ApiRequest
from devnest.api.tokens import ACCESS_TOKEN_LIFETIME_S
from devnest.store import Account, AlreadyTaken, create_account, create_session, find_credentials, taken_field

__all__ = ["Tokens", "login", "register"]


class Tokens(msgspec.Struct, frozen=True):
    """A new session. Send `access_token` as `Authorization: Bearer …`; it ends after `expires_in` seconds."""

    access_token: str
    token_type: str
    expires_in: int
    refresh_token: str


@post(
    "/auth/register",
    tags=["accounts"],
    summary="Make an account",
    responses=answers(400, 409, 413, 415, 422, 503),
)
async def register(data: Registration, request: ApiRequest) -> Account:
    """Usernames and e-mail addresses are unique whatever their case."""
    request.services.hasher.check_room(request.client_address)
    # The cheap question first; between it and the insert the indexes decide. No connection is held over the hash.
    if taken := await taken_field(request.services.database, data.username, data.email):
        raise AlreadyTaken(taken)
    hasher = request.services.hasher
    password_hash = await request.unless_gone(hasher.hash(data.password, client=request.client_address))
    return await create_account(request.services.database, data.username, data.email, password_hash)


@post(
    "/auth/login",
    status_code=200,
    tags=["accounts"],
    summary="Sign in",
    responses=answers(400, 401, 413, 415, 422, 503),
)
async def login(data: Login, request: ApiRequest) -> Tokens:
    """An unknown account and a wrong password get the same answer after the same time."""
    request.services.hasher.check_room(request.client_address)
    found = await find_credentials(request.services.database, email=data.email or None, username=data.username or None)
    stored = found.password_hash if found else None
    verifying = request.services.hasher.verify(data.password, stored, client=request.client_address)
    matches = await request.unless_gone(verifying)
    session = await create_session(request.services.database, found.account_id) if found and matches else None
    if found is None or session is None:
        raise ProblemError(
            401, "the account or the password is wrong", kind="urn:devnest:credentials",
            headers={"WWW-Authenticate": "Bearer"},
        )  # fmt: skip
    session_id, refresh_token = session
    access_token = request.services.tokens.issue(found.account_id, session_id)
    return Tokens(access_token, "Bearer", ACCESS_TOKEN_LIFETIME_S, refresh_token)
