"""What a pool's workers do with passwords.

bcrypt hashes are faster when computed together, so new passwords and guesses are calls of one
batched operation. Hashes that replace a stored hash have an operation of their own: they may cost
many times as much, and a sign-in in the same batch would wait for them. For the same reason, a
guess runs alone if its stored hash costs more than twice the usual. The other schemes gain nothing
from batches, and a sign-in in a batch of five would wait five times as long, so their hashes run
one by one.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from devnest import bcrypt
from devnest.bcrypt import LANES
from devnest.passwords.errors import UnusableHash
from devnest.passwords.scheme import Guess, NewPassword, Verdict, compute, compute_all
from devnest.passwords.stored import MAX_BCRYPT_BYTES, MAX_COST, MIN_COST, SALT
from devnest.pool import batched, pure

__all__ = [
    "OPERATIONS",
    "compute_alone",
    "compute_batch",
    "hashpw_batch",
    "operation_of",
    "rehash_batch",
]

SETTING = re.compile(rf"\$2[aby]\$(\d\d)\${SALT}".encode("ascii"), re.ASCII)
Calls = Sequence[tuple[NewPassword | Guess]]


@batched(max_size=LANES, pure=True)
def compute_batch(calls: Calls) -> Sequence[str | Verdict | Exception]:
    """Hash new passwords and check guesses; bcrypt hashes are interleaved on one core."""
    return compute_all([call for (call,) in calls])


@batched(max_size=LANES, pure=True)
def rehash_batch(calls: Calls) -> Sequence[str | Verdict | Exception]:
    """Hash passwords like `compute_batch`, for hashes that replace others."""
    return compute_all([call for (call,) in calls])


@pure
def compute_alone(call: NewPassword | Guess) -> str | Verdict:
    """Hash one new password, or check one guess."""
    return compute(call)


@batched(max_size=LANES, pure=True)
def hashpw_batch(calls: Sequence[tuple[bytes, bytes]]) -> Sequence[bytes | Exception]:
    """Return bcrypt hashes of bytes with given settings, for adapters with forms of their own."""
    results: list[bytes | Exception] = []
    good: list[tuple[bytes, bytes]] = []
    for password, setting in calls:
        error = _fault(password, setting)
        results.append(error or b"")
        if error is None:
            good.append((password, setting))
    hashes = iter(bcrypt.hashpw_many([call[0] for call in good], [call[1] for call in good]))
    return [result or next(hashes) for result in results]


def _fault(password: bytes, setting: bytes) -> Exception | None:
    """Return why bcrypt would refuse a call, or why its cost is out of bounds."""
    if not isinstance(password, bytes) or not isinstance(setting, bytes):
        return TypeError("a password and a bcrypt setting must be bytes")
    cost = SETTING.match(setting)
    if cost is None or not MIN_COST <= int(cost[1]) <= MAX_COST:
        return UnusableHash(
            f"a bcrypt setting is malformed, or its cost is not within {MIN_COST} and {MAX_COST}"
        )
    if len(password) > MAX_BCRYPT_BYTES:
        return ValueError(f"a password has more than {MAX_BCRYPT_BYTES} bytes")
    return None


OPERATIONS = (compute_batch, rehash_batch, compute_alone)


def operation_of(call: NewPassword | Guess, *, awaited: bool) -> Callable[..., Any]:
    """Return the operation for a call.

    Args:
        call: What to compute.
        awaited: Whether a sign-in or a registration waits for it, rather than a replacement.
    """
    if not call.is_interleaved or (isinstance(call, Guess) and call.is_slow):
        return compute_alone
    return compute_batch if awaited else rehash_batch
