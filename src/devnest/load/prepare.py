"""What a profile needs from the target before the measurement: accounts, and the capacity."""

import asyncio
from time import perf_counter

from devnest.load.errors import PrepareFailed
from devnest.load.user import Account, Session, VirtualUser

__all__ = ["make_accounts", "measure_sign_ins"]

_MAX_CLIENTS = 32  # requests at once, so that the workers of the target's pool are always busy
_BUSY_STATUSES = (429, 503)  # the target is busy, and the request is tried again
# Tries for one account: a busy target gets a minute, other failures are rarely cured by waiting.
_MAX_REFUSALS, _REFUSAL_PAUSE_S = 60, 1.0
_MAX_FAILURES, _FAILURE_PAUSE_S = 3, 0.2
_RETRY_PAUSE_S = 0.05  # after a sign-in refused while the capacity is measured


async def make_accounts(session: Session, count: int) -> tuple[list[Account], float]:
    """Register `count` accounts through the API.

    Returns:
        The accounts, and the seconds it took.

    Raises:
        PrepareFailed: An account could not be made.
    """
    begin = perf_counter()
    made: list[Account] = []
    left = count

    async def register() -> None:
        nonlocal left
        vu = VirtualUser(session)
        try:
            while left:
                left -= 1
                made.append(await _registered(vu))
        finally:
            vu.close()

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(_MAX_CLIENTS, count)):
                tasks.create_task(register())
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    return made, perf_counter() - begin


async def _registered(vu: VirtualUser) -> Account:
    """Return a new account, after a bounded number of tries."""
    refusals = failures = 0
    while refusals < _MAX_REFUSALS and failures < _MAX_FAILURES:
        account = await vu.register()
        if account is not None:
            return account
        if vu.status in _BUSY_STATUSES:
            refusals += 1
            await asyncio.sleep(_REFUSAL_PAUSE_S)
        else:
            failures += 1
            await asyncio.sleep(_FAILURE_PAUSE_S)
    reasons = sorted({f"{name}: {reason}" for name, reason, _ in vu.session.tally.take().errors})
    raise PrepareFailed(
        f"cannot make the accounts of this run ({'; '.join(reasons) or 'wrong answers'})"
    )


async def measure_sign_ins(session: Session, accounts: list[Account], seconds: float) -> float:
    """Measure the capacity of the target with more clients than its pool has workers.

    Args:
        session: Whose target it is.
        accounts: Whom the clients sign in as, in turn.
        seconds: How long to measure.

    Returns:
        The successful sign-ins per second.

    Raises:
        PrepareFailed: No sign-in succeeded.
    """
    begin = perf_counter()
    signed_in = 0

    async def sign_in(number: int) -> None:
        nonlocal signed_in
        vu = VirtualUser(session, number)
        vu.account = accounts[number % len(accounts)]
        try:
            while perf_counter() - begin < seconds:
                if await vu.login(expect=(200, *_BUSY_STATUSES)):
                    signed_in += 1
                else:
                    await asyncio.sleep(_RETRY_PAUSE_S)
        finally:
            vu.close()

    async with asyncio.TaskGroup() as tasks:
        for number in range(_MAX_CLIENTS):
            tasks.create_task(sign_in(number))
    if not signed_in:
        raise PrepareFailed(
            "cannot measure the target's capacity: no sign-in succeeded; give it: --set capacity=N"
        )
    return signed_in / (perf_counter() - begin)
