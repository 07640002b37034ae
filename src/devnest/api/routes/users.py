"""`/users`: an account as its holder sees and changes it, and its public profile."""

import re

from litestar import delete, get, patch
from msgspec import UNSET, UnsetType

from devnest.api.http.bodies import NAME, AccountChange, AccountDeletion
from devnest.api.http.problems import FieldError, ProblemError
from devnest.api.http.request import ApiRequest
from devnest.api.http.response import Reply
from devnest.api.mails import send_change_verification, send_deleted, send_notice, shortened
from devnest.api.openapi.documentation import BEARER, problems
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
    summary="Read your account",
    security=BEARER,
    before_request=authenticate,
    responses=problems(401, 503),
    operation_id="readAccount",
)
async def me(request: ApiRequest) -> Reply[Account]:
    """Returns the account of the access token."""
    return Reply(await _own_account(request))


@patch(
    "/users/me",
    tags=["accounts"],
    summary="Change your username or e-mail address",
    security=BEARER,
    before_request=authenticate,
    responses=problems(400, 401, 403, 408, 409, 413, 415, 422, 429, 503),
    operation_id="changeAccount",
)
async def change_me(data: AccountChange, request: ApiRequest) -> Reply[Account]:
    """Changes your username, your e-mail address, or both. Either requires your password.

    A new username takes effect immediately. The old one is reserved for you for 90 days. You can
    change the username three times within 90 days; a change of case only does not count.

    A new address takes effect when the code that is mailed to it is sent to `/auth/email/verify`.
    Until then the response shows the old address, which gets a mail about the request. If you give
    your current address, its code is mailed again.
    """
    account = await _own_account(request)
    if data.username is UNSET and data.email is UNSET:
        return Reply(account)
    event = Event.USERNAME_CHANGE if data.email is UNSET else Event.EMAIL_CHANGE
    found = await _check_password(request, event, _required(data.password))
    if data.email is not UNSET:
        await _check_new_address(request, account, data.email)
    if data.username is not UNSET and data.username != account.username:
        before, account = (
            account.username,
            await _rename(request, data.username, _required(data.password), found),
        )
        what = f"your name at DevNest is {account.username} from now on; it was {before}."
        await send_notice(request, account.id, what)
    if data.email is not UNSET:
        await _send_confirmation(request, account, data.email, found.password_hash)
    return Reply(account)


def _required(password: str | UnsetType) -> str:
    """Return the password, or raise `ProblemError` 422 if it is missing."""
    if password is UNSET:
        errors = [FieldError("password", "missing")]
        raise ProblemError(
            422, "a change needs the password", kind="urn:devnest:invalid", errors=errors
        )
    return password


async def _own_account(request: ApiRequest) -> Account:
    account = await find_account(request.services.database, request.principal.account_id)
    if account is None:
        raise _account_gone()
    return account


async def _rename(request: ApiRequest, username: str, password: str, found: Login) -> Account:
    database, account_id = request.services.database, request.principal.account_id
    await check_address(request, Event.USERNAME_CHANGE, account_id)
    try:
        renamed = await change_username(database, account_id, username, found.password_hash)
        if renamed is None:  # a rehash may have replaced the hash since it was checked
            found = await _check_password(request, Event.USERNAME_CHANGE, password)
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


async def _check_new_address(request: ApiRequest, account: Account, email: str) -> None:
    """Raise `AlreadyTaken` or `Throttled` if the account may not change to this address."""
    if _is_other(account, email):
        await check_address(request, Event.EMAIL_CHANGE, account.id)
        if await is_address_taken(request.services.database, email):
            await count_failure(request, Event.EMAIL_CHANGE, account_id=account.id)
            await audit(request, Event.EMAIL_CHANGE, "email taken", account_id=account.id)
            raise AlreadyTaken("email")
    await count_failure(request, Event.EMAIL_CHANGE)


async def _send_confirmation(
    request: ApiRequest, account: Account, email: str, password_hash: str
) -> None:
    """Mail a code to the new address, and a notice to the old one."""
    send_change_verification(request, account.id, email, password_hash)
    if _is_other(account, email):
        what = (
            "someone entered your password and asked to change your e-mail address at DevNest to "
            f"{shortened(email)}."
        )
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
    responses=problems(400, 401, 403, 408, 413, 415, 422, 429, 503),
    operation_id="deleteAccount",
)
async def delete_me(data: AccountDeletion, request: ApiRequest) -> None:
    """Deletes your account permanently, and ends all its sessions.

    Your posts and comments stay, without your name. If you do not want that, delete them first.
    Nobody can register your username for 90 days.
    """
    account_id = request.principal.account_id
    # The first time, a rehash may have replaced the hash between the check and the deletion.
    for _ in range(2):
        found = await _check_password(request, Event.ACCOUNT_DELETE, data.password)
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


async def _check_password(request: ApiRequest, event: Event, password: str) -> Login:
    """Return the account's credentials if this is its password; raise a 401, 403 or 429 if not."""
    found = await find_login(request.services.database, request.principal.account_id)
    if found is None:
        raise _account_gone()
    async with confirmation_attempt(request, event) as attempt:
        if not await attempt.verify(password, found.password_hash):
            raise await _wrong_password(request, event)
        attempt.succeeded()
    return found


async def _wrong_password(request: ApiRequest, event: Event) -> ProblemError:
    await audit(request, event, "wrong password", account_id=request.principal.account_id)
    return ProblemError(403, "the current password is wrong", kind="urn:devnest:credentials")


def _account_gone() -> ProblemError:
    return ProblemError(401, "the account no longer exists", headers={"WWW-Authenticate": "Bearer"})


@get(
    "/users/{username:str}",
    tags=["accounts"],
    summary="Read a public profile",
    responses=problems(404, 503),
    operation_id="readProfile",
)
async def profile(username: str, request: ApiRequest) -> Reply[Profile]:
    """Returns the public profile of an account by its username, in any case. The account's posts
    are at `/posts?author=`.
    """
    # Names that no account can have are not looked up, because PostgreSQL refuses NUL.
    found = (
        await find_profile(request.services.database, username)
        if NAME_PATTERN.match(username)
        else None
    )
    if found is None:
        raise ProblemError(404, "there is no such account")
    return Reply(found)


ROUTES = [me, change_me, delete_me, profile]
