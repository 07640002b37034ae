"""Throttling of guesses: by address, and by account for addresses that the account is not at home at.

A stranger who fails on purpose slows strangers down: the account's counter does not hold for an address the account
signed in from in the last weeks. From an unknown address a wait is half a minute at most, but who keeps trying from
many addresses may be first when it ends, each time: then the owner gets in where the account is at home only, or when
the stranger stops. Counters go by the name that was typed, whether an account has it or not, so that a 429 tells nobody
which names exist.
"""

from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

from devnest.api.audit import audit
from devnest.api.requests import ApiRequest
from devnest.pool import PoolError
from devnest.store import (
    Event,
    Rule,
    Subject,
    Throttled,
    charge,
    folded,
    pay_back,
)

__all__ = ["Attempt", "address", "begin_attempt", "begin_naming", "count_failure"]

ADDRESS = Rule("address", free=30, longest=timedelta(minutes=15))  # a household, an office
ACCOUNT = Rule("account", free=10, longest=timedelta(seconds=30))


T = TypeVar("T")


@dataclass(frozen=True)
class Attempt:
    """A try that is counted as a failure until `succeeded` is called; `own` is the counter that success forgets."""

    request: ApiRequest
    charged: tuple[Subject, ...]
    own: Subject | None = None

    async def verify(self, password: str, stored: str | None) -> bool:
        """Whether the password is the stored one."""
        return await self._hashing(self.request.services.hasher.verify(password, stored, client=self.request.network))

    async def hash(self, password: str) -> str:
        """The hash of a new password, which takes the place of the one that was guessed."""
        return await self._hashing(self.request.services.hasher.hash(password, client=self.request.network))

    async def _hashing(self, work: Coroutine[Any, Any, T]) -> T:
        """Where the hashers are too busy, nothing was guessed."""
        try:
            return await self.request.unless_gone(work)
        except (PoolError, MemoryError):
            await self._pay_back()
            raise

    async def succeeded(self) -> None:
        """Take the charge back, and forget the failures of `own`."""
        await self._pay_back(self.own)

    async def _pay_back(self, forget: Subject | None = None) -> None:
        if self.charged:
            await pay_back(self.request.services.database, *self.charged, forget=forget)
            self.request.services.waits.forget(self.charged)


async def begin_attempt(
    request: ApiRequest, event: Event, name: str, account_id: UUID | None, *, at_home: bool
) -> Attempt:
    """Count a guess at an account's password before it is checked; raises `Throttled`.

    `at_home`: the account has signed in from the client's address. Then failures from elsewhere do not hold here, and
    it has a counter for this network alone: the same number of tries, so that their end does not tell who is at home.
    """
    value = folded(name)
    own = Subject(ACCOUNT, f"{value}\0{request.network}" if at_home else value)
    return await _begin(request, event, account_id, own)


async def begin_naming(request: ApiRequest, event: Event, account_id: UUID | None = None) -> Attempt:
    """Count a try at a name before it is known whether somebody has it; raises `Throttled`, for free names too.

    Asking for names until one is taken is a way to list accounts. One that is free is no failure.
    """
    return await _begin(request, event, account_id)


async def _begin(request: ApiRequest, event: Event, account_id: UUID | None, own: Subject | None = None) -> Attempt:
    if not request.services.limited:
        return Attempt(request, (), own)
    charged = (address(request.network),) if own is None else (address(request.network), own)
    await _charge(request, event, account_id, *charged)
    return Attempt(request, charged, own)


async def count_failure(request: ApiRequest, event: Event) -> None:
    """Count a failure that needed no work to find; raises `Throttled` in place of the answer."""
    if request.services.limited:
        await _charge(request, event, None, address(request.network))


async def _charge(request: ApiRequest, event: Event, account_id: UUID | None, *subjects: Subject) -> None:
    request.services.waits.refuse(*subjects)
    try:
        await charge(request.services.database, *subjects)
    except Throttled as throttled:
        request.services.waits.remember(throttled)
        if throttled.first:  # the first of a wait only, or hammering would fill the log
            await audit(request, event, "throttled", account_id=account_id)
        raise


def address(network: str) -> Subject:
    """Whose failures count whatever name they are for."""
    return Subject(ADDRESS, network)
