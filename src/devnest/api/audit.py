"""The audit log's lines of one request: its address, client and id go into each."""

from typing import Any
from uuid import UUID

from litestar import Request

from devnest.api.client import client_address, user_agent
from devnest.api.services import Services
from devnest.store import Event, record_event

__all__ = ["audit"]


async def audit(
    services: Services,
    request: Request[Any, Any, Any],
    event: Event,
    reason: str | None = None,
    *,
    account_id: UUID | None = None,
    session_id: UUID | None = None,
) -> None:
    """Write what happened before the client is told; a `reason` means that it failed."""
    await record_event(
        services.database, event, succeeded=reason is None, reason=reason, account_id=account_id,
        session_id=session_id, address=client_address(request), user_agent=user_agent(request),
        request_id=request.scope["state"].get("request_id"),
    )  # fmt: skip
