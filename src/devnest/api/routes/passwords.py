"""Changing and resetting passwords, and confirming e-mail addresses."""

from uuid import UUID

from litestar import post
from msgspec import UNSET

from devnest.api.http.bodies import (
    EmailConfirmation,
    ForgottenPassword,
    PasswordChange,
    PasswordReset,
    Tokens,
)
from devnest.api.http.problems import FieldError, ProblemError
from devnest.api.http.request import ApiRequest
from devnest.api.http.response import Reply
from devnest.api.mails import send_address_changed, send_notice, send_reset
from devnest.api.openapi.documentation import BEARER, problems
from devnest.api.security.audit import audit
from devnest.api.security.authentication import authenticate
from devnest.api.security.strength import check_strength
from devnest.api.security.throttling import Attempt, confirmation_attempt, count_failure
from devnest.api.security.tokens import ACCESS_TOKEN_LIFETIME_S
from devnest.store import (
    Event,
    Login,
    PasswordChanged,
    Proof,
    Purpose,
    change_password,
    confirm_address,
    find_login,
    find_proof,
    folded,
    set_password,
)

__all__ = ["ROUTES"]

TOKEN_REFUSED = "the token is not valid; ask for a new one"  # noqa: S105 (not a secret)


@post(
    "/auth/password/change",
    status_code=200,
    tags=["passwords"],
    summary="Change your password",
    security=BEARER,
    before_request=authenticate,
    responses=problems(400, 401, 403, 408, 413, 415, 422, 429, 503),
    operation_id="changePassword",
)
async def change(data: PasswordChange, request: ApiRequest) -> Reply[Tokens]:
    """Changes your password and ends all your sessions with all their tokens. The response contains
    the tokens of a new session. A mail tells you about the change.
    """
    account_id = request.principal.account_id
    found = await find_login(request.services.database, account_id)
    if found is None:
        raise ProblemError(
            401, "the account no longer exists", headers={"WWW-Authenticate": "Bearer"}
        )
    await check_strength(request.services.policy, "new", data.new, found.names)
    async with confirmation_attempt(request, Event.PASSWORD_CHANGE) as attempt:
        changed = await _replace(request, attempt, data, found)
        if changed is None:  # also if another change of the password came first
            await audit(request, Event.PASSWORD_CHANGE, "wrong password", account_id=account_id)
            raise ProblemError(403, "the current password is wrong", kind="urn:devnest:credentials")
        attempt.succeeded()
    for session_id in changed.ended:
        request.services.revoked.add(session_id)
    await send_notice(
        request, account_id, "your password at DevNest was changed. All other sessions were ended."
    )
    access_token = request.services.tokens.issue(account_id, changed.session.id)
    return Reply(
        Tokens(access_token, "Bearer", ACCESS_TOKEN_LIFETIME_S, changed.session.refresh_token)
    )


async def _replace(
    request: ApiRequest, attempt: Attempt, data: PasswordChange, found: Login | None
) -> PasswordChanged | None:
    """Change the password; None if the current one is wrong."""
    database, account_id = request.services.database, request.principal.account_id
    new_hash: str | None = None
    # The first time, a rehash may have replaced the hash between the check and the change.
    for _ in range(2):
        if found is None or not await attempt.verify(data.current, found.password_hash):
            return None
        if new_hash is None:
            new_hash = await attempt.hash(data.new)
        changed = await change_password(
            database, account_id, found.password_hash, new_hash, request.origin
        )
        if changed is not None:
            return changed
        found = await find_login(database, account_id)
    return None


@post(
    "/auth/password/forgot",
    status_code=202,
    tags=["passwords"],
    summary="Request a password reset",
    responses=problems(400, 408, 413, 415, 422, 429, 503),
    operation_id="requestPasswordReset",
)
async def forgot(data: ForgottenPassword, request: ApiRequest) -> None:
    """Mails a token for `/auth/password/reset` if there is an account with this address. The
    response and its time are the same for every address.
    """
    await count_failure(request, Event.PASSWORD_FORGOT)
    send_reset(request, data.email)
    await audit(request, Event.PASSWORD_FORGOT)


