"""Throttling of guesses: by account, by device and by address.

An account has one counter, whichever of its names is typed; a name of nobody has one too, so that a 429 tells nobody
which names exist. A guess is charged to it before the password is checked, and paid back if it was right: nothing else
is forgotten, for a counter that sank when its holder signs in would tell that there is one.

An address is charged when something has failed. What it has in flight is bounded apart
(`devnest.api.security.in_flight`).

Nobody is privileged for the network that a request comes from. A device is: a sign-in that presents
a device token of the account (`devnest.api.security.devices`) has a counter of its own, and no
stranger's failures hold there, neither those at the account nor those at the address. So has who is
signed in and gives the password once more.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import Self
from uuid import UUID

from devnest.api.http.request import ApiRequest
from devnest.api.security.audit import audit
from devnest.api.security.in_flight import MAX_IN_FLIGHT
from devnest.pool import PoolError
from devnest.store import (
    Charge,
    Event,
    Rule,
    Subject,
    Throttled,
    charge,
    check,
    count,
    folded,
    refund,
)

__all__ = [
    "Attempt",
    "address",
    "check_address",
    "count_failure",
    "guess_at_name",
    "guess_signed_in",
    "registration",
    "replay",
    "typed",
]

# Ten tries are enough for somebody who remembers, and ten an hour for nobody who guesses. Half a minute at most, for
# whoever fails on purpose lets the holder wait as well, where no device is known.
ACCOUNT = Rule(
    "account", free=10, period=timedelta(minutes=6), max_wait=timedelta(seconds=30), max_level=16
)
DEVICE = replace(ACCOUNT, name="device")
SIGNED_IN = replace(ACCOUNT, name="signed in")
# A household, an office. The level goes up to what may be under way, so that a burst is not forgotten before its time.
ADDRESS = Rule(
    "address",
    free=30,
    period=timedelta(minutes=2),
    max_wait=timedelta(minutes=15),
    max_level=MAX_IN_FLIGHT,
)
SESSION = Rule(
    "ended session",
    free=10,
    period=timedelta(minutes=6),
    max_wait=timedelta(minutes=15),
    max_level=21,
)


class Attempt:
    """A try that costs a hash; an asynchronous context manager, which raises `Throttled` where it has to wait.

    With `own` it is a guess at a password. One that is left without `succeeded` was wrong, if a password was checked.

    Args:
        request: Whose attempt it is.
        event: What for, in the audit log.
        own: Whose counter is charged.
        account_id: Whose account it is about, for the audit log.
        called: What `own` was called in the request.
        trusted: The failures of the address do not hold here.
    """

    def __init__(
        self,
        request: ApiRequest,
        event: Event,
        own: Subject | None = None,
        *,
        account_id: UUID | None = None,
        called: Subject | None = None,
        trusted: bool = False,
    ) -> None:
        self._request = request
        self._event = event
        self._own = own
        self._account_id = account_id
        self._called = called
        self._trusted = trusted
        self._charge: Charge | None = None
        self._checked = self._succeeded = False

    async def verify(self, password: str, stored: str | None) -> bool:
        """Whether the password is the stored one."""
        request = self._request
        matches = await request.cancel_on_disconnect(
            request.services.hasher.verify(password, stored, client=request.network)
        )
        self._checked = True
        return matches

    async def hash(self, password: str) -> str:
        """The hash of a new password."""
        request = self._request
        return await request.cancel_on_disconnect(
            request.services.hasher.hash(password, client=request.network)
        )

    def succeeded(self) -> None:
        """It was no failure."""
        self._succeeded = True

    async def __aenter__(self) -> Self:
        services, network = self._request.services, self._request.network
        if services.limited:
            source = None if self._trusted else address(network)
            async with _throttling(
                self._request, self._event, self._account_id, source, self._own, self._called
            ):
                room = services.in_flight.enter(network)
                try:
                    await self._begin(source, room)
                except BaseException:
                    services.in_flight.leave(network)
                    raise
        return self

    async def _begin(self, source: Subject | None, room: int | None) -> None:
        services = self._request.services
        if self._own is not None:
            told = services.throttle_cache.hammers(self._own)
            self._charge = await charge(
                services.database, self._own, also_check=source, max_failures=room, told=told
            )
        elif source is not None:
            await check(services.database, source, max_failures=room)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        services, network = self._request.services, self._request.network
        if not services.limited:
            return
        try:
            # Where the hashers were too busy, nothing was guessed.
            if self._succeeded or isinstance(error, (PoolError, MemoryError)):
                await self._refund()
            elif self._checked:
                await count(services.database, address(network))
        finally:
            services.in_flight.leave(
                network
            )  # after it was counted, so that it counts at every moment

    async def _refund(self) -> None:
        if self._charge is not None:
            await refund(self._request.services.database, self._charge)
            self._request.services.throttle_cache.forget(self._own, self._called)


def guess_at_name(
    request: ApiRequest, event: Event, name: str, account_id: UUID | None, device: int | None = None
) -> Attempt:
    """A sign-in, with the account and the device that were found."""
    if account_id is not None and device is not None:
        return Attempt(
            request,
            event,
            Subject(DEVICE, f"{account_id} {device}"),
            account_id=account_id,
            trusted=True,
        )
    called = typed(name)
    own = called if account_id is None else _account(account_id)
    return Attempt(request, event, own, account_id=account_id, called=called)


def guess_signed_in(request: ApiRequest, event: Event) -> Attempt:
    """The password once more, from who is signed in."""
    account_id = request.principal.account_id
    return Attempt(
        request, event, Subject(SIGNED_IN, str(account_id)), account_id=account_id, trusted=True
    )


def replay(request: ApiRequest, event: Event, account_id: UUID) -> Attempt:
    """The password once more, from who registers again under the same key."""
    return Attempt(request, event, _account(account_id), account_id=account_id)


def registration(request: ApiRequest, event: Event) -> Attempt:
    """A new account's first hash: no guess, but refused where the address waits, for free names as for taken ones."""
    return Attempt(request, event)


