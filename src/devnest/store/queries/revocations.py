"""Which sessions ended while access tokens of theirs may still live: known to every server, asked of none.

A session's end is told by PostgreSQL's NOTIFY (a trigger does it), so every server knows within milliseconds. A
notification reaches only who listens at that moment, hence three nets under it: after every connect the recent ends
are read, they are read again every few seconds, and whatever happens an access token dies of age after 15 minutes.
The alternative, a look into the database at each request, would be the dearest part of a light one.

The memory for it is bounded. Where more sessions end than it holds, the oldest ends are forgotten, and every access
token that is as old is refused: its client refreshes it, which asks the database.
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
CHECK_INTERVAL_S = 5.0
RETRY_S = 0.5
REREAD_WINDOW_S = 60.0  # longer than any transaction of ours that ends a session
MAX_REMEMBERED = (
    100_000  # ended sessions in a server's memory, about 25 MB; 111 ends a second for 15 minutes
)
MAX_CLOCK_SKEW_S = 5.0  # between the machines that issue access tokens
log = structlog.get_logger("devnest.store")


class RevokedSessions:
    """A set of session ids, kept by one connection of its own; `async with RevokedSessions(url, 900)`.

    `remember_s` is how long an access token can outlive its session. Belongs to one event loop.
    """

    def __init__(self, url: str, remember_s: float) -> None:
        self._url = url
        self._remember_s = remember_s
        self._forget_at: dict[
            UUID, float
        ] = {}  # on the monotonic clock, the earliest first but for REREAD_WINDOW_S
        self._forgotten_until = 0.0  # on the wall clock: what ended before may be forgotten
        self._connection: Connection | None = None
        self._logged_reason = ""  # why there are no notifications, as the log has it
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __contains__(self, session_id: UUID) -> bool:
        return session_id in self._forget_at

    def __len__(self) -> int:
        return len(self._forget_at)

    def has_ended(self, session_id: UUID, issued_at: float) -> bool:
        """Whether an access token of this session, issued at this time (Unix, s), is good no more."""
        return session_id in self._forget_at or issued_at < self._forgotten_until

    def add(self, session_id: UUID) -> None:
        """Count a session as ended; the server that ends it need not wait for the news."""
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
                # Not wait_for: before Python 3.12 it loses a cancel that comes with what it waits for.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CHECK_INTERVAL_S):
                        await self._lost.wait()
                if self._lost.is_set():
                    log.warning("notifications lost, connecting again")
                    self._drop()
                else:
                    await self._read(REREAD_WINDOW_S)
                    self._forget()
                    if (
                        await self._is_read_only()
                    ):  # the server that is written to may be another by now
                        self._drop()
                self._logged_reason = ""
            except (DatabaseUnavailable, asyncpg.PostgresError) as error:
                if self._logged_reason != str(error):
                    self._logged_reason = str(error)
                    log.warning("no notifications", reason=self._logged_reason)
                self._drop()
                await asyncio.sleep(RETRY_S)

    async def _connect(self) -> None:
        """Listen first, then read, so that nothing falls between the two."""
        self._connection = await connect(
            self._url, command_timeout=STATEMENT_TIMEOUT_S,
            server_settings={"application_name": APPLICATION},
        )  # fmt: skip
        lost = self._lost = asyncio.Event()  # a connection's end is told to its own event only
        self._connection.add_termination_listener(lambda _: lost.set())
        with (
            TRANSLATE_ERRORS,
            contextlib.suppress(asyncpg.ReadOnlySQLTransactionError),
        ):  # a standby tells nobody anything
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
        with contextlib.suppress(ValueError):  # the channel is open to any client of the database
            self.add(UUID(str(payload)))

    def _forget(self) -> None:
        now = time.monotonic()
        while self._forget_at and self._forget_at[oldest := next(iter(self._forget_at))] <= now:
            del self._forget_at[oldest]

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
