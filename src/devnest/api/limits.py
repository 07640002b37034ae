"""Throttling of guesses: by address, and by account for addresses that the account is not at home at.

A stranger who fails on purpose slows strangers down: the account's counter does not hold for an address the account
signed in from in the last weeks. From an unknown address the owner waits half a minute at most. Counters go by the
name that was typed, whether an account has it or not, so that a 429 tells nobody which names exist.
"""

from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv6Address, ip_address, ip_network
from uuid import UUID

from devnest.api.audit import audit
from devnest.api.requests import ApiRequest
from devnest.pool import PoolError
from devnest.store import (
    AlreadyTaken,
    Event,
    Rule,
    Subject,
    Throttled,
    charge,
    pay_back,
)

__all__ = ["Attempt", "begin_attempt", "count_failure", "mail_allowed", "network", "refuse_taken"]

ADDRESS = Rule("address", free=30, longest=timedelta(minutes=15))  # a household, an office
ACCOUNT = Rule("account", free=10, longest=timedelta(seconds=30))
MAILBOX = Rule("mailbox", free=3, longest=timedelta(hours=1))


@dataclass(frozen=True)
class Attempt:
    """A guess that is counted as a failure until `succeeded` is called."""

    request: ApiRequest
    account: Subject
    charged: tuple[Subject, ...]

    async def verify(self, password: str, stored: str | None) -> bool:
        """Whether the password is the stored one. Where the hashers are too busy to say, nothing was guessed."""
        services = self.request.services
        try:
            return await self.request.unless_gone(
                services.hasher.verify(password, stored, client=self.request.client_address)
            )
        except (PoolError, MemoryError):
            if self.charged:
                await pay_back(services.database, *self.charged)
            raise

    async def succeeded(self) -> None:
        """Take the charge back, and forget the account's failures."""
        if self.charged:
            await pay_back(self.request.services.database, *self.charged, self.account, forget=self.account)


async def begin_attempt(
    request: ApiRequest, event: Event, name: str, account_id: UUID | None, *, at_home: bool
) -> Attempt:
    """Count a guess at an account's password before it is checked; raises `Throttled`.

    `at_home`: the account has signed in from the client's address, so its own counter does not hold here.
    """
    account = Subject(ACCOUNT, name.lower())
    charged: tuple[Subject, ...] = ()
    if request.services.limited:
        charged = (_address(request),) if at_home else (_address(request), account)
        await _charge(request, event, account_id, *charged)
    return Attempt(request, account, charged)


async def count_failure(request: ApiRequest, event: Event) -> None:
    """Count a failure that needed no work to find; raises `Throttled` in place of the answer."""
    if request.services.limited:
        await _charge(request, event, None, _address(request))


async def refuse_taken(request: ApiRequest, event: Event, field: str, account_id: UUID | None = None) -> AlreadyTaken:
    """The refusal of a taken name, counted: asking for names until one is taken is a way to list accounts."""
    await count_failure(request, event)
    await audit(request, event, f"{field} taken", account_id=account_id)
    return AlreadyTaken(field)


async def mail_allowed(request: ApiRequest, event: Event, email: str) -> bool:
    """Count a mail to an address that anyone may name; False where that mailbox got enough, which nobody is told.

    Raises `Throttled` where the client's address asked too often.
    """
    if not request.services.limited:
        return True
    await count_failure(request, event)
    try:
        await charge(request.services.database, Subject(MAILBOX, email.lower()))
    except Throttled:
        return False
    return True


async def _charge(request: ApiRequest, event: Event, account_id: UUID | None, *subjects: Subject) -> None:
    try:
        await charge(request.services.database, *subjects)
    except Throttled as throttled:
        if throttled.first:  # the first of a wait only, or hammering would fill the log
            await audit(request, event, "throttled", account_id=account_id)
        raise


def _address(request: ApiRequest) -> Subject:
    return Subject(ADDRESS, network(request.client_address))


def network(client_address: str) -> str:
    """One subscriber's network: an IPv6 customer has a /64 at least."""
    try:
        address = ip_address(client_address)
    except ValueError:
        return client_address or "none"
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ip_network((int(address), 64), strict=False))
    return client_address