async def check_address(request: ApiRequest, event: Event, account_id: UUID | None = None) -> None:
    """Raise `Throttled` where the client's address has to wait.

    Asking for names until one is taken is a way to list accounts; so what tells whether a name is taken comes after
    this, for free names too, and is counted by `count_failure` where the name is taken.
    """
    if request.services.limited:
        source = address(request.network)
        async with _throttling(request, event, account_id, source):
            await check(request.services.database, source)


async def count_failure(
    request: ApiRequest,
    event: Event,
    *,
    account_id: UUID | None = None,
    session_id: UUID | None = None,
) -> None:
    """Count a failure that cost no hash; raises `Throttled` in place of the answer.

    It counts for the client's address, or for a session, where it shows that the client had a part in that once.
    """
    if request.services.limited:
        subject = (
            address(request.network) if session_id is None else Subject(SESSION, str(session_id))
        )
        async with _throttling(request, event, account_id, subject):
            await charge(request.services.database, subject)


@asynccontextmanager
async def _throttling(
    request: ApiRequest,
    event: Event,
    account_id: UUID | None,
    source: Subject | None,
    own: Subject | None = None,
    called: Subject | None = None,
) -> AsyncIterator[None]:
    """Refuse at once whoever is known to wait, and remember and write down what the database says of others."""
    request.services.throttle_cache.refuse(source, own)
    try:
        yield
    except Throttled as throttled:
        request.services.throttle_cache.remember(throttled, own, called)
        if throttled.first:  # the first of a wait only, or hammering would fill the log
            await audit(request, event, "throttled", account_id=account_id)
        raise


def address(network: str) -> Subject:
    """Whose failures count whatever name they are for."""
    return Subject(ADDRESS, network)


def _account(account_id: UUID) -> Subject:
    return Subject(ACCOUNT, f"id {account_id}")


def typed(name: str) -> Subject:
    """The counter of a name of nobody, and what a known one is remembered by."""
    return Subject(ACCOUNT, f"name {folded(name)}")