@post(
    "/auth/password/reset",
    status_code=204,
    tags=["passwords"],
    summary="Set a new password with a mailed token",
    responses=problems(400, 408, 413, 415, 422, 429, 503),
    operation_id="resetPassword",
)
async def reset(data: PasswordReset, request: ApiRequest) -> None:
    """Sets a new password and ends all sessions of the account. The token is used up, unless the
    new password is refused.

    If the address was not confirmed before, it is now. Everything with which somebody else could
    still change the account is then removed too.
    """
    proof = await find_proof(request.services.database, Purpose.RESET, data.token)
    if proof is None:
        raise await _unknown_token(request, Event.PASSWORD_RESET)
    await _set_password(request, Event.PASSWORD_RESET, "new", data.new, data.token, proof)


@post(
    "/auth/email/verify",
    status_code=204,
    tags=["accounts"],
    summary="Confirm an e-mail address",
    security=[{}, *BEARER],
    responses=problems(400, 401, 408, 413, 415, 422, 429, 503),
    operation_id="verifyEmail",
)
async def verify(data: EmailConfirmation, request: ApiRequest) -> None:
    """Confirms an address with the token that was mailed to it. If it is a new address of an
    account, it replaces the old one now.

    With an access token of the account nothing else is needed, and `password` is ignored. Without
    one, the mailed token only proves that you read mail at the address, not that you created the
    account. If the address was not confirmed before, you therefore have to send `password`. It
    becomes the account's password, and all sessions, other mailed tokens and stored responses for
    retries are removed. If it is missing, the response is 422 and the token remains valid.

    If no mail arrives, request another one: send `PATCH /users/me` with your current address and
    your password.
    """
    proof = await find_proof(request.services.database, Purpose.VERIFY, data.token)
    if proof is None:
        raise await _unknown_token(request, Event.EMAIL_VERIFY)
    if await _has_session_of(request, proof.account_id) or proof.confirmed:
        if await confirm_address(request.services.database, data.token) is None:  # used since
            raise await _unknown_token(request, Event.EMAIL_VERIFY)
        await audit(request, Event.EMAIL_VERIFY, account_id=proof.account_id)
    elif data.password is UNSET:
        errors = [FieldError("password", "missing")]
        detail = (
            "without an access token of the account, the first confirmation of its address "
            "needs a new password"
        )
        raise ProblemError(422, detail, kind="urn:devnest:invalid", errors=errors)
    else:
        await _set_password(
            request, Event.EMAIL_VERIFY, "password", data.password, data.token, proof
        )
    if proof.email_before is not None and folded(proof.email_before) != folded(proof.email):
        send_address_changed(request, proof)


async def _has_session_of(request: ApiRequest, account_id: UUID) -> bool:
    """Whether the request has an access token of this account. An invalid token is refused."""
    if "authorization" not in request.headers:
        return False
    await authenticate(request)
    return request.principal.account_id == account_id


async def _set_password(
    request: ApiRequest, event: Event, field: str, password: str, token: str, proof: Proof
) -> None:
    """Set a password with a mailed token, and end all sessions.

    `proof` was looked up before. The token is checked again after the hash.
    """
    services = request.services
    await check_strength(services.policy, field, password, (proof.username, proof.email))
    password_hash = await request.cancel_on_disconnect(
        services.hasher.hash(password, client=request.network)
    )
    purpose = Purpose.RESET if event is Event.PASSWORD_RESET else Purpose.VERIFY
    done = await set_password(services.database, purpose, token, password_hash)
    if done is None:  # the token has been used since
        raise await _unknown_token(request, event)
    proof, ended = done
    for session_id in ended:
        services.revoked.add(session_id)
    await audit(request, event, account_id=proof.account_id)
    if not proof.confirmed:
        await audit(request, Event.ACCOUNT_CLAIM, account_id=proof.account_id)
    await send_notice(
        request, proof.account_id, "a new password was set at DevNest. All sessions were ended."
    )


async def _unknown_token(request: ApiRequest, event: Event) -> ProblemError:
    """Count an invalid token as a failure, and make the problem for it."""
    await count_failure(request, event)
    await audit(request, event, "unknown token")
    return ProblemError(400, TOKEN_REFUSED, kind="urn:devnest:token")


ROUTES = [change, forgot, reset, verify]
