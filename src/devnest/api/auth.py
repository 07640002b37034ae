"""Accounts and sign-in: `/auth/register`, `/auth/login`."""

import msgspec
from litestar import post

from devnest.api.audit import audit
from devnest.api.bodies import Login, Registration
from devnest.api.documentation import answers
from devnest.api.limits import begin_attempt, count_failure
from devnest.api.mails import send_verification
from devnest.api.problems import ProblemError
from devnest.api.requests import ApiRequest
from devnest.api.strength import check_strength
from devnest.api.tokens import ACCESS_TOKEN_LIFETIME_S
from devnest.store import Account, AlreadyTaken, Event, create_account, create_session, find_credentials, taken_field

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
    responses=answers(400, 409, 408, 413, 415, 422, 429, 503),
)
async def register(data: Registration, request: ApiRequest) -> Account:
    """Usernames and e-mail addresses are unique whatever their case."""
    request.services.hasher.check_room(request.client_address)
    await check_strength(request.services, "password", data.password, (data.username, data.email))
    # The cheap question first; between it and the insert the indexes decide. No connection is held over the hash.
    if taken := await taken_field(request.services.database, data.username, data.email):
        raise await _taken(request, taken)
    hasher = request.services.hasher
    password_hash = await request.unless_gone(hasher.hash(data.password, client=request.client_address))
    try:
        account = await create_account(request.services.database, data.username, data.email, password_hash)
    except AlreadyTaken as error:
        raise await _taken(request, error.field) from None
    await audit(request, Event.REGISTER, account_id=account.id)
    send_verification(request.services, account, account.email)
    return account


async def _taken(request: ApiRequest, field: str) -> AlreadyTaken:
    """The refusal, counted: asking for names until one is taken is a way to list accounts."""
    await count_failure(request, Event.REGISTER)
    await audit(request, Event.REGISTER, f"{field} taken")
    return AlreadyTaken(field)


@post(
    "/auth/login",
    status_code=200,
    tags=["accounts"],
    summary="Sign in",
    responses=answers(400, 401, 408, 413, 415, 422, 429, 503),
)
async def login(data: Login, request: ApiRequest) -> Tokens:
    """An unknown account, a wrong password and a disabled account get the same answer after the same time."""
    request.services.hasher.check_room(request.client_address)
    found = await find_credentials(request.services.database, email=data.email or None, username=data.username or None)
    account_id = found.account_id if found else None
    attempt = await begin_attempt(request, Event.LOGIN, data.email or data.username or "", account_id)
    stored = found.password_hash if found else None
    matches = await attempt.verify(data.password, stored)
    session = None
    if found and matches and not found.disabled:
        session = await create_session(
            request.services.database, found.account_id, address=request.client_address, user_agent=request.user_agent
        )
    if found is None or session is None:
        reason = "unknown account" if found is None else "wrong password" if not matches else "disabled account"
        await audit(request, Event.LOGIN, reason, account_id=account_id)
        raise ProblemError(
            401, "the account or the password is wrong", kind="urn:devnest:credentials",
            headers={"WWW-Authenticate": "Bearer"},
        )  # fmt: skip
    await attempt.succeeded()
    session_id, refresh_token = session
    await audit(request, Event.LOGIN, account_id=account_id, session_id=session_id)
    request.services.rehasher.consider(found.account_id, data.password, found.password_hash)
    access_token = request.services.tokens.issue(found.account_id, session_id)
    return Tokens(access_token, "Bearer", ACCESS_TOKEN_LIFETIME_S, refresh_token)
