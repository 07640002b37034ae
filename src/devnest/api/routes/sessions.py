"""Sessions: `/auth/refresh`, `/auth/logout`, and `/auth/sessions`, the list of an account's."""

from uuid import UUID

import structlog
from litestar import delete, get, post

from devnest.api.http.bodies import RefreshToken, Tokens
from devnest.api.http.problems import ProblemError
from devnest.api.http.request import ApiRequest
from devnest.api.http.response import Reply
from devnest.api.mails import send_notice
from devnest.api.openapi.documentation import BEARER, problems
from devnest.api.security.audit import audit
from devnest.api.security.authentication import authenticate
from devnest.api.security.throttling import count_failure
from devnest.api.security.tokens import ACCESS_TOKEN_LIFETIME_S
from devnest.store import (
    Event,
    RefreshRefused,
    Session,
    end_session,
    end_sessions,
    list_sessions,
    refresh_session,
)

__all__ = ["ROUTES"]

CONTINUED_TWICE = """one of your sessions at DevNest was continued twice within a few seconds, from
two networks.

A phone that changes networks can cause this. So can someone who has copied your session."""
# The reasons of refusals that change nothing, so a client can cause them any number of times.
REPEATABLE = ("unknown", "ended", "inactive")
log = structlog.get_logger("devnest.api")


@post(
    "/auth/refresh",
    status_code=200,
    tags=["sessions"],
    summary="Continue a session",
    responses=problems(400, 401, 408, 413, 415, 422, 429, 503),
    operation_id="refresh",
)
async def refresh(data: RefreshToken, request: ApiRequest) -> Reply[Tokens]:
    """Exchanges the newest refresh token of a session for a new pair of tokens.

    A client that has lost the response can repeat its request once: the old token gets the same
    new refresh token again, until the new one is used, for at most ten seconds. If the repeated
    request comes from another network, a mail tells you. After that, the old token counts as
    stolen, and using it ends the session.

    A session ends after 14 days without a refresh, after 10,000 refreshes, and 30 days after the
    sign-in.
    """
    try:
        refreshed = await refresh_session(
            request.services.database, data.refresh_token, request.network
        )
    except RefreshRefused as refused:
        if refused.reason in REPEATABLE:
            await count_failure(
                request, Event.REFRESH, account_id=refused.account_id, session_id=refused.session_id
            )
        await audit(
            request,
            Event.REFRESH,
            refused.reason,
            account_id=refused.account_id,
            session_id=refused.session_id,
        )
        if refused.reason == "reused":
            log.warning(
                "a refresh token came back, its session ended", session_id=str(refused.session_id)
            )
        if refused.reason in ("reused", "spent") and refused.session_id is not None:
            request.services.revoked.add(refused.session_id)
        raise ProblemError(
            401,
            "the refresh token is not valid",
            kind="urn:devnest:refresh",
            headers={"WWW-Authenticate": "Bearer"},
        ) from None
    account_id, session_id = refreshed.account_id, refreshed.session_id
    event = Event.REFRESH_REPEAT if refreshed.repeated else Event.REFRESH
    await audit(request, event, account_id=account_id, session_id=session_id)
    if refreshed.moved:
        log.warning(
            "a refresh token came from two networks within its grace", session_id=str(session_id)
        )
        await send_notice(request, account_id, CONTINUED_TWICE)
    access_token = request.services.tokens.issue(account_id, session_id)
    return Reply(Tokens(access_token, "Bearer", ACCESS_TOKEN_LIFETIME_S, refreshed.refresh_token))


@post(
    "/auth/logout",
    status_code=204,
    tags=["sessions"],
    summary="End this session",
    security=BEARER,
    before_request=authenticate,
    responses=problems(401, 503),
    operation_id="logout",
)
async def logout(request: ApiRequest) -> None:
    """Ends the session of the access token. Its tokens stop working immediately on all servers."""
    await end_session(
        request.services.database, request.principal.account_id, request.principal.session_id
    )
    request.services.revoked.add(request.principal.session_id)
    account_id, session_id = request.principal.account_id, request.principal.session_id
    await audit(request, Event.LOGOUT, account_id=account_id, session_id=session_id)


@get(
    "/auth/sessions",
    tags=["sessions"],
    summary="List your sessions",
    security=BEARER,
    before_request=authenticate,
    responses=problems(401, 503),
    operation_id="listSessions",
)
async def read_sessions(request: ApiRequest) -> Reply[list[Session]]:
    """Returns the sessions of your account that have not ended, at most 300. The newest sign-in is
    first.

    `last_used_at` is the beginning of a day in UTC. Use on the current day shows only on the next
    one, except for a session that began today. So a person who reads this list does not learn at
    what time somebody else uses a session.
    """
    account_id, session_id = request.principal.account_id, request.principal.session_id
    return Reply(await list_sessions(request.services.database, account_id, session_id))


@delete(
    "/auth/sessions/{session_id:uuid}",
    status_code=204,
    tags=["sessions"],
    summary="End a session",
    security=BEARER,
    before_request=authenticate,
    responses=problems(401, 404, 503),
    operation_id="endSession",
)
async def end_one(session_id: UUID, request: ApiRequest) -> None:
    """Ends one of your sessions. A session of another account is a 404."""
    if not await end_session(request.services.database, request.principal.account_id, session_id):
        raise ProblemError(404, "you have no such session")
    request.services.revoked.add(session_id)
    await audit(
        request, Event.SESSION_END, account_id=request.principal.account_id, session_id=session_id
    )


@delete(
    "/auth/sessions",
    status_code=204,
    tags=["sessions"],
    summary="End all sessions",
    security=BEARER,
    before_request=authenticate,
    responses=problems(401, 503),
    operation_id="endAllSessions",
)
async def end_all(request: ApiRequest) -> None:
    """Ends all sessions of your account, including the one that sends this request."""
    for session_id in await end_sessions(request.services.database, request.principal.account_id):
        request.services.revoked.add(session_id)
    await audit(request, Event.SESSIONS_END, account_id=request.principal.account_id)


ROUTES = [refresh, logout, read_sessions, end_one, end_all]
