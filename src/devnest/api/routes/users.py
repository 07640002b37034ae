"""`/users`: an account's own view of itself, what its holder can do to it, and everyone's view."""

import re

from litestar import delete, get, patch
from msgspec import UNSET, UnsetType

from devnest.api.http.bodies import NAME, AccountChange, AccountDeletion
from devnest.api.http.problems import FieldError, ProblemError
from devnest.api.http.request import ApiRequest
from devnest.api.http.response import Reply
from devnest.api.mails import send_change_verification, send_deleted, send_notice, shortened
from devnest.api.openapi.documentation import BEARER, answers
from devnest.api.security.audit import audit
from devnest.api.security.authentication import authenticate
from devnest.api.security.throttling import check_address, confirmation_attempt, count_failure
from devnest.store import (
    Account,
    AlreadyTaken,
    Event,
    Login,
    Profile,
    RenamedTooOften,
    change_username,
    delete_account,
    find_account,
    find_login,
    find_profile,
    folded,
    is_address_taken,
)

__all__ = ["ROUTES"]

NAME_PATTERN = re.compile(NAME["pattern"])


@get(
    "/users/me",
    tags=["accounts"],
    summary="Your account",
    security=BEARER,
    before_request=authenticate,
    responses=answers(401, 503),
)
async def me(request: ApiRequest) -> Reply[Account]:
    """The account the access token was given to."""
    return Reply(await _own_account(request))


@patch(
    "/users/me",
    tags=["accounts"],
    summary="Change your name or address",
    security=BEARER,
    before_request=authenticate,
    responses=answers(400, 401, 403, 408, 409, 413, 415, 422, 429, 503),
)
async def change_me(data: AccountChange, request: ApiRequest) -> Reply[Account]:
    """Either needs your password.

    A new name is yours at once. The old one is kept for you for 90 days, and nobody else can take it. There are three
    new names within 90 days; another case of a name is none. A new address takes effect when the code that is mailed
    there comes back to `/auth/email/verify`; until then the answer shows the old one, which is told by mail. The
    address that you have gets the code once more.
    """
    account = await _own_account(request)
    if data.username is UNSET and data.email is UNSET:
        return Reply(account)
    event = Event.USERNAME_CHANGE if data.email is UNSET else Event.EMAIL_CHANGE
    found = await _confirm(request, event, _given(data.password))
    if data.email is not UNSET:
        await _may_move(request, account, data.email)
    if data.username is not UNSET and data.username != account.username:
        before, account = (
            account.username,
            await _rename(request, data.username, _given(data.password), found),
        )
        what = f"your name at DevNest is {account.username} from now on; it was {before}."
        await send_notice(request, account.id, what)
    if data.email is not UNSET:
        await _ask_for_address(request, account, data.email, found.password_hash)
    return Reply(account)


def _given(password: str | UnsetType) -> str:
    if password is UNSET:
        errors = [FieldError("password", "missing")]
        raise ProblemError(
            422, "a change needs the password", kind="urn:devnest:invalid", errors=errors
        )
    return password


async def _own_account(request: ApiRequest) -> Account:
    account = await find_account(request.services.database, request.principal.account_id)
    if account is None:
        raise _gone()
    return account


async def _rename(request: ApiRequest, username: str, password: str, found: Login) -> Account:
    database, account_id = request.services.database, request.principal.account_id
    await check_address(request, Event.USERNAME_CHANGE, account_id)
    try:
        renamed = await change_username(database, account_id, username, found.password_hash)
        if renamed is None:  # another hash of the same password may have come in between: a rehash
            found = await _confirm(request, Event.USERNAME_CHANGE, password)
            renamed = await change_username(database, account_id, username, found.password_hash)
    except AlreadyTaken:
        await count_failure(request, Event.USERNAME_CHANGE, account_id=account_id)
        await audit(request, Event.USERNAME_CHANGE, "username taken", account_id=account_id)
        raise
    except RenamedTooOften:
        await audit(request, Event.USERNAME_CHANGE, "too often", account_id=account_id)
        raise
    if renamed is None:
        raise await _wrong_password(request, Event.USERNAME_CHANGE)
    await audit(
        request,
        Event.USERNAME_CHANGE,
        account_id=account_id,
        session_id=request.principal.session_id,
    )
    return renamed


