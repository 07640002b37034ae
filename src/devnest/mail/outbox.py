"""What is done after the answer: a bounded queue of mail to write and send.

The answer to "I forgot my password" must not depend on whether there is such an account, and that includes its time.
So not only the sending waits here but the work before it: a job is a coroutine function that looks things up and
gives the message, or None where there is none to send. A queue in memory loses its jobs with its process; whoever
waits for a mail asks again. In the database it would hold tokens that are good.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from email.message import Message
from typing import Self

import structlog

from devnest.mail.transports import MailRefused, Transport

__all__ = ["Job", "Outbox"]

Job = Callable[[], Awaitable[Message | None]]
WAITING = 1_000
SENDERS = 2
TRIES = 3
RETRY_S = 2.0
DRAIN_S = 5.0
log = structlog.get_logger("devnest.mail")


class Outbox:
    """Works jobs off in order while it is open; what waits at the end gets five seconds. Belongs to one event loop."""

    def __init__(self, transport: Transport, sender: str) -> None:
        self.sender = sender
        self._transport = transport
        self._jobs: asyncio.Queue[Job] = asyncio.Queue(WAITING)
        self._tasks: list[asyncio.Task[None]] = []

    def put(self, job: Job) -> None:
        """Do this later; dropped, with a line in the log, where a thousand jobs wait already."""
        try:
            self._jobs.put_nowait(job)
        except asyncio.QueueFull:
            log.error("mail dropped, too many wait", waiting=WAITING)

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._work()) for _ in range(SENDERS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            async with asyncio.timeout(DRAIN_S):
                await self._jobs.join()
        except TimeoutError:
            log.warning("stopped before all mail was sent", waiting=self._jobs.qsize())
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _work(self) -> None:
        while True:
            job = await self._jobs.get()
            try:
                message = await job()
                if message is not None:
                    await self._send(message)
            except Exception as error:  # one job's failure is not the next one's
                log.exception("mail failed", exc_info=error)
            finally:
                self._jobs.task_done()

    async def _send(self, message: Message) -> None:
        for tried in range(1, TRIES + 1):
            try:
                await self._transport.send(message)
            except (OSError, MailRefused) as error:
                # The error's kind only: a server's answer can quote the message, and that holds a token.
                log.warning("mail not sent", error=type(error).__name__, tried=tried, subject=str(message["Subject"]))
                if tried < TRIES:
                    await asyncio.sleep(RETRY_S * tried)
            else:
                return
