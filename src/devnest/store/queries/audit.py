"""The audit log: who did what to an account or a session, from where, and whether it worked. Never a secret."""

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
    REFRESH_REPEAT = "refresh_repeat"  # an old token within its grace: a lost answer, or a copy
    LOGOUT = "logout"
    SESSION_END = "session_end"
    SESSIONS_END = "sessions_end"
    SESSION_EVICT = "session_evict"  # by DevNest, for a new one; address, user agent and request are the new one's
    PASSWORD_CHANGE = "password_change"  # noqa: S105 (the name of an event)
    PASSWORD_REHASH = "password_rehash"  # noqa: S105
    PASSWORD_FORGOT = "password_forgot"  # noqa: S105
    PASSWORD_RESET = "password_reset"  # noqa: S105
    EMAIL_VERIFY = "email_verify"
    EMAIL_CHANGE = "email_change"
    EMAIL_RELEASE = "email_release"  # of an account that never confirmed it; where from is the new registration's
    ACCOUNT_CLAIM = (
        "account_claim"  # the first proof of its address; whatever was there before it is removed
    )
    USERNAME_CHANGE = "username_change"
    ACCOUNT_DELETE = "account_delete"
    ACCOUNT_DISABLE = "account_disable"
    ACCOUNT_ENABLE = "account_enable"


class Origin(NamedTuple):
    """Where an operation came from: the client's network address, what it calls itself, and its request's id."""

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
    """Write one line; a `reason` means failure. It is one of our own words, never what a client sent: people type
    passwords anywhere."""
    await database.fetch(
        "INSERT INTO audit_log (id, event, succeeded, reason, account_id, session_id, address, user_agent, request_id)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        uuid7(), event, reason is None, reason, account_id, session_id, *origin,
    )  # fmt: skip
