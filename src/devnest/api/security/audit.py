"""Events of the audit log that belong to a request, with its address, user agent and id."""

from uuid import UUID

from devnest.api.http.request import ApiRequest
from devnest.store import Event, record_event

__all__ = ["audit"]


async def audit(
    request: ApiRequest,
    event: Event,
    reason: str | None = None,
    *,
    account_id: UUID | None = None,
    session_id: UUID | None = None,
) -> None:
    """Write an event to the audit log, before the client gets its response.

    Args:
        request: The request that caused it.
        event: What was attempted.
        reason: Why it failed; None if it succeeded.
        account_id: The account it concerns, if that is known.
        session_id: The session it concerns.

    Raises:
        DatabaseUnavailable: The database does not answer.
    """
    await record_event(
        request.services.database,
        event,
        request.origin,
        reason=reason,
        account_id=account_id,
        session_id=session_id,
    )
