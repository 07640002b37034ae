"""Throttling of guesses: by account, by device and by address.

An account has one counter, whether the client names it by username or by e-mail address. A name
without an account has a counter too, so a 429 does not reveal which names exist. A guess is charged
to the counter before the password is checked, and taken back if the password was right. Nothing
else lowers the counter except time: if a sign-in of the holder lowered it, that would reveal that
the account exists.

The counter of an address is charged after a failure. The number of its attempts in progress has a
separate bound (`devnest.api.security.in_flight`).

A client gets no privilege for the network that it comes from. A known device gets one: a sign-in
with a device token of the account (`devnest.api.security.devices`) has a counter of its own.
Failures of others do not delay it, whether they count for the account or for the address. The same
holds for a client that is signed in and enters its password again.
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
from devnest.passwords import Verdict
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
    "address_subject",
    "check_address",
    "confirmation_attempt",
    "count_failure",
    "login_attempt",
    "name_subject",
    "registration_attempt",
    "retry_attempt",
]

# Ten failures are enough for a holder who mistypes the password, and the ten more in each hour
# gain a guesser little. A wait is 30 s at most, because anyone who fails on purpose also delays the
# account's holder, unless the holder's device is known.
ACCOUNT = Rule(
    "account", free=10, period=timedelta(minutes=6), max_wait=timedelta(seconds=30), max_level=16
)
DEVICE = replace(ACCOUNT, name="device")
SIGNED_IN = replace(ACCOUNT, name="signed in")
# An address may be that of a household or an office. Its level can rise to `MAX_IN_FLIGHT`, so
# every failure of a burst counts.
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
    """An attempt that costs a hash, as an asynchronous context manager.

    Entering it raises `Throttled` if the client has to wait, and otherwise charges `subject`. A
    call of `succeeded` takes the charge back, and so does an error because the pool or the memory
    is full. After every other end the charge stays, so disconnecting does not save a guesser from
    it. If a password was checked without success, the address is charged too.

    Args:
        request: The request that makes the attempt.
        event: What is attempted, for the audit log.
        subject: The counter to charge, if the attempt is a guess at a password.
        account_id: The account it concerns, for the audit log.
        alias: The counter of the name by which the request calls that account.
        trusted: Whether failures of the address are ignored.
    """

    def __init__(
        self,
        request: ApiRequest,
        event: Event,
        subject: Subject | None = None,
        *,
        account_id: UUID | None = None,
        alias: Subject | None = None,
        trusted: bool = False,
    ) -> None:
        self._request = request
        self._event = event
        self._subject = subject
        self._account_id = account_id
        self._alias = alias
        self._trusted = trusted
        self._charge: Charge | None = None
        self._checked = self._succeeded = False
        self.outdated = False  # whether the last hash that matched should be replaced

    async def verify(self, password: str, stored: str | None) -> bool:
        """Whether the password matches a hash.

        Args:
            password: The password to check.
            stored: The stored hash; None if there is no account, which takes the same time.

        Raises:
            PoolError: The password could not be checked.
            ClientGone: The client has disconnected. The check is cancelled if it was waiting.
        """
        request = self._request
        verdict = await request.cancel_on_disconnect(
            request.services.hasher.check(password, stored, client=request.network)
        )
        self._checked = True
        self.outdated = verdict is Verdict.OUTDATED
        return bool(verdict)

    async def hash(self, password: str) -> str:
        """Hash a new password.

        Args:
            password: The password.

        Raises:
            PoolError: The password could not be hashed.
            ClientGone: The client has disconnected. The hash is cancelled if it was waiting.
        """
        request = self._request
        return await request.cancel_on_disconnect(
            request.services.hasher.hash(password, client=request.network)
        )

    def succeeded(self) -> None:
        """Say that the attempt was not a failure. Without this call, it counts as one."""
        self._succeeded = True

    async def __aenter__(self) -> Self:
        services, network = self._request.services, self._request.network
        if services.limited:
            source = None if self._trusted else address_subject(network)
            async with _throttling(
                self._request, self._event, self._account_id, source, self._subject, self._alias
            ):
                max_failures = services.in_flight.enter(network)
                try:
                    await self._begin(source, max_failures)
                except BaseException:
                    services.in_flight.leave(network)
                    raise
        return self

    async def _begin(self, source: Subject | None, max_failures: int | None) -> None:
        services = self._request.services
        if self._subject is not None:
            told = services.throttle_cache.was_refused_repeatedly(self._subject)
            self._charge = await charge(
                services.database,
                self._subject,
                also_check=source,
                max_failures=max_failures,
                told=told,
            )
        elif source is not None:
            await check(services.database, source, max_failures=max_failures)

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
            # If the pool was full, no password was checked.
            if self._succeeded or isinstance(error, (PoolError, MemoryError)):
                await self._refund()
            elif self._checked:
                await count(services.database, address_subject(network))
        finally:
            # Only after the failure is counted, so that the attempt counts at every moment.
            services.in_flight.leave(network)

    async def _refund(self) -> None:
        if self._charge is not None:
            await refund(self._request.services.database, self._charge)
            self._request.services.throttle_cache.forget(self._subject, self._alias)


def login_attempt(
    request: ApiRequest, event: Event, name: str, account_id: UUID | None, device: int | None = None
) -> Attempt:
    """Make the attempt of a sign-in.

    Args:
        request: The sign-in.
        event: What is attempted, for the audit log.
        name: The username or e-mail address that the client gave.
        account_id: The account with that name, if there is one.
        device: The device number in the client's token, if the token is valid for the account.
    """
    if account_id is not None and device is not None:
        return Attempt(
            request,
            event,
            Subject(DEVICE, f"{account_id} {device}"),
            account_id=account_id,
            trusted=True,
        )
    alias = name_subject(name)
    subject = alias if account_id is None else _account_subject(account_id)
    return Attempt(request, event, subject, account_id=account_id, alias=alias)


def confirmation_attempt(request: ApiRequest, event: Event) -> Attempt:
    """Make the attempt of a client that is signed in and enters its password again.

    Args:
        request: An authenticated request.
        event: What the password is needed for, for the audit log.
    """
    account_id = request.principal.account_id
    return Attempt(
        request, event, Subject(SIGNED_IN, str(account_id)), account_id=account_id, trusted=True
    )


def retry_attempt(request: ApiRequest, event: Event, account_id: UUID) -> Attempt:
    """Make the attempt of a client that repeats a registration with the same idempotency key.

    Args:
        request: The repeated registration.
        event: What is attempted, for the audit log.
        account_id: The account that the first registration made.
    """
    return Attempt(request, event, _account_subject(account_id), account_id=account_id)


def registration_attempt(request: ApiRequest, event: Event) -> Attempt:
    """Make the attempt of a registration.

    It is not a guess at a password. It is refused while the address has to wait, whether the name
    is taken or not.

    Args:
        request: The registration.
        event: What is attempted, for the audit log.
    """
    return Attempt(request, event)


async def check_address(request: ApiRequest, event: Event, account_id: UUID | None = None) -> None:
    """Refuse the request if the client's address has to wait.

    A client could list accounts by trying names until one is taken. So a route that reveals whether
    a name is taken calls this first, for every name, and calls `count_failure` if it is taken.

    Args:
        request: The request.
        event: What is attempted, for the audit log.
        account_id: The account it concerns, for the audit log.

    Raises:
        Throttled: The address has to wait.
    """
    if request.services.limited:
        source = address_subject(request.network)
        async with _throttling(request, event, account_id, source):
            await check(request.services.database, source)


async def count_failure(
    request: ApiRequest,
    event: Event,
    *,
    account_id: UUID | None = None,
    session_id: UUID | None = None,
) -> None:
    """Count a failure that cost no hash.

    Args:
        request: The request that failed.
        event: What was attempted, for the audit log.
        account_id: The account it concerns, for the audit log.
        session_id: A session whose token the client once had. If it is given, the failure is
            charged to the session, and otherwise to the client's address.

    Raises:
        Throttled: The session or the address has to wait, so this is the response instead.
    """
    if request.services.limited:
        subject = (
            address_subject(request.network)
            if session_id is None
            else Subject(SESSION, str(session_id))
        )
        async with _throttling(request, event, account_id, subject):
            await charge(request.services.database, subject)


@asynccontextmanager
async def _throttling(
    request: ApiRequest,
    event: Event,
    account_id: UUID | None,
    source: Subject | None,
    subject: Subject | None = None,
    alias: Subject | None = None,
) -> AsyncIterator[None]:
    """Refuse from the cache if possible, and otherwise cache and log a refusal by the database."""
    request.services.throttle_cache.refuse(source, subject)
    try:
        yield
    except Throttled as throttled:
        request.services.throttle_cache.remember(throttled, subject, alias)
        if throttled.first:  # once in each wait, or repeated attempts would fill the audit log
            await audit(request, event, "throttled", account_id=account_id)
        raise


def address_subject(network: str) -> Subject:
    """The counter of a client's address.

    Args:
        network: The address, or its /64 for IPv6.
    """
    return Subject(ADDRESS, network)


def _account_subject(account_id: UUID) -> Subject:
    return Subject(ACCOUNT, f"id {account_id}")


def name_subject(name: str) -> Subject:
    """The counter of a name without an account; the cache also uses it for names with one.

    Args:
        name: A username or an e-mail address, in any case.
    """
    return Subject(ACCOUNT, f"name {folded(name)}")
