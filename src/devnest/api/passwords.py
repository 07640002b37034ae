"""Changing, forgetting and resetting passwords, and confirming e-mail addresses."""

from litestar import post

from devnest.api.audit import audit
from devnest.api.auth import Tokens
from devnest.api.bodies import Forgotten, MailedToken, PasswordChange, PasswordReset
from devnest.api.documentation import BEARER, answers
from devnest.api.limits import Attempt, begin_attempt, count_failure, mail_allowed
from devnest.api.mails import send_moved, send_notice, send_reset
from devnest.api.problems import ProblemError
from devnest.api.reply import Reply
from devnest.api.requests import ApiRequest, authenticate
from devnest.api.strength import check_strength
from devnest.api.tokens import ACCESS_TOKEN_LIFETIME_S
from devnest.store import (
    AlreadyTaken,
    Changed,
    Event,
    Login,
    change_password,
    find_login,
    find_reset_target,
    folded,
    reset_password,
    verify_email,
)

__all__ = ["ROUTES"]

TOKEN_REFUSED = "the token is not valid; ask for a new one"  # noqa: S105 (no secret)


@post(
    "/auth/password/change",
    status_code=200,
    tags=["passwords"],
    summary="Change your password",
    security=BEARER,
    before_request=authenticate,
    responses=answers(400, 401, 403, 408, 413, 415, 422, 429, 503),
)
async def change(data: PasswordChange, request: ApiRequest) -> Reply[Tokens]:
    """Every session of yours ends, and with it every token there is; the answer is a new one for you to go on with.

    You are told by mail.
    """
    account_id = request.principal.account_id
    found = await find_login(request.services.database, account_id, request.client_address)
    if found is None:
        raise ProblemError(401, "the account no longer exists", headers={"WWW-Authenticate": "Bearer"})
    await check_strength(request.services, "new", data.new, (found.username, found.email))
    attempt = await begin_attempt(request, Event.PASSWORD_CHANGE, str(account_id), account_id, at_home=found.at_home)
    changed = await _replace(request, attempt, data, found)
    if changed is None:  # wrong, or somebody else's change came first
        await audit(request, Event.PASSWORD_CHANGE, "wrong password", account_id=account_id)
        raise ProblemError(403, "the current password is wrong", kind="urn:devnest:credentials")
    await attempt.succeeded()
    for session_id in changed.ended:
        request.services.revoked.add(session_id)
    send_notice(request, account_id, "your password at DevNest was changed. All other sessions were ended.")
    access_token = request.services.tokens.issue(account_id, changed.session.id)
    return Reply(Tokens(access_token, "Bearer", ACCESS_TOKEN_LIFETIME_S, changed.session.refresh_token))


async def _replace(request: ApiRequest, attempt: Attempt, data: PasswordChange, found: Login | None) -> Changed | None:
    """Change it; None where the current password is wrong."""
    database, account_id = request.services.database, request.principal.account_id
    new_hash: str | None = None
    for _ in range(2):  # the first time another hash of the same password may have come in between: a rehash
        if found is None or not await attempt.verify(data.current, found.password_hash):
            return None
        if new_hash is None:
            new_hash = await attempt.hash(data.new)
        changed = await change_password(database, account_id, found.password_hash, new_hash, request.origin)
        if changed is not None:
            return changed
        found = await find_login(database, account_id, request.client_address)
    return None


@post(
    "/auth/password/forgot",
    status_code=202,
    tags=["passwords"],
    summary="Ask for a way to set a new password",
    responses=answers(400, 408, 413, 415, 422, 429, 503),
)
async def forgot(data: Forgotten, request: ApiRequest) -> None:
    """The same answer in the same time for every address; where there is an account, a mail follows."""
    if await mail_allowed(request, Event.PASSWORD_FORGOT, data.email):
        send_reset(request, data.email)
    await audit(request, Event.PASSWORD_FORGOT)


@post(
    "/auth/password/reset",
    status_code=204,
    tags=["passwords"],
    summary="Set a new password with a mailed token",
    responses=answers(400, 408, 413, 415, 422, 429, 503),
)
async def reset(data: PasswordReset, request: ApiRequest) -> None:
    """All sessions end. The token is used up, unless the new password is refused."""
    target = await find_reset_target(request.services.database, data.token)
    if target is None:
        raise await _unknown_token(request, Event.PASSWORD_RESET)
    await check_strength(request.services, "new", data.new, (target.username, target.email))
    new_hash = await request.unless_gone(request.services.hasher.hash(data.new, client=request.network))
    ended = await reset_password(request.services.database, data.token, new_hash)
    if ended is None:  # used meanwhile
        raise await _unknown_token(request, Event.PASSWORD_RESET)
    for session_id in ended:
        request.services.revoked.add(session_id)
    await audit(request, Event.PASSWORD_RESET, account_id=target.account_id)
    send_notice(request, target.account_id, "a new password was set at DevNest. All sessions were ended.")


@post(
    "/auth/email/verify",
    status_code=204,
    tags=["accounts"],
    summary="Confirm an e-mail address",
    responses=answers(400, 408, 413, 415, 422, 429, 503),
)
async def verify(data: MailedToken, request: ApiRequest) -> None:
    """With the token that was mailed there. A changed address takes effect now.

    One that never came is mailed again on `PATCH /users/me` with the address that you have and your password.
    """
    try:
        verified = await verify_email(request.services.database, data.token)
    except AlreadyTaken:
        verified = None
    if verified is None:
        raise await _unknown_token(request, Event.EMAIL_VERIFY)
    await audit(request, Event.EMAIL_VERIFY, account_id=verified.account_id)
    if folded(verified.email_before) != folded(verified.email):
        send_moved(request, verified.email_before, verified.email)


async def _unknown_token(request: ApiRequest, event: Event) -> ProblemError:
    await count_failure(request, event)
    await audit(request, event, "unknown token")
    return ProblemError(400, TOKEN_REFUSED, kind="urn:devnest:token")


ROUTES = [change, forgot, reset, verify]
