"""Mail that waits to be written or sent: senders take turns, and each of them has a bound. No I/O and no clock."""

import bisect
import itertools
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from email.message import Message
from typing import NamedTuple, TypeAlias

__all__ = ["MAX_WAITING", "MAX_WAITING_OF_ONE", "Backlog", "Job", "Mail", "Sender"]

MAX_WAITING = 1_000  # of all senders: a few megabytes of each server's memory
# Of one network: as many people as register at once behind one address, and a fifth of the whole.
MAX_WAITING_OF_ONE = 200

Job: TypeAlias = Callable[[], Awaitable[Message | None]]


class Sender(NamedTuple):
    """Who causes a mail: a client's network, and where it is known the account that is signed in there."""

    network: str
    account: str = ""


@dataclass(eq=False, slots=True)
class Mail:
    """A mail on its way: `job` writes it, once. `due` and `give_up_at` are times of the caller's clock."""

    sender: Sender
    job: Job
    give_up_at: float
    due: float = 0.0
    tries: int = 0
    number: int = 0  # the backlog's: how many came before
    message: Message | None = None


class Backlog:
    """What waits, by network, and in each by account: neither a crowd behind one address nor one of the crowd can take
    all of anything."""

    def __init__(self) -> None:
        self._waiting: dict[
            str, dict[str, list[Mail]]
        ] = {}  # in both, those served longest ago first
        self._count = 0
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        return self._count

    def add(self, mail: Mail) -> Mail | None:
        """Let a mail wait; the one that has to go for it, if any.

        It goes from this network where that has too many, and else, where all together have too many, from the network
        with most: there it is the newest of the account with most. So one that causes much mail loses its own before
        anybody else does. Where several have most, it is the one that asks for more.
        """
        network, account = mail.sender
        mail.number = mail.number or next(self._numbers)
        mails = self._waiting.setdefault(network, {}).setdefault(account, [])
        bisect.insort(
            mails, mail, key=lambda mail: mail.number
        )  # one that comes back is older than the last
        self._count += 1
        if self._size(network) > MAX_WAITING_OF_ONE:
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
        """Take a mail out; others than its sender are first next time."""
        network, account = mail.sender
        self._count -= 1
        accounts = self._waiting.pop(network)
        mails = accounts.pop(account)
        mails.remove(mail)
        if mails:
            accounts[account] = mails
        if accounts:
            self._waiting[network] = accounts

    def take(self, now: float, most: int) -> list[Mail]:
        """Up to so many mails that are due: one of each sender before a second of any, each one's oldest first."""
        due = (
            _in_turn([mail for mail in mails if mail.due <= now] for mails in accounts.values())
            for accounts in self._waiting.values()
        )
        taken = list(itertools.islice(_in_turn(due), most))
        for mail in taken:
            self._remove(mail)
        return taken

    def next_due(self) -> float | None:
        """When the first mail is due; None where none waits."""
        lists = itertools.chain.from_iterable(
            accounts.values() for accounts in self._waiting.values()
        )
        return min((mail.due for mails in lists for mail in mails), default=None)


def _in_turn(lists: Iterable[Iterable[Mail]]) -> Iterator[Mail]:
    """The first of each, then the second of each, and so on."""
    for turn in itertools.zip_longest(*lists):
        yield from (mail for mail in turn if mail is not None)
