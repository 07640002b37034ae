"""What a profile needs at the target before its clock starts."""

import asyncio
from time import perf_counter

from devnest.load.errors import PrepareFailed
from devnest.load.user import Account, Session, VirtualUser

__all__ = ["make_accounts", "measure_sign_ins"]

_AT_ONCE = 32
_REFUSED = (429, 503)  # it is busy: wait, but not for ever
_REFUSALS, _REFUSAL_PAUSE_S = 60, 1.0
_FAILURES, _FAILURE_PAUSE_S = 3, 0.2
_PAUSE_S = 0.05  # after a refusal while measuring


async def make_accounts(session: Session, count: int) -> tuple[list[Account], float]:
    """Register `count` accounts through the API; gives them and the seconds it took."""
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
            for _ in range(min(_AT_ONCE, count)):
                tasks.create_task(register())
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    return made, perf_counter() - begin


async def _registered(vu: VirtualUser) -> Account:
    """One account, however busy the target is, within a bounded number of tries."""
    refusals = failures = 0
    while refusals < _REFUSALS and failures < _FAILURES:
        account = await vu.register()
        if account is not None:
            return account
        if vu.status in _REFUSED:
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
    """Sign-ins a second with as many clients as fill any pool: what the target can do and no more."""
    begin = perf_counter()
    signed_in = 0

    async def sign_in(number: int) -> None:
        nonlocal signed_in
        vu = VirtualUser(session, number)
        vu.account = accounts[number % len(accounts)]
        try:
            while perf_counter() - begin < seconds:
                if await vu.login(expect=(200, *_REFUSED)):
                    signed_in += 1
                else:
                    await asyncio.sleep(_PAUSE_S)
        finally:
            vu.close()

    async with asyncio.TaskGroup() as tasks:
        for number in range(_AT_ONCE):
            tasks.create_task(sign_in(number))
    if not signed_in:
        raise PrepareFailed(
            "cannot measure the target's capacity: no sign-in succeeded; give it: --set capacity=N"
        )
    return signed_in / (perf_counter() - begin)
