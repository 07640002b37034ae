"""What is done after the answer: mail to write and to send, tried again while that may help.

The answer to "I forgot my password" must not depend on whether there is such an account, and that includes its time.
So not only the sending waits here but the work before it: a job is a coroutine function that looks things up and
gives the message, or None where there is none to send. A queue in memory loses its jobs with its process; whoever
waits for a mail asks again. In the database it would hold tokens that are good.
"""

import asyncio
import contextlib
from collections import defaultdict
from typing import Self

import structlog

from devnest.mail.backlog import Backlog, Job, Mail, Sender
from devnest.mail.transports import Failure, Transport

__all__ = ["KEEP_S", "Job", "Outbox"]

WORKERS = 2
MAX_TOGETHER = (
    20  # mails that share a connection; a sender whose turn comes waits for no more than these
)
# After each delivery. A mail may wait that long where many register, and several together cost little more than one: a
# connection, or a file that is opened.
REST_S = 0.2
# Before a second try, then three times as long each time. RFC 5321, 4.5.4.1, asks for 30 minutes and for days, of
# servers that keep mail on a disk; whoever waits for a code does not wait that long.
RETRY_S = 2.0
MAX_RETRY_S = 900.0
KEEP_S = 86_400.0  # how long a mail is tried that is of use that long
DRAIN_S = 5.0
REPORT_S = 10.0  # between two lines about mail that was dropped
LOSSES = ("dropped", "refused", "late")  # for want of room, by the mail server, of no use any more
log = structlog.get_logger("devnest.mail")


class Outbox:
    """Works jobs off while it is open, those that wait together; what waits at the end gets five seconds.

    What fails and may succeed later is tried again, for as long as it was said to be of use. `sent` and `lost` count,
    the latter by `LOSSES`. Belongs to one event loop.
    """

    def __init__(self, transport: Transport, sender: str) -> None:
        self.sender = sender
        self.sent = 0
        self.lost = dict.fromkeys(LOSSES, 0)
        self._transport = transport
        self._backlog = Backlog()
        self._workers: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self._is_closing = False
        self._dropped = 0
        self._report_at = 0.0

    @property
    def waiting(self) -> int:
        """How many mails wait."""
        return len(self._backlog)

    def put(self, job: Job, *, sender: Sender, keep_s: float = KEEP_S) -> None:
        """Do this later.

        Args:
            job: What writes the mail.
            sender: Who causes it: of those that wait each has a share.
            keep_s: For how long the mail is of use, in seconds.
        """
        self._add(Mail(sender, job, give_up_at=self._now() + keep_s))
        self._changed.set()

    def _add(self, mail: Mail) -> None:
        if self._backlog.add(mail) is not None:
            self._dropped += 1
            self.lost["dropped"] += 1
            self._report()

    def _report(self) -> None:
        """One line for all that was dropped since the last one."""
        if self._dropped and (self._is_closing or self._now() >= self._report_at):
            log.error(
                "mail dropped, too much waits", mails=self._dropped, waiting=len(self._backlog)
            )
            self._dropped = 0
            self._report_at = self._now() + REPORT_S

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    async def __aenter__(self) -> Self:
        self._workers = [asyncio.create_task(self._work()) for _ in range(WORKERS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_closing = True
        self._changed.set()
        _done, unfinished = await asyncio.wait(self._workers, timeout=DRAIN_S)
        if unfinished:
            log.warning("stopped before all mail was sent", waiting=len(self._backlog))
        for worker in self._workers:
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker
        self._report()

    async def _work(self) -> None:
        while mails := await self._next():
            try:
                await self._deliver(mails)
            except Exception as error:
                log.exception("mail failed", exc_info=error)
            self._report()
            if len(self._backlog) < MAX_TOGETHER and not self._is_closing:
                await asyncio.sleep(REST_S)

    async def _next(self) -> list[Mail]:
        """Mails that are due, waited for; none at the end, where each is due once more."""
        while True:
            now = float("inf") if self._is_closing else self._now()
            if (mails := self._backlog.take(now, MAX_TOGETHER)) or self._is_closing:
                return mails
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._backlog.next_due()):
                    await self._changed.wait()

    async def _deliver(self, mails: list[Mail]) -> None:
        await asyncio.gather(*map(self._write, mails))
        written = {mail.message: mail for mail in mails if mail.message is not None}
        if not written:
            return
        try:
            failures = await self._transport.send(list(written))
        except Exception as error:
            log.exception("mail failed", exc_info=error)
            failures = [Failure(message, type(error).__name__) for message in written]
        self.sent += len(written) - len(failures)
        passing = defaultdict[str, list[Mail]](list)
        for failure in failures:
            if failure.is_final:
                self.lost["refused"] += 1
                log.error(
                    "mail refused", reason=failure.reason, subject=str(failure.message["Subject"])
                )
            else:
                passing[failure.reason].append(written[failure.message])
        for reason, failed in passing.items():
            self._try_again(failed, reason)

    async def _write(self, mail: Mail) -> None:
        """Let its job make the message; one job's failure is not the next one's."""
        if mail.message is None:
            try:
                mail.message = await mail.job()
            except Exception as error:
                log.warning(
                    "mail not written",
                    error=type(error).__name__,
                    exc_info=error if mail.tries == 0 else None,
                )
                self._try_again([mail], type(error).__name__)

    def _try_again(self, mails: list[Mail], reason: str) -> None:
        now, lost = self._now(), 0
        for mail in mails:
            mail.due = now + min(RETRY_S * 3**mail.tries, MAX_RETRY_S)
            mail.tries += 1
            if self._is_closing or mail.due > mail.give_up_at:
                lost += 1
            else:
                self._add(mail)
        self.lost["late"] += lost
        log.warning("mail not sent", reason=reason, mails=len(mails), lost=lost)
