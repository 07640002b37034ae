"""What is done after the answer: a bounded queue of mail to write and send.

The answer to "I forgot my password" must not depend on whether there is such an account, and that includes its time.
So not only the sending waits here but the work before it: a job is a coroutine function that looks things up and
gives the message, or None where there is none to send. A queue in memory loses its jobs with its process; whoever
waits for a mail asks again. In the database it would hold tokens that are good.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from email.message import Message
from typing import Self

import structlog

from devnest.mail.transports import Transport

__all__ = ["Job", "Outbox"]

Job = Callable[[], Awaitable[Message | None]]
WAITING = 1_000
SENDERS = 2
TOGETHER = 50
# After each delivery. A mail may wait that long where many register, and several together cost little more than one: a
# connection, or a file that is opened.
REST_S = 0.2
TRIES = 3
RETRY_S = 2.0
DRAIN_S = 5.0
log = structlog.get_logger("devnest.mail")


class Outbox:
    """Works jobs off while it is open, those that wait together; what waits at the end gets five seconds.

    Belongs to one event loop.
    """

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
            jobs = [await self._jobs.get()]
            while len(jobs) < TOGETHER and not self._jobs.empty():
                jobs.append(self._jobs.get_nowait())
            try:
                made = await asyncio.gather(*map(_made, jobs))
                await self._send([message for message in made if message is not None])
            except Exception as error:
                log.exception("mail failed", exc_info=error)
            finally:
                for _ in jobs:
                    self._jobs.task_done()
            if self._jobs.qsize() < TOGETHER:
                await asyncio.sleep(REST_S)

    async def _send(self, messages: Sequence[Message]) -> None:
        for tried in range(1, TRIES + 1):
            if not messages:
                return
            failed = await self._transport.send(messages)
            for message, error in failed:
                # The error's kind only: a server's answer can quote the message, and that holds a token.
                log.warning("mail not sent", error=type(error).__name__, tried=tried, subject=str(message["Subject"]))
            messages = [message for message, _ in failed]
            if messages and tried < TRIES:
                await asyncio.sleep(RETRY_S * tried)


async def _made(job: Job) -> Message | None:
    """What a job gives; one job's failure is not the next one's."""
    try:
        return await job()
    except Exception as error:
        log.exception("mail failed", exc_info=error)
        return None
