"""Holds the mail that waits, so that senders take turns and each is bounded. No I/O, no clock.

Mail waits by network, and within a network by account. So neither many clients behind one address
nor one account among them can take the whole backlog, or delay the mail of others for long.
"""

import bisect
import itertools
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from email.message import Message
from typing import NamedTuple, TypeAlias

__all__ = ["MAX_WAITING", "MAX_WAITING_PER_NETWORK", "Backlog", "Job", "Mail", "Sender"]

# Bounds the waiting mail of one server, and with it a few megabytes of memory.
MAX_WAITING = 1_000
# Bounds the waiting mail of one network. A school or company behind one address can register this
# many people at once, and four fifths of the backlog stay for the others.
MAX_WAITING_PER_NETWORK = 200

Job: TypeAlias = Callable[[], Awaitable[Message | None]]


class Sender(NamedTuple):
    """Who causes a mail.

    Attributes:
        network: The client's network (`devnest.addresses.subscriber_network`).
        account: The id of the signed-in account, or empty.
    """

    network: str
    account: str = ""


@dataclass(eq=False, slots=True)
class Mail:
    """A mail that is to be written and sent. Times are seconds of the caller's clock.

    Attributes:
        sender: Who causes it.
        job: Writes the message; called until it has succeeded once.
        give_up_at: When the mail is no longer of use.
        due: When the next try may begin.
        tries: How many tries have failed.
        number: Its place in the order of arrival, set by the backlog; 0 until then.
        message: What `job` has written.
    """

    sender: Sender
    job: Job
    give_up_at: float
    due: float = 0.0
    tries: int = 0
    number: int = 0
    message: Message | None = None


class Backlog:
    """The mail that waits. `len` is the number of mails."""

    def __init__(self) -> None:
        # By network, then by account; in both, those come first whose last turn is longest ago.
        self._waiting: dict[str, dict[str, list[Mail]]] = {}
        self._count = 0
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        return self._count

    def add(self, mail: Mail) -> Mail | None:
        """Add a mail, and drop one if there are too many.

        If the mail's network has too many, that network loses one; if all networks together have
        too many, the network with the most does. Within the network the newest mail of the account
        with the most is dropped. So those who cause much mail lose their own first. In a tie, the
        sender of the added mail loses.

        Args:
            mail: A new mail, or one that `take` returned and that failed.

        Returns:
            The dropped mail, which can be `mail` itself, or None.
        """
        network, account = mail.sender
        mail.number = mail.number or next(self._numbers)
        mails = self._waiting.setdefault(network, {}).setdefault(account, [])
        # Sorted, because a mail that is tried again is older than the last one.
        bisect.insort(mails, mail, key=lambda mail: mail.number)
        self._count += 1
        if self._size(network) > MAX_WAITING_PER_NETWORK:
            return self._drop(network, mail)
        if self._count > MAX_WAITING:
            return self._drop(
                max(self._waiting, key=lambda one: (self._size(one), one == network)), mail
            )
        return None

    def _size(self, network: str) -> int:
        return sum(map(len, self._waiting[network].values()))

    def _drop(self, network: str, newest: Mail) -> Mail:
        accounts = self._waiting[network]
        fullest = max(
            accounts, key=lambda account: (len(accounts[account]), account == newest.sender.account)
        )
        dropped = accounts[fullest][-1]
        self._remove(dropped)
        return dropped

    def _remove(self, mail: Mail) -> None:
        """Take a mail out, and move its network and account to the end of the order of turns."""
        network, account = mail.sender
        self._count -= 1
        accounts = self._waiting.pop(network)
        mails = accounts.pop(account)
        mails.remove(mail)
        if mails:
            accounts[account] = mails
        if accounts:
            self._waiting[network] = accounts

    def take(self, now: float, limit: int) -> list[Mail]:
        """Take out mails that are due, each sender's oldest first.

        Networks take turns, and within a network its accounts.

        Args:
            now: The time, by the caller's clock.
            limit: How many to take at most.
        """
        due = (
            _in_turn([mail for mail in mails if mail.due <= now] for mails in accounts.values())
            for accounts in self._waiting.values()
        )
        taken = list(itertools.islice(_in_turn(due), limit))
        for mail in taken:
            self._remove(mail)
        return taken

    def next_due(self) -> float | None:
        """Return when the first mail is due, or None if none waits."""
        lists = itertools.chain.from_iterable(
            accounts.values() for accounts in self._waiting.values()
        )
        return min((mail.due for mails in lists for mail in mails), default=None)


def _in_turn(lists: Iterable[Iterable[Mail]]) -> Iterator[Mail]:
    """Yield the first mail of each list, then the second of each, and so on."""
    for turn in itertools.zip_longest(*lists):
        yield from (mail for mail in turn if mail is not None)
