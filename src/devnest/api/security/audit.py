"""The audit log's lines of one request: its address, client and id go into each."""

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
    """Write what happened before the client is told; a `reason` means that it failed."""
    await record_event(
        request.services.database,
        event,
        request.origin,
        reason=reason,
        account_id=account_id,
        session_id=session_id,
    )
