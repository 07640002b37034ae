"""Writes and sends mail after the response, and tries again while that may help.

The response to "I forgot my password" must not tell whether the account exists, not even by the
time it takes. So not only the sending happens here but also the work before it: a job is a
coroutine function that queries the database and returns the message, or None if there is nothing
to send.

The queue is in memory, and a crash loses it; people who wait for a mail ask for it again. A queue
in the database would survive, but contain valid tokens.
"""

import asyncio
import contextlib
from collections import defaultdict
from typing import Self

import structlog

from devnest.mail.backlog import Backlog, Job, Mail, Sender
from devnest.mail.transports import Failure, Transport

__all__ = ["KEEP_S", "Job", "Outbox"]

# Bounds the connections to the mail server, or the threads that write the file.
WORKERS = 2
# Bounds the mails that share a connection, and so how long a sender whose turn comes waits.
MAX_GROUP = 20
# A worker pauses this long after each delivery, so that mails gather: several in one connection, or
# in one write to the file, cost little more than one.
PAUSE_S = 0.2
# The pause before the second try; each further one is three times as long, up to MAX_RETRY_S. RFC
# 5321, 4.5.4.1, recommends 30 minutes, but people who wait for a code do not wait that long.
MIN_RETRY_S = 2.0
MAX_RETRY_S = 900.0
# By default a mail is tried for a day.
KEEP_S = 86_400.0
# Waiting mail gets this long when the outbox closes.
DRAIN_TIMEOUT_S = 5.0
# Between two log lines about dropped mail.
REPORT_INTERVAL_S = 10.0
# Why a mail was given up: the backlog was full, the mail server refused it, or it is of no use now.
LOSSES = ("dropped", "refused", "late")
log = structlog.get_logger("devnest.mail")


class Outbox:
    """Writes and sends mail in the background while it is open. Belongs to one event loop.

    It is an asynchronous context manager. A mail that fails, but may succeed later, is tried again
    until its `keep_s` is over. When the context ends, waiting mail is tried once more, for
    `DRAIN_TIMEOUT_S`.

    Args:
        transport: Delivers the messages.
        sender: The address that the mail comes from.

    Attributes:
        sender: The address that the mail comes from.
        sent: How many mails have been delivered.
        lost: How many mails have been given up, by the reasons in `LOSSES`.
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
        """The number of mails that wait."""
        return len(self._backlog)

    def put(self, job: Job, *, sender: Sender, keep_s: float = KEEP_S) -> None:
        """Add a mail. Returns immediately; the mail may be dropped if too many wait.

        Args:
            job: Writes the message, or returns None if there is nothing to send.
            sender: Who causes the mail. Senders take turns, and each may have a share of the queue.
            keep_s: How long the mail is of use, in seconds.
        """
        self._add(Mail(sender, job, give_up_at=self._now() + keep_s))
        self._changed.set()

    def _add(self, mail: Mail) -> None:
        if self._backlog.add(mail) is not None:
            self._dropped += 1
            self.lost["dropped"] += 1
            self._report()

    def _report(self) -> None:
        """Log once for all mail that was dropped since the last line."""
        if self._dropped and (self._is_closing or self._now() >= self._report_at):
            log.error(
                "mail dropped, too much waits", mails=self._dropped, waiting=len(self._backlog)
            )
            self._dropped = 0
            self._report_at = self._now() + REPORT_INTERVAL_S

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    async def __aenter__(self) -> Self:
        self._workers = [asyncio.create_task(self._work()) for _ in range(WORKERS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_closing = True
        self._changed.set()
        _done, unfinished = await asyncio.wait(self._workers, timeout=DRAIN_TIMEOUT_S)
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
            if len(self._backlog) < MAX_GROUP and not self._is_closing:
                await asyncio.sleep(PAUSE_S)

    async def _next(self) -> list[Mail]:
        """Wait for mails that are due. While closing, all are due, and an empty list is the end."""
        while True:
            now = float("inf") if self._is_closing else self._now()
            if (mails := self._backlog.take(now, MAX_GROUP)) or self._is_closing:
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
        transient = defaultdict[str, list[Mail]](list)
        for failure in failures:
            if failure.is_final:
                self.lost["refused"] += 1
                log.error(
                    "mail refused", reason=failure.reason, subject=str(failure.message["Subject"])
                )
            else:
                transient[failure.reason].append(written[failure.message])
        for reason, failed in transient.items():
            self._try_again(failed, reason)

    async def _write(self, mail: Mail) -> None:
        """Let the mail's job write the message; if that fails, the mail is tried again."""
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
            mail.due = now + min(MIN_RETRY_S * 3**mail.tries, MAX_RETRY_S)
            mail.tries += 1
            if self._is_closing or mail.due > mail.give_up_at:
                lost += 1
            else:
                self._add(mail)
        self.lost["late"] += lost
        log.warning("mail not sent", reason=reason, mails=len(mails), lost=lost)