async def _may_move(request: ApiRequest, account: Account, email: str) -> None:
    """Raise what forbids the new address."""
    if _is_other(account, email):
        await check_address(request, Event.EMAIL_CHANGE, account.id)
        if await is_address_taken(request.services.database, email):
            await count_failure(request, Event.EMAIL_CHANGE, account_id=account.id)
            await audit(request, Event.EMAIL_CHANGE, "email taken", account_id=account.id)
            raise AlreadyTaken("email")
    await count_failure(request, Event.EMAIL_CHANGE)


async def _ask_for_address(
    request: ApiRequest, account: Account, email: str, password_hash: str
) -> None:
    """Mail a code to the new address, and word of it to the old one."""
    send_change_verification(request, account.id, email, password_hash)
    if _is_other(account, email):
        what = f"someone gave your password and asked to change your e-mail address at DevNest to {shortened(email)}."
        await send_notice(request, account.id, what)
    await audit(
        request, Event.EMAIL_CHANGE, account_id=account.id, session_id=request.principal.session_id
    )


def _is_other(account: Account, email: str) -> bool:
    return account.email is None or folded(email) != folded(account.email)


@delete(
    "/users/me",
    status_code=204,
    tags=["accounts"],
    summary="Delete your account",
    security=BEARER,
    before_request=authenticate,
    responses=answers(400, 401, 403, 408, 413, 415, 422, 429, 503),
)
async def delete_me(data: AccountDeletion, request: ApiRequest) -> None:
    """For good. Your sessions end everywhere; your posts and comments stay without your name.

    To take them with you, delete them first. Nobody can register your name for 90 days.
    """
    account_id = request.principal.account_id
    for _ in range(
        2
    ):  # the first time another hash of the same password may have come in between: a rehash
        found = await _confirm(request, Event.ACCOUNT_DELETE, data.password)
        ended = await delete_account(request.services.database, account_id, found.password_hash)
        if ended is not None:
            break
    else:
        raise await _wrong_password(request, Event.ACCOUNT_DELETE)
    for session_id in ended:
        request.services.revoked.add(session_id)
    await audit(
        request,
        Event.ACCOUNT_DELETE,
        account_id=account_id,
        session_id=request.principal.session_id,
    )
    send_deleted(request, found)


async def _confirm(request: ApiRequest, event: Event, password: str) -> Login:
    """What the account logs in with, if this is its password; raises `ProblemError` 401 or 403, or `Throttled`."""
    found = await find_login(request.services.database, request.principal.account_id)
    if found is None:
        raise _gone()
    async with confirmation_attempt(request, event) as attempt:
        if not await attempt.verify(password, found.password_hash):
            raise await _wrong_password(request, event)
        attempt.succeeded()
    return found


async def _wrong_password(request: ApiRequest, event: Event) -> ProblemError:
    await audit(request, event, "wrong password", account_id=request.principal.account_id)
    return ProblemError(403, "the current password is wrong", kind="urn:devnest:credentials")


def _gone() -> ProblemError:
    return ProblemError(401, "the account no longer exists", headers={"WWW-Authenticate": "Bearer"})


@get(
    "/users/{username:str}",
    tags=["accounts"],
    summary="An account's public page",
    responses=answers(404, 503),
)
async def profile(username: str, request: ApiRequest) -> Reply[Profile]:
    """By its username, in any case; the account's posts are at `/posts?author=`."""
    # What no account can be called is not looked up: PostgreSQL takes no NUL.
    found = (
        await find_profile(request.services.database, username)
        if NAME_PATTERN.match(username)
        else None
    )
    if found is None:
        raise ProblemError(404, "there is no such account")
    return Reply(found)


ROUTES = [me, change_me, delete_me, profile]
