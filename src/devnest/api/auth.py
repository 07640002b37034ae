"""Accounts and sign-in: `/auth/register`, `/auth/login`, and who a request speaks for."""

from typing import Any

import msgspec
from litestar import Request, post
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from devnest.api.audit import audit
from devnest.api.bodies import Login, Registration
from devnest.api.client import client_address, user_agent
from devnest.api.documentation import answers
from devnest.api.limits import begin_attempt, count_failure
from devnest.api.mails import send_verification
from devnest.api.problems import ProblemError
from devnest.api.services import Services
from devnest.api.strength import check_strength
from devnest.api.tokens import ACCESS_TOKEN_LIFETIME_S, InvalidToken, Principal
from devnest.store import Account, AlreadyTaken, Event, create_account, create_session, find_credentials, taken_field

__all__ = ["Tokens", "authenticate", "login", "principal", "register"]


class Tokens(msgspec.Struct, frozen=True):
    """A new session. Send `access_token` as `Authorization: Bearer …`; it ends after `expires_in` seconds."""

    access_token: str
    token_type: str
    expires_in: int
    refresh_token: str


def authenticate(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
    """A guard: it runs before the body is read. Raises `ProblemError` or `InvalidToken`, both 401."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if not token:
        raise ProblemError(401, "this route needs a bearer token", headers={"WWW-Authenticate": "Bearer"})
    if scheme.lower() != "bearer":
        raise InvalidToken("the authorization is not a bearer token")
    services: Services = connection.app.state.services
    speaker = services.tokens.verify(token.strip())
    if speaker.session_id in services.revoked:
        raise InvalidToken("the session has ended")
    connection.scope["state"]["principal"] = speaker


def principal(request: Request[Any, Any, Any]) -> Principal:
    """Who the request speaks for, on a route with that guard."""
    speaker: Principal = request.scope["state"]["principal"]
    return speaker


@post(
    "/auth/register",
    tags=["accounts"],
    summary="Make an account",
    responses=answers(400, 409, 413, 415, 422, 429, 503),
)
async def register(data: Registration, request: Request[Any, Any, Any], services: Services) -> Account:
    """Usernames and e-mail addresses are unique whatever their case."""
    await check_strength(services, "password", data.password, (data.username, data.email))
    # The cheap question first; between it and the insert the indexes decide. No connection is held over the hash.
    if taken := await taken_field(services.database, data.username, data.email):
        raise await _taken(services, request, taken)
    password_hash = await services.hasher.hash(data.password)
    try:
        account = await create_account(services.database, data.username, data.email, password_hash)
    except AlreadyTaken as error:
        raise await _taken(services, request, error.field) from None
    await audit(services, request, Event.REGISTER, account_id=account.id)
    send_verification(services, account, account.email)
    return account


async def _taken(services: Services, request: Request[Any, Any, Any], field: str) -> AlreadyTaken:
    """The refusal, counted: asking for names until one is taken is a way to list accounts."""
    await count_failure(services, request, Event.REGISTER)
    await audit(services, request, Event.REGISTER, f"{field} taken")
    return AlreadyTaken(field)


@post(
    "/auth/login",
    status_code=200,
    tags=["accounts"],
    summary="Sign in",
    responses=answers(400, 401, 413, 415, 422, 429, 503),
)
async def login(data: Login, request: Request[Any, Any, Any], services: Services) -> Tokens:
    """An unknown account, a wrong password and a disabled account get the same answer after the same time."""
    found = await find_credentials(services.database, email=data.email or None, username=data.username or None)
    account_id = found.account_id if found else None
    attempt = await begin_attempt(services, request, Event.LOGIN, data.email or data.username or "", account_id)
    matches = await services.hasher.verify(data.password, found.password_hash if found else None)
    session = None
    if found and matches and not found.disabled:
        session = await create_session(
            services.database, found.account_id, address=client_address(request), user_agent=user_agent(request)
        )
    if found is None or session is None:
        reason = "unknown account" if found is None else "wrong password" if not matches else "disabled account"
        await audit(services, request, Event.LOGIN, reason, account_id=account_id)
        raise ProblemError(
            401, "the account or the password is wrong", kind="urn:devnest:credentials",
            headers={"WWW-Authenticate": "Bearer"},
        )  # fmt: skip
    await attempt.succeeded()
    session_id, refresh_token = session
    await audit(services, request, Event.LOGIN, account_id=account_id, session_id=session_id)
    access_token = services.tokens.issue(found.account_id, session_id)
    return Tokens(access_token, "Bearer", ACCESS_TOKEN_LIFETIME_S, refresh_token)
