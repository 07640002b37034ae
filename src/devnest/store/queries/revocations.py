"""The sessions that ended while their access tokens may still be valid, known to every server.

A trigger announces each ended session by PostgreSQL's NOTIFY, so all servers know within
milliseconds. A notification reaches only connections that listen at that moment. So there are three
safeguards: after each connect the recently ended sessions are read, they are read again every few
seconds, and an access token expires after 15 minutes in any case. The alternative, a query for each
request, would be the most expensive part of a light request.

The memory is bounded. If more sessions end than it holds, the oldest are forgotten, and every
access token issued before them is refused. Its client refreshes it, which asks the database.
"""

import asyncio
import contextlib
import time
from typing import Self
from uuid import UUID

import asyncpg
import structlog

from devnest.store.connections import Connection, connect
from devnest.store.database import READ_ONLY, STATEMENT_TIMEOUT_S
from devnest.store.errors import DatabaseUnavailable
from devnest.store.unavailable import TRANSLATE_ERRORS

__all__ = ["RevokedSessions"]

CHANNEL = "devnest_session_ended"
APPLICATION = "devnest revocations"
CHECK_INTERVAL_S = 5.0  # between two reads of the recently ended sessions
RETRY_S = 0.5  # between two attempts to connect
# How far back each read goes: longer than any transaction that ends a session.
REREAD_WINDOW_S = 60.0
# Ended sessions in a server's memory: about 25 MB, or 111 sessions a second for 15 minutes.
MAX_REMEMBERED = 100_000
MAX_CLOCK_SKEW_S = 5.0  # between the machines that issue access tokens
log = structlog.get_logger("devnest.store")


class RevokedSessions:
    """The ids of ended sessions, kept up to date by a connection of its own.

    Use it as `async with RevokedSessions(url, 900) as revoked`. It belongs to one event loop.

    Args:
        url: The database.
        remember_s: How long an access token can outlive its session.

    Raises:
        DatabaseUnavailable: The first connection cannot be opened.
    """

    def __init__(self, url: str, remember_s: float) -> None:
        self._url = url
        self._remember_s = remember_s
        # Times of the monotonic clock, ascending except within REREAD_WINDOW_S.
        self._forget_at: dict[UUID, float] = {}
        self._forgotten_until = 0.0  # wall clock: sessions that ended before may be forgotten
        self._connection: Connection | None = None
        self._logged_reason = ""  # the last failure that was logged
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __contains__(self, session_id: UUID) -> bool:
        return session_id in self._forget_at

    def __len__(self) -> int:
        return len(self._forget_at)

    def has_ended(self, session_id: UUID, issued_at: float) -> bool:
        """Return whether an access token is no longer valid.

        Args:
            session_id: The session of the token.
            issued_at: When the token was issued, as Unix time in seconds.
        """
        return session_id in self._forget_at or issued_at < self._forgotten_until

    def add(self, session_id: UUID) -> None:
        """Record an ended session. The server that ended it need not wait for the notification."""
        now = time.monotonic()
        if len(self._forget_at) >= MAX_REMEMBERED and session_id not in self._forget_at:
            ended_s_ago = now + self._remember_s - self._forget_at.pop(next(iter(self._forget_at)))
            self._forgotten_until = max(
                self._forgotten_until, time.time() - ended_s_ago + MAX_CLOCK_SKEW_S
            )
        self._forget_at[session_id] = now + self._remember_s

    async def __aenter__(self) -> Self:
        await self._connect()
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None, "not open"
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._drop()

    async def _watch(self) -> None:
        while True:
            try:
                if self._connection is None:
                    await self._connect()
                # Not wait_for: before Python 3.12 it can lose a cancellation that comes at the same
                # moment.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CHECK_INTERVAL_S):
                        await self._lost.wait()
                if self._lost.is_set():
                    log.warning("notifications lost, connecting again")
                    self._drop()
                else:
                    await self._read(REREAD_WINDOW_S)
                    self._forget()
                    # The primary may be another server by now.
                    if await self._is_read_only():
                        self._drop()
                self._logged_reason = ""
            except (DatabaseUnavailable, asyncpg.PostgresError) as error:
                if self._logged_reason != str(error):
                    self._logged_reason = str(error)
                    log.warning("no notifications", reason=self._logged_reason)
                self._drop()
                await asyncio.sleep(RETRY_S)

    async def _connect(self) -> None:
        """Listen first and read then, so that no ended session is missed between the two."""
        self._connection = await connect(
            self._url, command_timeout=STATEMENT_TIMEOUT_S,
            server_settings={"application_name": APPLICATION},
        )  # fmt: skip
        lost = self._lost = asyncio.Event()  # each connection sets its own event only
        self._connection.add_termination_listener(lambda _: lost.set())
        # A standby sends no notifications.
        with TRANSLATE_ERRORS, contextlib.suppress(asyncpg.ReadOnlySQLTransactionError):
            await self._connection.add_listener(CHANNEL, self._on_notification)
        await self._read(self._remember_s)

    async def _read(self, window_s: float) -> None:
        assert self._connection is not None
        with TRANSLATE_ERRORS:
            rows = await self._connection.fetch(
                "SELECT id FROM sessions WHERE ended_at > now() - make_interval(secs => $1)",
                window_s,
            )
        for row in rows:
            self.add(row["id"])

    async def _is_read_only(self) -> bool:
        assert self._connection is not None
        with TRANSLATE_ERRORS:
            return bool(await self._connection.fetchval(f"SELECT {READ_ONLY}") == "on")

    def _on_notification(
        self, _connection: object, _pid: int, _channel: str, payload: object
    ) -> None:
        with contextlib.suppress(ValueError):  # any client of the database can send to the channel
            self.add(UUID(str(payload)))

    def _forget(self) -> None:
        now = time.monotonic()
        while self._forget_at and self._forget_at[oldest := next(iter(self._forget_at))] <= now:
            del self._forget_at[oldest]

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
