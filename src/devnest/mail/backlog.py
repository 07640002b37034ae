"""Mail that waits to be written or sent: senders take turns, and each of them has a bound. No I/O and no clock."""

import bisect
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.message import Message
from typing import TypeAlias

__all__ = ["MAX_WAITING", "MAX_WAITING_OF_ONE", "Backlog", "Job", "Mail"]

MAX_WAITING = 1_000  # of all senders: a few megabytes of each server's memory
# Of one sender: as many people as register at once behind one address, and a fifth of the whole.
MAX_WAITING_OF_ONE = 200

Job: TypeAlias = Callable[[], Awaitable[Message | None]]


@dataclass(eq=False, slots=True)
class Mail:
    """A mail on its way: `job` writes it, once. `due` and `give_up_at` are times of the caller's clock."""

    sender: str
    job: Job
    give_up_at: float
    due: float = 0.0
    tries: int = 0
    number: int = 0  # the backlog's: how many came before
    message: Message | None = None


class Backlog:
    """What waits, by sender: whoever causes the mail, an account or a client's network."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Mail]] = {}  # those served longest ago first
        self._count = 0
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        return self._count

    def add(self, mail: Mail) -> Mail | None:
        """Let a mail wait; the one that has to go for it, if any.

        That is this sender's newest where the sender has too many. Where all together have too many, it is the newest
        of the sender with most of them: one that causes much mail loses its own before anybody else does.
        """
        mails = self._waiting.setdefault(mail.sender, [])
        mail.number = mail.number or next(self._numbers)
        bisect.insort(mails, mail, key=lambda mail: mail.number)  # one that comes back is older than the last
        self._count += 1
        if len(mails) > MAX_WAITING_OF_ONE:
            return self._drop(mail.sender)
        if self._count > MAX_WAITING:
            return self._drop(max(self._waiting, key=lambda sender: len(self._waiting[sender])))
        return None

    def _drop(self, sender: str) -> Mail:
        self._count -= 1
        mails = self._waiting[sender]
        dropped = mails.pop()
        if not mails:
            del self._waiting[sender]
        return dropped

    def take(self, now: float, most: int) -> list[Mail]:
        """Up to so many mails that are due: one of each sender before a second of any. They come oldest first."""
        due = ([mail for mail in mails if mail.due <= now] for mails in self._waiting.values())
        turns = itertools.chain.from_iterable(itertools.zip_longest(*due))
        taken = list(itertools.islice((mail for mail in turns if mail is not None), most))
        for mail in taken:
            self._count -= 1
            mails = self._waiting.pop(mail.sender)
            mails.remove(mail)
            if mails:
                self._waiting[mail.sender] = mails  # at the end: the others are first next time
        return sorted(taken, key=lambda mail: mail.number)

    def next_due(self) -> float | None:
        """When the first mail is due; None where none waits."""
        return min((mail.due for mails in self._waiting.values() for mail in mails), default=None)
