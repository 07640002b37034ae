"""Registration and sign-in: `/auth/register` and `/auth/login`."""

from litestar import post

from devnest.api.http.bodies import Login, Registration, Tokens
from devnest.api.http.idempotency import read_claim
from devnest.api.http.problems import ProblemError
from devnest.api.http.request import ApiRequest
from devnest.api.http.response import Reply
from devnest.api.mails import send_verification
from devnest.api.openapi.documentation import problems
from devnest.api.security.audit import audit
from devnest.api.security.devices import find_device, issue_device_token, new_device
from devnest.api.security.strength import check_strength
from devnest.api.security.throttling import (
    Attempt,
    count_failure,
    login_attempt,
    registration_attempt,
    retry_attempt,
)
from devnest.api.security.tokens import ACCESS_TOKEN_LIFETIME_S
from devnest.store import (
    Account,
    AlreadyTaken,
    Claim,
    Credentials,
    Event,
    KeyReused,
    Opened,
    Opening,
    create_account,
    create_session,
    end_surplus,
    find_answer,
    find_credentials,
    find_login,
    new_token,
    taken_field,
)

__all__ = ["SignedIn", "login", "register"]


class SignedIn(Tokens, frozen=True):
    """The tokens of a new session, and the token to send with the next sign-in on this device."""

    device_token: str


@post(
    "/auth/register",
    tags=["accounts"],
    summary="Create an account",
    responses=problems(400, 409, 408, 413, 415, 422, 429, 503),
    operation_id="register",
)
async def register(data: Registration, request: ApiRequest) -> Reply[Account]:
    """Creates an account, and mails a code to its address that `/auth/email/verify` accepts.

    Usernames and e-mail addresses are unique regardless of case. A repeated request with the same
    `Idempotency-Key` and the same password returns the account that the first one created.
    """
    claim = read_claim(request, request.network, (data.username, data.email))
    if earlier := await _find_earlier(request, claim):
        return Reply(await _repeat(request, data, earlier))
    await check_strength(
        request.services.policy, "password", data.password, (data.username, data.email)
    )
    try:
        account = await _create(request, data, claim, token := new_token())
    except AlreadyTaken as error:
        # A retry of this request may have been faster.
        if earlier := await _find_earlier(request, claim):
            return Reply(await _repeat(request, data, earlier))
        await count_failure(request, Event.REGISTER)
        await audit(request, Event.REGISTER, f"{error.field} taken")
        raise
    send_verification(request, data.email, token)
    return Reply(account)


async def _create(
    request: ApiRequest, data: Registration, claim: Claim | None, token: str
) -> Account:
    """Create the account; no database connection is held during the hash.

    The first query saves a hash if a name is taken. The insert checks it again.
    """
    database = request.services.database
    if taken := await taken_field(database, data.username, data.email):
        raise AlreadyTaken(taken)
    async with registration_attempt(request, Event.REGISTER) as attempt:
        password_hash = await attempt.hash(data.password)
        return await create_account(
            database, data.username, data.email, password_hash, claim, request.origin, token
        )


async def _find_earlier(request: ApiRequest, claim: Claim | None) -> Account | None:
    return None if claim is None else await find_answer(request.services.database, claim, Account)


async def _repeat(request: ApiRequest, data: Registration, account: Account) -> Account:
    """Return the account if the password is the same, and raise `KeyReused` if it is not.

    The password is checked and throttled like that of a sign-in.
    """
    found = await find_login(request.services.database, account.id)
    async with retry_attempt(request, Event.REGISTER, account.id) as attempt:
        if not await attempt.verify(data.password, found.password_hash if found else None):
            await audit(request, Event.REGISTER, "wrong password", account_id=account.id)
            raise KeyReused
        attempt.succeeded()
    return account


@post(
    "/auth/login",
    status_code=200,
    tags=["accounts"],
    summary="Sign in",
    responses=problems(400, 401, 408, 413, 415, 422, 429, 503),
    operation_id="login",
)
async def login(data: Login, request: ApiRequest) -> Reply[SignedIn]:
    """Opens a session. An unknown account, a wrong password and a disabled account get the same
    response after the same time.

    Store `device_token` on the device, and send it with the next sign-in there. Failed attempts of
    others then do not delay yours. The token alone gives access to nothing. A token that is not
    valid for the account is ignored.

    An account has at most 300 sessions. A further sign-in ends the session that has been unused
    for the longest time.
    """
    found = await _find(request, data)
    account_id = found.account_id if found else None
    device = (
        find_device(found.device_key, data.device_token) if found and data.device_token else None
    )
    async with login_attempt(request, Event.LOGIN, data.name, account_id, device) as attempt:
        found, session = await _open_session(request, data, attempt, found)
        attempt.succeeded()
    if attempt.outdated:
        request.services.rehasher.replace(found.account_id, data.password, found.password_hash)
    access_token = request.services.tokens.issue(found.account_id, session.id)
    device_token = issue_device_token(found.device_key, new_device() if device is None else device)
    return Reply(
        SignedIn(
            access_token, "Bearer", ACCESS_TOKEN_LIFETIME_S, session.refresh_token, device_token
        )
    )


async def _find(request: ApiRequest, data: Login) -> Credentials | None:
    email, username = data.email or None, data.username or None
    return await find_credentials(request.services.database, email=email, username=username)


async def _open_session(
    request: ApiRequest, data: Login, attempt: Attempt, found: Credentials | None
) -> tuple[Credentials, Opened]:
    """Check the password and store a session; raise `ProblemError` 401 if that is refused.

    Returns:
        The credentials that matched, and the session.
    """
    database, account_id = request.services.database, found.account_id if found else None
    # The stored hash may change between the check and the insert, because of a new password or a
    # rehash. Then the password is checked once more.
    for _ in range(2):
        matches = await attempt.verify(data.password, found.password_hash if found else None)
        if found is None or not matches or found.disabled:
            break
        if found.surplus:
            for ended in await end_surplus(
                database, found.account_id, found.surplus, request.origin
            ):
                request.services.revoked.add(ended)
        opening = Opening(found.account_id, found.password_hash, request.origin)
        session = await request.services.opener(opening) or await create_session(database, opening)
        if session is not None:
            return found, session
        found = await _find(request, data)
    await audit(request, Event.LOGIN, _refusal(found, matches=matches), account_id=account_id)
    raise ProblemError(
        401,
        "the account or the password is wrong",
        kind="urn:devnest:credentials",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _refusal(found: Credentials | None, *, matches: bool) -> str:
    """Why a sign-in was refused, for the audit log."""
    if found is None:
        return "unknown account"
    if not matches:
        return "wrong password"
    return "disabled account" if found.disabled else "changed meanwhile"
