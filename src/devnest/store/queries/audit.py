"""The audit log: who did what to an account or a session, from where, with which result.

It never contains secrets.
"""

from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from uuid_utils.compat import uuid7

from devnest.store.database import Database

__all__ = ["NO_ORIGIN", "Event", "Origin", "record_event"]


class Event(StrEnum):
    """What can happen to accounts and sessions."""

    REGISTER = "register"
    LOGIN = "login"
    REFRESH = "refresh"
    # An old token within its grace: a lost response, or a copied token.
    REFRESH_REPEAT = "refresh_repeat"
    LOGOUT = "logout"
    SESSION_END = "session_end"
    SESSIONS_END = "sessions_end"
    # For a new session. Address, user agent and request are those of the new one.
    SESSION_EVICT = "session_evict"
    PASSWORD_CHANGE = "password_change"  # noqa: S105 (the name of an event)
    PASSWORD_REHASH = "password_rehash"  # noqa: S105
    PASSWORD_FORGOT = "password_forgot"  # noqa: S105
    PASSWORD_RESET = "password_reset"  # noqa: S105
    EMAIL_VERIFY = "email_verify"
    EMAIL_CHANGE = "email_change"
    # By a new registration of an unconfirmed address. The origin is that of the registration.
    EMAIL_RELEASE = "email_release"
    ACCOUNT_CLAIM = "account_claim"  # the first proof of its address removed all earlier access
    USERNAME_CHANGE = "username_change"
    ACCOUNT_DELETE = "account_delete"
    ACCOUNT_DISABLE = "account_disable"
    ACCOUNT_ENABLE = "account_enable"


class Origin(NamedTuple):
    """Where a request came from.

    Attributes:
        address: The client's network address.
        user_agent: The client's `User-Agent` header.
        request_id: The id of the request.
    """

    address: str | None = None
    user_agent: str | None = None
    request_id: str | None = None


NO_ORIGIN = Origin()


async def record_event(
    database: Database,
    event: Event,
    origin: Origin = NO_ORIGIN,
    *,
    reason: str | None = None,
    account_id: UUID | None = None,
    session_id: UUID | None = None,
) -> None:
    """Write one line to the audit log.

    Args:
        database: Where the log is.
        event: What happened.
        origin: Where the request came from.
        reason: Why it failed, or None for a success. It is one of DevNest's own words and never a
            text from a client, because people type passwords into any field.
        account_id: The account, if it is known.
        session_id: The session, if there is one.
    """
    await database.fetch(
        "INSERT INTO audit_log"
        " (id, event, succeeded, reason, account_id, session_id, address, user_agent, request_id)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        uuid7(), event, reason is None, reason, account_id, session_id, *origin,
    )  # fmt: skip
